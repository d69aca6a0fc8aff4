"""IBANs, by their country's length and their check digits, written and spelled."""

from __future__ import annotations

import re
from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Sequence
from itertools import accumulate, islice, product

from mmtune.privacy.atoms import Atom
from mmtune.privacy.code_runs import CodeRun

# Lengths of the IBAN registry; equal to those of python-stdnum 2.2.
LENGTHS = {
    code: length
    for length, codes in {
        15: "NO", 16: "BE", 18: "DK FI FK FO GL NL SD", 19: "MK SI",
        20: "AT BA EE KZ LT LU MN XK", 21: "CH HR LI LV", 22: "BG BH CR DE GB GE IE ME RS VA",
        23: "AE GI IL IQ OM SO TL", 24: "AD CZ ES MD PK RO SA SE SK TN VG", 25: "LY PT ST",
        26: "IS TR", 27: "BI DJ FR GR IT MC MR SM", 28: "AL AZ BY CY DO GT HN HU LB NI PL SV",
        29: "BR EG PS QA UA", 30: "JO KW MU YE", 31: "MT SC", 32: "LC", 33: "RU",
    }.items()
    for code in codes.split()
}  # fmt: skip
MOST_READINGS = 64
_WRITTEN = re.compile(
    r"(?<![^\W_])[A-Z]{2}\d\d(?:[ \t\u00a0\u202f.-]?[A-Z0-9]){11,30}(?![^\W_])", re.IGNORECASE
)


def passes_mod97(code: str) -> bool:
    """Whether the check digits of an IBAN are right (ISO 13616, by ISO 7064 mod 97-10)."""
    digits = "".join(str(int(c, 36)) for c in code[4:] + code[:4])
    return int(digits) % 97 == 1


def is_iban(code: str) -> bool:
    """Whether capital letters and digits are an IBAN of a country of the registry."""
    return (
        code.isascii()
        and LENGTHS.get(code[:2]) == len(code)
        and code[2:4].isdigit()
        and passes_mod97(code)
    )


def find_written_ibans(text: str) -> Iterator[tuple[int, int]]:
    """Find the places of IBANs in a text, in one piece or in groups, in any case."""
    for match in _WRITTEN.finditer(text):
        places = [i for i in range(*match.span()) if text[i].isalnum() and text[i].isascii()]
        code = "".join(text[i] for i in places).upper()
        length = LENGTHS.get(code[:2], 0)
        if length <= len(code) and is_iban(code[:length]):
            yield places[0], places[length - 1] + 1


def find_ibans(run: CodeRun) -> Iterator[CodeRun]:
    """Find spoken or spelled IBANs within a run of letters and digits."""
    shortest, longest = min(LENGTHS.values()), max(LENGTHS.values())
    before = list(accumulate((len(atom.value) for atom in run.atoms), initial=0))
    first = 0
    while first < len(run.atoms):
        low = bisect_left(before, before[first] + shortest)
        ends = range(low, bisect_right(before, before[first] + longest))
        end = next((e for e in ends if any(map(is_iban, _readings(run.atoms[first:e])))), None)
        if end is not None:
            yield run.part(first, end)
        first = first + 1 if end is None else end


def _readings(atoms: Sequence[Atom]) -> Iterator[str]:
    """What digits and letters may mean: "o" is a letter or a zero."""
    choices = [(atom.value, "O") if atom.word == "o" else (atom.value,) for atom in atoms]
    yield from map("".join, islice(product(*choices), MOST_READINGS))
