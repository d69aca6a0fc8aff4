"""Gap between groups: the difference of a metric between the worst and the best group."""

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
    """The largest difference of a metric between groups of rows.

    Noise alone makes a gap positive, and more so in small groups. So compare the gaps of base and
    adapter on the same items instead of reading one gap alone. An item's statistic is the metric's
    statistic followed by the number of its group.

    Args:
        metric: the metric to compute for each group; lower or higher may be better.
        group: number of each row's group by row id; rows without a group are ignored.
    """

    meaning = "How much worse the group that is served worst has it than the one served best."
    higher_is_better = False

    def __init__(self, metric: Metric, group: Mapping[str, int]) -> None:
        self.metric = metric
        self.group = group
        self.name = f"{metric.name} gap"
        self.unit = gap_unit(metric.name)

    def observe(self, row: Row, prediction: Prediction) -> Stat:
        """The metric's statistic, then the number of the row's group (-1 without a group)."""
        own = float(self.group.get(row.id, -1))
        return np.append(self.metric.observe(row, prediction), own)

    def reduce(self, stats: Sequence[Stat] | Stat) -> float | None:
        """The largest minus the smallest value of a group; None for fewer than two groups."""
        matrix = np.asarray(stats, dtype=np.float64)
        numbers = matrix[:, -1]
        figures = [
            self.metric.reduce(matrix[numbers == n, :-1]) for n in np.unique(numbers[numbers >= 0])
        ]
        defined = [figure for figure in figures if figure is not None]
        return max(defined) - min(defined) if len(defined) > 1 else None
