"""A metric that looks at each item once, for several measures of the same items."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from mmtune.data.rows import Row
from mmtune.metrics.metric import Metric, Stat
from mmtune.predict import Prediction


class Remembered:
    """A metric whose statistics of an item are computed once.

    Args:
        metric: the metric; all else is its own.
    """

    def __init__(self, metric: Metric) -> None:
        self._metric = metric
        self.name, self.unit, self.meaning = metric.name, metric.unit, metric.meaning
        self.higher_is_better = metric.higher_is_better
        # Each prediction is kept beside its statistics, so that no other one can get its id().
        self._known: dict[tuple[int, int], tuple[Row, Prediction, Stat]] = {}

    def observe(self, row: Row, prediction: Prediction) -> Stat:
        """The metric's statistics of an item."""
        key = id(row), id(prediction)
        if key not in self._known:
            self._known[key] = row, prediction, self._metric.observe(row, prediction)
        return self._known[key][2]

    def reduce(self, stats: Sequence[Stat] | Stat) -> float | None:
        """The metric of many items."""
        return self._metric.reduce(stats)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._metric, name)
