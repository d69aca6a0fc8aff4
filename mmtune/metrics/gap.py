"""How unequally groups are served: the worst group's figure less the best one's."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from mmtune.data.rows import Row
from mmtune.metrics.metric import Metric, Stat
from mmtune.predict import Prediction


def gap_unit(metric: str) -> str:
    """The unit of a metric's `GroupGap`."""
    return f"{metric}, between two groups"


class GroupGap:
    """Largest difference of a metric between groups; an item's statistic ends with its group.

    A gap of noisy figures is above 0 even where groups are served alike, the more so the smaller
    they are; that of base and adapter on the same items may be compared.

    Args:
        metric: of each group; lower or higher may be better.
        group: of each row, by id; a row without one doesn't count.
    """

    meaning = "How much worse the group that is served worst has it than the one served best."
    higher_is_better = False

    def __init__(self, metric: Metric, group: Mapping[str, int]) -> None:
        self.metric = metric
        self.group = group
        self.name = f"{metric.name} gap"
        self.unit = gap_unit(metric.name)

    def observe(self, row: Row, prediction: Prediction) -> Stat:
        """The metric's statistic, and the number of the row's group (-1: none)."""
        own = float(self.group.get(row.id, -1))
        return np.append(self.metric.observe(row, prediction), own)

    def reduce(self, stats: Sequence[Stat] | Stat) -> float | None:
        """Largest less smallest figure of a group; None for fewer than two groups."""
        matrix = np.asarray(stats, dtype=np.float64)
        numbers = matrix[:, -1]
        figures = [
            self.metric.reduce(matrix[numbers == n, :-1]) for n in np.unique(numbers[numbers >= 0])
        ]
        defined = [figure for figure in figures if figure is not None]
        return max(defined) - min(defined) if len(defined) > 1 else None
