"""Metrics of numbers: the share of spoken numbers, and of long ones, that is written right.

Long numbers are those of accounts, orders and telephones. People say and write them in groups, so
neighbouring groups with `LONG_DIGITS` digits or more together are one number.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence

import numpy as np

from mmtune.data.rows import Row
from mmtune.metrics.metric import Stat
from mmtune.metrics.text.wer import scored
from mmtune.predict import Prediction

LONG_DIGITS = 6  # the fewest digits of a long number
NUMBER = re.compile(r"(?<!\S)\S*\d\S*(?!\S)")
DIGITS = re.compile(r"(?<!\S)\d+(?:[ ./-]+\d+)*(?!\S)")


def numbers(normalized: str) -> Counter[str]:
    """Count the words of a normalized text that hold a digit; a long number is one word."""
    return Counter(NUMBER.findall(DIGITS.sub(_joined, normalized)))


def long_numbers(normalized: str) -> Counter[str]:
    """Count the numbers of `LONG_DIGITS` or more digits, without what stands between groups."""
    joined = map(_joined, DIGITS.finditer(normalized))
    return Counter(n for n in joined if len(n) >= LONG_DIGITS and n.isdigit())


def _joined(found: re.Match[str]) -> str:
    digits = re.sub(r"\D", "", found[0])
    return digits if len(digits) >= LONG_DIGITS else found[0]


class NumberRecall:
    """The share of spoken numbers that is written. Statistic: (hits, occurrences).

    Args:
        language: language of rows that don't name theirs.
        long: count long numbers only; each must be right to the last digit.
    """

    unit = "share of spoken numbers"
    higher_is_better = True

    def __init__(self, language: str = "en", *, long: bool = False) -> None:
        self.language = language
        self.name = "long number recall" if long else "number recall"
        kind = f"numbers of {LONG_DIGITS} or more digits" if long else "numbers"
        self.meaning = f"The share of the spoken {kind} that was written right."
        self._find = long_numbers if long else numbers

    def observe(self, row: Row, prediction: Prediction) -> Stat:
        """Hits and spoken numbers; a number that is spoken once and written twice is one hit."""
        spoken, written = (self._find(text) for text in scored(row, prediction, self.language))
        return np.array([(spoken & written).total(), spoken.total()], dtype=np.float64)

    def reduce(self, stats: Sequence[Stat] | Stat) -> float | None:
        """Hits / occurrences over all items; None if no number is spoken."""
        hits, spoken = np.asarray(stats, dtype=np.float64).reshape(-1, 2).sum(axis=0)
        return float(hits / spoken) if spoken else None


NUMBERS, LONG_NUMBERS = NumberRecall(), NumberRecall(long=True)
