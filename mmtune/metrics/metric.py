"""The protocol of a metric: statistics of each item, and a function that reduces them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from mmtune.data.rows import Row
from mmtune.predict import Prediction

Stat = NDArray[np.float64]


class Metric(Protocol):
    """A metric that is computed from statistics of items, so that items can be resampled.

    A metric of another package may also have `modalities`, the names of the modalities in whose
    comparisons it takes part; it is then made without arguments. A metric that makes a choice by
    its items, such as the group that is worst, may have `pinned(stats)`: it returns `reduce` with
    the choice of `stats`, and resamples are reduced with it.

    A metric of a share may have `says`, a sentence with {adapter}, {base} and {total}, its counts:
    "Terms right: {adapter} of {total}, before {base}." Its statistics are then (count, total), or
    (S, D, I, N) of errors. A metric of (events, items) may have `rare = True`: its differences then
    also have the limits of rare events (`mmtune.metrics.rare`).
    """

    name: str
    unit: str
    """The label of its axis, such as "share of spoken terms"."""
    meaning: str
    """A sentence for readers who don't know it: what it counts."""
    higher_is_better: bool

    def observe(self, row: Row, prediction: Prediction) -> Stat:
        """Compute one item's statistics, a vector of fixed length: (S, D, I, N) for WER."""
        ...

    def reduce(self, stats: Sequence[Stat] | Stat) -> float | None:
        """Compute the metric of many items from [items, length]; None if it isn't defined."""
        ...


@dataclass(frozen=True)
class Quantity:
    """A figure that isn't computed as a `Metric`: of a whole set of items, or by a model.

    Attributes:
        name, unit, meaning, higher_is_better: see `Metric`.
        says: a sentence with {adapter}, the value in per cent.
    """

    name: str
    unit: str
    meaning: str
    higher_is_better: bool
    says: str = ""


def counts_of(metric: Metric, stats: Sequence[Stat] | Stat) -> tuple[float, float] | None:
    """The counts of a metric that has `says`: of events, and of all that could be one."""
    if not getattr(metric, "says", "") or not len(stats):
        return None
    *events, total = np.asarray(stats, dtype=np.float64).sum(axis=0)
    return float(sum(events)), float(total)
