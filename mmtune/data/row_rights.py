"""What a row may say of consent and licence. This module must not import torch."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import date
from functools import lru_cache
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, model_validator

# https://creativecommons.org/licenses/by-nc/4.0/deed.de, https://creativecommons.org/publicdomain/zero/1.0/
_CC_ADDRESS = re.compile(r"creativecommons\.org/licenses/([a-z-]+)/(\d\.\d)", re.I)
_CC_ZERO = re.compile(r"creativecommons\.org/publicdomain/zero/1\.0", re.I)
_CC_WORDS = re.compile(r"cc[ _-]+(by(?:[ _-]+(?:nc|nd|sa)){0,2})[ _-]+(\d\.\d)", re.I)
_SPELLINGS = {"cc0": "CC0-1.0", "cc-0": "CC0-1.0", "cc zero": "CC0-1.0"}
# Licences whose text asks that the source is named (creativecommons.org/licenses, section 3(a);
# opendatacommons.org/licenses/by and /odbl, section 4). A policy may name others.
ATTRIBUTION = ("CC-BY-*", "ODC-By-*", "ODbL-*")
# Answers in a table's column "consent".
YES = ("yes", "y", "true", "1", "granted", "all")
NO = ("no", "n", "false", "0", "none", "withdrawn", "refused", "declined")
NO_PURPOSE = "nothing"  # the purpose of a consent that was refused: no policy should allow it


def _a_date(value: Any) -> Any:
    """Read a day; numbers are refused, which pydantic takes for seconds since 1970."""
    if isinstance(value, date):
        return value
    if not isinstance(value, str):
        raise ValueError("write a date, such as 2027-12-31")
    try:
        return date.fromisoformat(value.strip().partition("T")[0].partition(" ")[0])
    except ValueError:
        raise ValueError("write a date, such as 2027-12-31") from None


class Consent(BaseModel):
    """The consent of the person or party that a row belongs to.

    Attributes:
        purpose: what they agreed to, in the words of the policy; empty: to everything.
        until: the last day on which it holds; None: it has no end.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    purpose: tuple[Annotated[str, Field(min_length=1)], ...] = ()
    until: Annotated[date, BeforeValidator(_a_date)] | None = None

    @model_validator(mode="before")
    @classmethod
    def _spelled(cls, values: Any) -> Any:
        if isinstance(values, bool):
            return {} if values else {"purpose": (NO_PURPOSE,)}
        if isinstance(values, str):
            return read_consent(values)
        if isinstance(values, list | tuple):
            values = {"purpose": values}
        if not isinstance(values, dict):
            return values
        values = dict(values)
        if "purposes" in values and "purpose" not in values:
            values["purpose"] = values.pop("purposes")
        if isinstance(named := values.get("purpose"), str):
            values["purpose"] = _purposes(named)
        elif isinstance(named, list | tuple) and all(isinstance(each, str) for each in named):
            values["purpose"] = tuple(sorted({each.strip().casefold() for each in named}))
        elif named is None:
            values.pop("purpose", None)
        return values

    def has_ended(self, today: date) -> bool:
        """Whether its last day is over."""
        return self.until is not None and today > self.until


def read_consent(text: str) -> dict[str, Any]:
    """Read a consent as a cell of a table has it: "train, export until 2027-12-31", "yes", "no".

    Returns:
        The fields of `Consent`; a date that isn't one is an error there.
    """
    words, _, end = text.strip().partition("until ")
    answer = words.strip(" ,;").casefold()
    purposes = _purposes(words)
    if answer in YES:
        purposes = ()
    elif answer in NO:
        purposes = (NO_PURPOSE,)
    return {"purpose": purposes} | ({"until": end} if end.strip() else {})


def consent_in(cell: Any, until: Any = None) -> Any:
    """The value of a row's `consent` from the cells of a table.

    Args:
        cell: of the column of consents: text, or what JSON holds.
        until: of a column of last days, which holds where the first names none.

    Returns:
        What `Consent` reads; None if nothing is stated.
    """
    if isinstance(cell, str):
        cell = read_consent(cell) if cell.strip() else None
    elif isinstance(cell, bool | list | tuple):
        cell = {"purpose": () if cell is True else (NO_PURPOSE,) if cell is False else cell}
    if until is None or (isinstance(until, str) and not until.strip()):
        return cell
    if cell is None:
        return {"until": until}
    return {"until": until, **cell} if isinstance(cell, dict) else cell


def _purposes(text: str) -> tuple[str, ...]:
    words = re.split(r"[,;|+]|\s+and\s+", text)
    return tuple(sorted({word.strip().casefold() for word in words if word.strip()}))


@lru_cache(maxsize=1024)  # many rows state few licences
def licence_id(text: str) -> str:
    """Name a licence by its SPDX identifier, where the text names one.

    Args:
        text: an identifier in any case, an SPDX expression such as `MIT OR CC-BY-4.0`, the address
            of a Creative Commons licence, or other words.

    Returns:
        The identifier or expression in SPDX's spelling; other words as they are.
    """
    from packaging.licenses import InvalidLicenseExpression, canonicalize_license_expression

    text = " ".join(text.split())
    if text.casefold() in _SPELLINGS:
        return _SPELLINGS[text.casefold()]
    if _CC_ZERO.search(text):
        return "CC0-1.0"
    if found := _CC_ADDRESS.search(text) or _CC_WORDS.fullmatch(text):
        text = f"CC-{re.sub('[ _]+', '-', found[1])}-{found[2]}"
    try:
        return str(canonicalize_license_expression(text))
    except InvalidLicenseExpression:
        return text


@lru_cache(maxsize=1024)
def is_known(licence: str) -> bool:
    """Whether SPDX has the licence, or it is a name of the user's own (`LicenseRef-NAME`)."""
    from packaging.licenses import InvalidLicenseExpression, canonicalize_license_expression

    try:
        canonicalize_license_expression(licence)
    except InvalidLicenseExpression:
        return False
    return True


# A licence as a row or a policy states it; it is kept in SPDX's spelling.
LicenceName = Annotated[str, Field(min_length=1), AfterValidator(licence_id)]


def choices_of(licence: str) -> Iterator[list[str]]:
    """The licences of an SPDX expression: one list for each choice of OR; all in it hold together.

    An expression with parentheses is one licence of that name.
    """
    if "(" in licence:
        yield [licence]
        return
    for choice in licence.split(" OR "):
        yield choice.split(" AND ")
