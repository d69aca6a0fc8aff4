"""Phone numbers, by the numbering plans of `phonenumbers`."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from functools import cache
from typing import TYPE_CHECKING

from mmtune.errors import ConfigError, MissingExtra
from mmtune.privacy.atoms import Atom, Reading
from mmtune.privacy.code_runs import CodeRun
from mmtune.privacy.spoken_words import plain, word_set

if TYPE_CHECKING:
    from types import ModuleType

FEWEST, MOST = 7, 15  # digits (ITU-T E.164 allows 15)
# Digits after a word such as "phone" that count as a number, wrong ones too.
FEWEST_ANNOUNCED, MOST_ANNOUNCED, FEWEST_AREA_CODE = 6, 17, 2
MOST_EXTENSION = 6  # digits
_THOUSANDS = re.compile(r"\d{1,3}(?:[.,]\d{3})+")  # 7,800,000,000
_EXTENSIONS = word_set("x ext extension durchwahl nebenstelle poste extension anexo")
# Regions whose numbers are read without their country's code, where the user names none.
REGIONS = {
    "en": ("US", "GB"),
    "de": ("DE", "AT", "CH"),
    "fr": ("FR", "BE", "CH"),
    "es": ("ES", "MX"),
}


def is_area_code(words: str) -> bool:
    """Whether words announce the first digits of a phone number alone."""
    return plain(words) in ("area code", "vorwahl", "indicatif", "prefijo")


@cache
def load_phonenumbers() -> ModuleType:
    """Import `phonenumbers`.

    Raises:
        MissingExtra: it isn't installed.
    """
    try:
        import phonenumbers
    except ImportError:
        raise MissingExtra("phonenumbers", "privacy", "finding phone numbers") from None
    module: ModuleType = phonenumbers
    return module


def require_regions(regions: Sequence[str]) -> None:
    """Refuse regions that have no numbering plan.

    Raises:
        ConfigError: names the region.
    """
    known = load_phonenumbers().SUPPORTED_REGIONS
    for region in regions:
        if region not in known:
            raise ConfigError(
                f"--region {region}: no such region",
                "give a country's code of two letters, such as US, GB or DE",
            )


def find_phones(
    run: CodeRun, regions: Sequence[str], *, international: bool, announced: bool
) -> Iterator[CodeRun]:
    """Find the phone numbers within a run of digits.

    Args:
        run: the digits.
        regions: where numbers without a country's code are at home.
        international: whether a "+" stands before the run.
        announced: whether a word such as "phone" announces it. Then a number is one if it has a
            possible length; without it must be one that its region gives out, or begin with 0.
    """
    for digits in run.digit_runs():
        end = -1
        for part in digits.windows(FEWEST, MOST, whole_chunks=True):
            plus = international and part.start == run.start
            if _THOUSANDS.fullmatch(part.text, part.start, part.end) and not announced:
                continue
            if part.start > end and _is_phone(part.value, regions, plus, announced):
                yield part
                end = part.end


def number_start(reading: Reading, first: Atom) -> int:
    """The place where a number begins whose first digits are given: a "+" and "(" go with it."""
    start, place = first.start, reading.place(first)
    for atom in reversed(reading.atoms[max(0, place - 2) : place]):
        is_plus = atom.value == "+" or reading.words.signs.get(atom.word) == "+"
        if "\n" in reading.text[atom.end : start] or not (is_plus or atom.value == "("):
            break
        start = atom.start
    return start


def has_plus(reading: Reading, first: Atom) -> bool:
    """Whether a "+" or a word for it stands before the first digits of a number."""
    before = reading.text[number_start(reading, first) : first.start]
    return "+" in before or any(word in plain(before).split() for word in reading.words.signs)


def extension_end(reading: Reading, last: Atom) -> int:
    """The place where a phone number ends, with its extension: "x6625", "extension 12"."""
    end, place = last.end, reading.place(last)
    after = [
        atom
        for atom in reading.atoms[place + 1 : place + 16]
        if atom.value not in (",", ".") and atom.word not in reading.words.fillers
    ]
    if not after or not (after[0].word in _EXTENSIONS or after[0].value == "X"):
        return end
    count = 0
    for atom in after[1:]:
        if atom.form != "digits" or "\n" in reading.text[end : atom.start]:
            break
        count += len(atom.value)
        if count > MOST_EXTENSION:
            break
        end = atom.end
    return end


def _is_phone(digits: str, regions: Sequence[str], plus: bool, announced: bool) -> bool:
    library = load_phonenumbers()
    if digits.startswith("00") and len(digits) > FEWEST + 2:
        digits, plus = digits[2:], True
    for region in (None,) if plus else regions:
        try:
            number = library.parse(f"+{digits}" if plus else digits, region)
        except library.NumberParseException:
            continue
        if library.is_valid_number(number):
            return True
        trunk = digits.startswith("0") and len(digits) >= 9
        if (plus or announced or trunk) and library.is_possible_number(number):
            return True
    return False
