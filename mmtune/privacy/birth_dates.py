"""Dates of birth: dates that a word announces, and whole dates that are too old for another."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

from mmtune.privacy.atoms import Atom, Reading
from mmtune.privacy.spoken_words import SpokenWords

FIRST_YEAR = 1900
# Whole dates up to this year are taken for dates of birth without a word that says so. It is fixed,
# so that redaction doesn't depend on the day on which it runs.
LAST_YEAR = 2007
_MARKS = frozenset(",./-–—'’")
_SAID_DIGITS = re.compile(r"(0[1-9]|[12]\d|3[01]){2}(\d\d|\d{4})")  # day, month and year
_MORE_BEFORE = re.compile(r"\d[-./–]$")
_MORE_AFTER = re.compile(r"[-./–]\d")
MOST_LINKS = 3  # marks and words between day, month and year


@dataclass(frozen=True)
class FoundDate:
    """A date in a text.

    Attributes:
        start: place of its first character.
        end: place after its last character.
        year: four digits; None without one, or for two digits.
        is_whole: whether it has day, month and year.
        is_year: whether it is a year alone.
        is_clear: whether it has a month's name or an ordinal, or is written as dates are.
    """

    start: int
    end: int
    year: int | None
    is_whole: bool
    is_year: bool = False
    is_clear: bool = True

    @property
    def is_old(self) -> bool:
        """Whether it is whole and from a year in which living people were born."""
        return self.is_whole and self.year is not None and FIRST_YEAR <= self.year <= LAST_YEAR


def find_dates(reading: Reading) -> Iterator[FoundDate]:
    """Find the dates of a text in order, written or spoken, of any year."""
    atoms, place = reading.atoms, 0
    while place < len(atoms):
        found = _date_at(reading, place)
        if found is None:
            place += 1
            continue
        date, after = found
        amount = after < len(atoms) and atoms[after].word in reading.words.units
        if date.is_year and amount:  # 1917 euros
            place = after
            continue
        # "the seventh of March": the article goes with it.
        if (
            place
            and atoms[place - 1].word == "the"
            and "\n" not in reading.text[date.start - 2 : date.start]
        ):
            date = replace(date, start=atoms[place - 1].start)
        yield date
        place = after


def _date_at(reading: Reading, first: int) -> tuple[FoundDate, int] | None:
    """The date that begins at an atom, with the place after it."""
    atoms, words = reading.atoms, reading.words
    parts: list[Atom] = []
    place, ends = first, [first]
    while place < len(atoms) and len(parts) < 8:
        atom = atoms[place]
        if not (atom.form in ("digits", "ordinal") or atom.word in words.months):
            break
        parts.append(atom)
        place += 1
        ends.append(place)
        links = 0
        while place < len(atoms) and links < MOST_LINKS and _is_link(atoms[place], words):
            place, links = place + 1, links + 1
    for count in range(len(parts), 0, -1):
        if (date := _as_date(reading.text, parts[:count], words)) is not None:
            # "november" is a letter, too, if others are beside it.
            spelled = any(part.form == "letter" for part in parts[:count])
            if not (spelled and _is_spelled_on(reading, first, ends[count])):
                return date, ends[count]
    return None


def _is_spelled_on(reading: Reading, first: int, end: int) -> bool:
    """Whether letters or digits stand beside a date on its line."""
    atoms = reading.atoms
    before = next((a for a in reversed(atoms[:first]) if a.value not in _MARKS), None)
    after = next((a for a in atoms[end:] if a.value not in _MARKS), None)
    start, stop = atoms[first].start, atoms[end - 1].end
    return any(
        atom is not None
        and atom.is_code
        and "\n" not in reading.text[min(atom.end, stop) : max(atom.start, start)]
        for atom in (before, after)
    )


def _is_link(atom: Atom, words: SpokenWords) -> bool:
    if atom.form == "mark":
        return atom.value in _MARKS
    return atom.form == "word" and atom.word in words.date_links


def _as_date(text: str, parts: Sequence[Atom], words: SpokenWords) -> FoundDate | None:
    """Read parts as a date: all of them must belong to it."""
    start, end = parts[0].start, parts[-1].end
    if "\n" in text[start:end]:
        return None
    months = [n for n, part in enumerate(parts) if part.word in words.months]
    numbers = [part.value for n, part in enumerate(parts) if n not in months]
    if len(months) > 1:
        return None
    if months:
        if not numbers or len("".join(numbers)) > 8:
            return None
        if months == [0] and len(numbers) == 1 and len(numbers[0]) == 4:
            return FoundDate(start, end, int(numbers[0]), is_whole=False)  # March 1984
        if not _is_day(numbers[0]):
            return None
        year = "".join(numbers[1:])
        if not year:
            return FoundDate(start, end, None, is_whole=False)
        return _with_year(start, end, year) if months[0] <= 1 else None
    return _of_numbers(text, parts, numbers)


def _with_year(start: int, end: int, year: str) -> FoundDate | None:
    if len(year) == 4 and FIRST_YEAR <= int(year) <= 2099:
        return FoundDate(start, end, int(year), is_whole=True)
    return FoundDate(start, end, None, is_whole=True) if len(year) == 2 else None


def _of_numbers(text: str, parts: Sequence[Atom], numbers: Sequence[str]) -> FoundDate | None:
    start, end = parts[0].start, parts[-1].end
    if _MORE_BEFORE.search(text, max(0, start - 2), start) or _MORE_AFTER.match(text, end):
        return None
    if len(parts) >= 3:
        marks = {text[a.end : b.start].strip() for a, b in pairwise(parts[:3])}
        written = len(marks) == 1 and marks <= {"/", ".", "-"} and len(parts) == 3
        known = written and marks <= {"/", "."}  # 20-10-05 may be something else
        if len(numbers[0]) == 4 and len(parts) == 3:
            if _is_day(numbers[2]) and _is_month(numbers[1]) and _is_year(numbers[0]):
                return FoundDate(start, end, int(numbers[0]), True, is_clear=written)
            return None
        one, two, year = numbers[0], numbers[1], "".join(numbers[2:])
        days = (_is_day(one) and _is_month(two)) or (_is_month(one) and _is_day(two))
        ordinals = any(part.form == "ordinal" for part in parts[:2])
        if days and (date := _with_year(start, end, year)) is not None:
            clear = known or (written and date.year is not None)
            clear |= ordinals
            return FoundDate(start, end, date.year, True, is_clear=clear)
    joined = "".join(numbers)
    if _SAID_DIGITS.fullmatch(joined) and min(int(joined[:2]), int(joined[2:4])) <= 12:
        said = _with_year(start, end, joined[4:])
        if said is not None:
            return replace(said, is_clear=False)
    if len(joined) == 4 and len(parts) <= 2 and FIRST_YEAR <= int(joined) <= 2099:
        return FoundDate(start, end, int(joined), False, is_year=True)
    return None


def _is_day(value: str) -> bool:
    return len(value) <= 2 and 1 <= int(value) <= 31


def _is_month(value: str) -> bool:
    return len(value) <= 2 and 1 <= int(value) <= 12


def _is_year(value: str) -> bool:
    return FIRST_YEAR <= int(value) <= 2099
