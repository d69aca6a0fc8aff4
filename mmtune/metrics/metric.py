"""The protocol of a metric: statistics of each item, and a function that reduces them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from mmtune.data.rows import Row
from mmtune.predict import Prediction

Stat = NDArray[np.float64]


class Metric(Protocol):
    """A metric that is computed from statistics of items, so that items can be resampled."""

    name: str
    higher_is_better: bool

    def observe(self, row: Row, prediction: Prediction) -> Stat:
        """Compute one item's statistics, a vector of fixed length: (S, D, I, N) for WER."""
        ...

    def reduce(self, stats: Sequence[Stat] | Stat) -> float | None:
        """Compute the metric of many items from [items, length]; None if it isn't defined."""
        ...
