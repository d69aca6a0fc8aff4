"""The policy of a team: which rows may train, be measured, be shown and be exported.

mmtune knows no law. It compares what a row states (`consent`, `licence`) with what the policy asks,
on the day of the command.
"""

from __future__ import annotations

import fnmatch
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any, Literal

from pydantic import PrivateAttr, ValidationError, field_validator

from mmtune.config import Section, read_yaml
from mmtune.data.row_rights import (
    ATTRIBUTION,
    Consent,
    LicenceName,
    choices_of,
    is_known,
    licence_id,
)
from mmtune.data.rows import Finding, Row
from mmtune.errors import ConfigError, did_you_mean

POLICY_FILE = "policy.yaml"  # beside a manifest, and in a run's folder: the one that it kept
Use = Literal["train", "evaluate", "show", "export"]
# Why a row is refused: kinds of findings, and keys in records; in words for a summary.
IN_WORDS = {
    "consent-ended": "consent ended",
    "consent-missing": "no consent",
    "consent-purpose": "consent for other purposes",
    "licence-missing": "no licence",
    "licence-refused": "licence not allowed",
}
DOES = {"train": "train", "evaluate": "be measured", "show": "be shown", "export": "be exported"}


class Rule(Section):
    """What a row must state for one use.

    Attributes:
        consent: `required`, or `if-stated`: a row that states none is used.
        purposes: of these one must be in the row's consent; None: the use's own name.
        licences: SPDX identifiers with `*`, of which the row's licence must be one; None: any.
    """

    consent: Literal["required", "if-stated"] = "if-stated"
    purposes: tuple[str, ...] | None = None
    licences: tuple[str, ...] | None = None

    @field_validator("purposes", "licences", mode="before")
    @classmethod
    def _listed(cls, value: Any) -> Any:
        return (value,) if isinstance(value, str) else value


class Stated(Section):
    """What rows state that state nothing themselves."""

    consent: Consent | None = None
    licence: LicenceName | None = None
    source: str | None = None


class Policy(Section):
    """A policy. Without a file, consents that have ended or are for other purposes are refused.

    Attributes:
        train: what may be learned from, chosen by and tested on in a run.
        evaluate: what an adapter may be measured on later; None: as `train`.
        show: what report and review pages may show.
        export: what the rows of an adapter must allow before it is exported or pushed.
        rows: what rows state that state nothing themselves.
        attribution: licences whose sources NOTICE.txt names.
        ended: what using an adapter does after a consent behind it has ended.
    """

    train: Rule = Rule()
    evaluate: Rule | None = None
    show: Rule = Rule()
    export: Rule = Rule()
    rows: Stated = Stated()
    attribution: tuple[str, ...] = ATTRIBUTION
    ended: Literal["warn", "refuse"] = "warn"
    _place: str = PrivateAttr("")

    @property
    def place(self) -> str:
        """The file that it was read from; "" if there is none."""
        return self._place

    def rule(self, use: Use) -> tuple[Rule, tuple[str, ...]]:
        """The rule of a use, and the purposes of which a consent must name one."""
        rule = self.train if use == "evaluate" and self.evaluate is None else getattr(self, use)
        assert isinstance(rule, Rule)
        names = ("train", "evaluate") if use == "evaluate" else (use,)
        own = names if rule.purposes is None else rule.purposes
        return rule, tuple(each.strip().casefold() for each in own)

    def completed(self, row: Row) -> Row:
        """The row with what `rows` states for those that state nothing themselves."""
        missing = {k: v for k, v in self.rows if v is not None and getattr(row, k) is None}
        return row.model_copy(update=missing) if missing else row

    def refusal(
        self, use: Use, consent: Consent | None, licence: str | None, today: date
    ) -> tuple[str, str, str] | None:
        """Why a row may not be used; None if it may.

        Returns:
            The reason, what was found in words, and the cure.
        """
        rule, purposes = self.rule(use)
        if consent is not None and consent.has_ended(today):
            found = f"its consent ended on {consent.until}"
            cure = "ask again, and write the new day into consent.until; or remove the row"
            return "consent-ended", found, cure
        if consent is None and rule.consent == "required":
            cure = (
                f'ask for it, and write it into the row: "consent": {{"purpose": "{purposes[0]}"}}'
            )
            return "consent-missing", "it states no consent", cure
        if consent is not None and consent.purpose and not set(purposes) & set(consent.purpose):
            found = f"its consent is for {_listed(consent.purpose)}, not for {_listed(purposes)}"
            return "consent-purpose", found, f"ask for the purpose {purposes[0]}; or remove the row"
        if rule.licences is None:
            return None
        allowed = _listed(rule.licences) or "none"
        if licence is None:
            found = f"it states no licence; allowed: {allowed}"
            return "licence-missing", found, 'write it into the row: "licence": "SPDX-ID"'
        if not is_among(licence, rule.licences):
            found = f"its licence is {licence}; allowed: {allowed}"
            return (
                "licence-refused",
                found,
                f"remove the row; or add the licence to {use}.licences in the policy",
            )
        return None


