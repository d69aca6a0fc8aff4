"""The delete-one jackknife: figures without their bias of order 1/n, and intervals of them.

Source: Efron & Tibshirani, An Introduction to the Bootstrap (1993), ch. 11; the interval of a ratio
is Fieller's (J. R. Stat. Soc. B 16, 1954). A distance between two sets grows as the sets shrink,
because chance moves their means apart. A bootstrap repeats that bias; the jackknife removes it.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import stdtrit  # type: ignore[import-untyped]

from mmtune.metrics.bootstrap import UNDEFINED, Interval

Vectors = NDArray[np.float64]


@dataclass(frozen=True)
class Jackknifed:
    """Figures without bias, and how chance moves them together.

    Attributes:
        values: the corrected figures, [figures].
        covariance: of the figures, [figures, figures].
        units: number of units (prompts) that were left out in turn; of several independent sets,
            the smallest.
    """

    values: Vectors
    covariance: Vectors
    units: int

    @property
    def quantile(self) -> float:
        """Student's t for a 95 % interval with this number of units."""
        return float(stdtrit(self.units - 1, 0.975))

    def interval(self, place: int) -> Interval:
        """Compute the 95 % interval of one figure."""
        reach = self.quantile * math.sqrt(self.covariance[place, place])
        value = float(self.values[place])
        return Interval(value, value - reach, value + reach)

    def ratio(self, above: int, below: int) -> Interval:
        """Compute the 95 % interval of the ratio of two figures; nan if it isn't bounded.

        It is bounded if the figure below is positive and its interval excludes 0.

        Args:
            above, below: places of the two figures.
        """
        a, b = float(self.values[above]), float(self.values[below])
        c, square = self.covariance, self.quantile**2
        first = b * b - square * float(c[below, below])
        if not (first > 0 and b > 0):
            return UNDEFINED
        half = a * b - square * float(c[above, below])
        last = a * a - square * float(c[above, above])
        root = math.sqrt(max(half * half - first * last, 0.0))
        return Interval(a / b, (half - root) / first, (half + root) / first)


def leave_one_out(items: Vectors, units: Sequence[Hashable]) -> tuple[Vectors, Vectors]:
    """Compute the mean of all items, and the mean without each unit.

    Args:
        items: [..., items, k].
        units: unit (prompt) of each item; two different ones or more.

    Returns:
        [..., k] and [units, ..., k].
    """
    place = {unit: i for i, unit in enumerate(dict.fromkeys(units))}
    member = np.zeros((len(place), items.shape[-2]))
    member[[place[unit] for unit in units], np.arange(len(units))] = 1
    sums, counts = member @ items, member.sum(1)  # [..., units, k] and [units]
    total, count = sums.sum(-2), counts.sum()
    without = (total[..., None, :] - sums) / (count - counts)[:, None]
    return total / count, np.moveaxis(without, -2, 0)


def jackknife(whole: Vectors, *without: Vectors) -> Jackknifed:
    """Correct figures by what they are without each unit.

    Args:
        whole: figures of all units, [figures].
        without: the same figures without each unit, [units, figures]; for each of several
            independent sets of units. Two units or more in each set.
    """
    values = np.array(whole, dtype=np.float64)
    covariance = np.zeros((len(values), len(values)))
    for each in without:
        n, around = len(each), each - each.mean(0)
        values -= (n - 1) * (each.mean(0) - whole)
        covariance += (n - 1) / n * (around.T @ around)
    return Jackknifed(values, covariance, min(map(len, without)))
