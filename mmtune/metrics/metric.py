"""What a metric is: statistics of each item, and a function that reduces them."""

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
    """A metric as per-item statistics, so that it can be resampled, sliced and sharded.

    A third party's may also have `modalities`, names of those whose comparisons it joins; it is
    then made without arguments.
    """

    name: str
    unit: str
    """The label of its axis, such as "share of spoken terms"."""
    meaning: str
    """A sentence for readers who don't know it: what it counts."""
    higher_is_better: bool

    def observe(self, row: Row, prediction: Prediction) -> Stat:
        """A vector of fixed length for one item: (S, D, I, N) for WER."""
        ...

    def reduce(self, stats: Sequence[Stat] | Stat) -> float | None:
        """The metric of many items, [items, length]; None where it isn't defined."""
        ...


@dataclass(frozen=True)
class Quantity:
    """A figure that isn't computed as a `Metric`: of a whole set of items, or by a model.

    Attributes:
        name, unit, meaning, higher_is_better: see `Metric`.
    """

    name: str
    unit: str
    meaning: str
    higher_is_better: bool
