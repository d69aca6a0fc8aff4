"""Numbers of payment cards, by their check digit and their first digits."""

from __future__ import annotations

import re
from collections.abc import Iterator

from mmtune.privacy.code_runs import CodeRun

SHORTEST, LONGEST = 12, 19  # digits of a card's number (ISO/IEC 7812)
# First digits and lengths of networks whose numbers stand out among others: Visa, Mastercard,
# American Express, Discover, Diners Club, JCB, UnionPay. They are looked for within longer runs.
_NETWORKS = re.compile(
    r"4\d{15}|5[1-5]\d{14}|2(?:22[1-9]|2[3-9]\d|[3-6]\d\d|7[01]\d|720)\d{12}|3[47]\d{13}"
    r"|(?:6011|64[4-9]\d|65\d\d)\d{12}|3(?:0[0-5]|[68]\d)\d{11}|35(?:2[89]|[3-8]\d)\d{12}|62\d{14}"
)
# All others: banks' and merchants' cards begin with 2 to 6, and those of an old JCB with 1800.
_FIRST = re.compile(r"[2-6]|1800")


def passes_luhn(digits: str) -> bool:
    """Whether the last digit is the check digit of the others (ISO/IEC 7812-1, annex B)."""
    doubled = [int(digit) * (1 + place % 2) for place, digit in enumerate(reversed(digits))]
    return sum(each - 9 if each > 9 else each for each in doubled) % 10 == 0


def find_cards(run: CodeRun, *, is_other: bool = False) -> Iterator[CodeRun]:
    """Find the numbers of cards within a run of digits.

    A number may be the whole run, or begin and end where a chunk does. Numbers of the large
    networks are found anywhere in a run: people go on with the date and the security code.

    Args:
        run: digits and letters.
        is_other: whether a word such as "order" announces the run. One number in ten passes Luhn's
            check by chance, so then a card must be the whole run or of a large network.
    """
    for digits in run.digit_runs():
        rest: CodeRun | None = digits
        while rest is not None and (found := _first_card(rest, is_other)) is not None:
            yield found
            end = rest.atoms.index(found.atoms[-1]) + 1
            rest = rest.part(end, len(rest.atoms)) if end < len(rest.atoms) else None


def _first_card(run: CodeRun, is_other: bool) -> CodeRun | None:
    whole = CodeRun(run.text, run.atoms, frozenset({0})) if is_other else run
    for part in whole.windows(SHORTEST, LONGEST, whole_chunks=True):
        if _FIRST.match(part.value) and passes_luhn(part.value):
            return part
    for part in run.windows(14, 16, whole_chunks=False):
        if _NETWORKS.fullmatch(part.value) and passes_luhn(part.value):
            return part
    return None
