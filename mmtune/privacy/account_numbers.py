"""Account and record numbers, by the words that announce them; numbers that only look alike."""

from __future__ import annotations

import re

from mmtune.privacy.atoms import Reading
from mmtune.privacy.code_runs import CodeRun
from mmtune.privacy.spoken_words import word_set

FEWEST = 4  # digits of an account or record number
FEWEST_CODE = 3  # digits of a security code or PIN
_CODES = re.compile(r"pin|cv|security|sicherheit|prüf|crypto|secret|seguridad$", re.IGNORECASE)
_BEFORE_YEARS = word_set(
    "since in from of year until seit im jahr ab bis depuis en de annee desde del ano hasta"
)
_CURRENCIES = frozenset("$€£¥")
# A social security number of the USA is written with these groups alone.
_GROUPED = re.compile(r"(?<![\w-])\d{3}-\d{2}-\d{4}(?![\w-])")
_ROUND = re.compile(r"[1-9]\d?0{2,}")
MOST_LETTERS = 12  # letters of a code that are spelled beside its digits


def find_grouped_numbers(text: str) -> list[tuple[int, int]]:
    """Find the places of numbers that are recognised by their groups alone: 123-45-6789."""
    return [match.span() for match in _GROUPED.finditer(text)]


def without_amounts(run: CodeRun, reading: Reading) -> CodeRun | None:
    """Leave out what is money, a measure or a time: a currency or a unit stands beside it.

    Returns:
        The run without its last or first number; None if nothing is left.
    """
    atoms = reading.atoms
    first, last = reading.place(run.atoms[0]), reading.place(run.atoms[-1])
    count = len(run.atoms)
    begin, end = 0, count
    after = atoms[last + 1] if last + 1 < len(atoms) else None
    if after is not None and (
        after.value in (*_CURRENCIES, "%") or after.word in reading.words.units
    ):
        end = max(run.chunks)
        # "two thousand, one hundred and eighty dollars"
        while end and end - 1 in run.chunks and _ROUND.fullmatch(run.atoms[end - 1].value):
            end -= 1
    if first and atoms[first - 1].value in _CURRENCIES:
        begin = min((chunk for chunk in run.chunks if chunk), default=count)
    return run.part(begin, end) if begin < end else None


def is_year(run: CodeRun, reading: Reading) -> bool:
    """Whether a run is a year after a word such as "since"."""
    if not re.fullmatch(r"(19|20)\d\d", run.value):
        return False
    first = reading.place(run.atoms[0])
    return bool(first) and reading.atoms[first - 1].word in _BEFORE_YEARS


def is_account(run: CodeRun, announced_by: str) -> bool:
    """Whether a run that words announce has the digits and letters of a number or code."""
    fewest = FEWEST_CODE if _CODES.search(announced_by) else FEWEST
    letters = len(run.value) - len(run.digits)
    return len(run.digits) >= fewest and letters <= MOST_LETTERS