@dataclass(frozen=True)
class Judged:
    """Rows that a policy admits, and findings on the others.

    Attributes:
        rows: those that may be used.
        findings: one for each other row, and for licences that nobody knows.
        refused: how many rows were refused, by reason.
        ids: of the refused rows.
    """

    rows: list[Row]
    findings: list[Finding]
    refused: dict[str, int]
    ids: tuple[str, ...] = ()


def judge_rows(rows: Iterable[Row], policy: Policy, use: Use, today: date | None = None) -> Judged:
    """Divide rows by what they state, and complete the others by what the policy states for all.

    Args:
        today: the day on which consents must hold; None: this day.
    """
    day = today or current_day()
    kept: list[Row] = []
    findings: list[Finding] = []
    counts: Counter[str] = Counter()
    ids: list[str] = []
    unknown: dict[str, str] = {}
    by = f" ({policy.place})" if policy.place else ""
    for each in rows:
        row = policy.completed(each)
        refused = policy.refusal(use, row.consent, row.licence, day)
        if row.licence is not None and not is_known(row.licence):
            unknown.setdefault(row.licence, row.id)
        if refused is None:
            kept.append(row)
            continue
        reason, found, cure = refused
        counts[reason] += 1
        ids.append(row.id)
        said = f"row {row.id!r} may not {DOES[use]}: {found}{by}"
        findings.append(Finding(reason, row.id, said, cure, "warning"))
    for name, first in unknown.items():
        said = f"row {first!r}: the licence {name!r} is not in SPDX's list"
        cure = "write its SPDX identifier, or LicenseRef-NAME for terms of your own"
        findings.append(Finding("licence-unknown", first, said, cure, "warning"))
    refused_by = {each: counts[each] for each in IN_WORDS if counts[each]}
    return Judged(kept, findings, refused_by, tuple(ids))


def is_among(licence: str, allowed: Sequence[str]) -> bool:
    """Whether a licence is one of some, which may have `*`; of an expression, one choice is."""
    patterns = [each.casefold() for name in allowed for each in (name, licence_id(name))]

    def one(name: str) -> bool:
        return any(fnmatch.fnmatchcase(name.casefold(), pattern) for pattern in patterns)

    return one(licence) or any(all(map(one, choice)) for choice in choices_of(licence))


def refusal_counts(refused: Mapping[str, int]) -> str:
    """Counts by reason in words: "consent ended 2, no consent 7"."""
    return ", ".join(f"{IN_WORDS[each]} {refused[each]}" for each in IN_WORDS if each in refused)


def current_day() -> date:
    """The day on which consents must hold: today, by this machine's clock."""
    return date.today()


def find_policy(named: Path | None, source: Path | None) -> Policy:
    """Read the policy that is named, or the one beside the data; without one, the usual.

    Args:
        named: the setting `data.policy`.
        source: a manifest, or a folder of data; None: there is none.

    Raises:
        ConfigError: the named file is missing, or a policy is wrong.
    """
    if named is not None:
        return read_policy(named)
    beside = policy_beside(source) if source is not None else None
    return read_policy(beside) if beside is not None else Policy()


def policy_beside(source: Path) -> Path | None:
    """The policy beside a manifest or in a folder of data; None: there is none."""
    path = (source if source.is_dir() else source.parent) / POLICY_FILE
    return path if path.is_file() else None


def read_policy(path: Path) -> Policy:
    """Read a policy from a YAML file.

    Raises:
        ConfigError: it is missing, no YAML, or a key or value is wrong.
    """
    if not path.is_file():
        raise ConfigError(f"the policy {path} is missing", "correct --policy, or restore the file")
    policy = policy_of(read_yaml(path), str(path))
    policy._place = str(path)
    return policy


def policy_of(values: dict[str, Any], place: str) -> Policy:
    """Make a policy of its values.

    Args:
        place: where they stand, for the error.

    Raises:
        ConfigError: a key or value is wrong.
    """
    try:
        return Policy.model_validate(values)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
    key = ".".join(map(str, first["loc"]))
    if first["type"] != "extra_forbidden":
        raise ConfigError(f"{place}: {key} = {first['input']!r}: {first['msg']}", f"correct {key}")
    section = str(first["loc"][0]) if len(first["loc"]) > 1 else ""
    sections: dict[str, type[Section]] = {"": Policy, "rows": Stated}
    known = sections.get(section, Rule).model_fields
    raise ConfigError(f"{place}: unknown key {key!r}", did_you_mean(str(first["loc"][-1]), known))


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names)
