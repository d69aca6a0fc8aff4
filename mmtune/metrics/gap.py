"""Metrics of groups: the worst group, and the gap between the worst and the best one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from mmtune.data.rows import Row
from mmtune.metrics.bootstrap import Reduce
from mmtune.metrics.metric import Metric, Stat
from mmtune.predict import Prediction


def gap_unit(metric: str) -> str:
    """The unit of a metric's `GroupGap`."""
    return f"{metric}, between two groups"


def worst_unit(metric: str) -> str:
    """The unit of a metric's `WorstGroup`."""
    return f"{metric}, of one group"


class _OfGroups:
    """A metric of a metric's values in groups of rows.

    Args:
        metric: the metric to compute for each group; lower or higher may be better.
        group: number of each row's group by row id; rows without a group are ignored.
    """

    def __init__(self, metric: Metric, group: Mapping[str, int]) -> None:
        self.metric = metric
        self.group = group

    def observe(self, row: Row, prediction: Prediction) -> Stat:
        """The metric's statistic, then the number of the row's group (-1 without a group)."""
        own = float(self.group.get(row.id, -1))
        return np.append(self.metric.observe(row, prediction), own)

    def _figures(self, matrix: Stat, groups: Sequence[float] = ()) -> dict[float, float]:
        """The metric of each group (or of `groups`) for which it is defined."""
        numbers = matrix[:, -1]
        found = {}
        for n in groups or np.unique(numbers[numbers >= 0]):
            figure = self.metric.reduce(matrix[numbers == n, :-1])
            if figure is not None:
                found[float(n)] = figure
        return found


class WorstGroup(_OfGroups):
    """The metric's value in the group that has it worst; see `GroupGap` for arguments.

    Base and adapter may each have another worst group. The interval is that of the group that is
    worst on all items (`pinned`). That it was chosen by the same items isn't part of the interval:
    with small groups the value is somewhat too bad.
    """

    meaning = "The value in the group that has the worst value."

    def __init__(self, metric: Metric, group: Mapping[str, int]) -> None:
        super().__init__(metric, group)
        self.name = f"{metric.name}, worst group"
        self.unit = worst_unit(metric.name)
        self.higher_is_better = metric.higher_is_better

    def worst(self, stats: Sequence[Stat] | Stat) -> int | None:
        """The number of the worst group, the first of several; None if no group has a value."""
        figures = self._figures(np.asarray(stats, dtype=np.float64))
        sign = 1 if self.higher_is_better else -1
        return int(min(figures, key=lambda n: (sign * figures[n], n))) if figures else None

    def reduce(self, stats: Sequence[Stat] | Stat) -> float | None:
        """The value of the worst group; None if no group has one."""
        figures = self._figures(np.asarray(stats, dtype=np.float64)).values()
        worst = min if self.higher_is_better else max
        return worst(figures) if figures else None

    def pinned(self, stats: Sequence[Stat] | Stat) -> Reduce:
        """Return `reduce` with the group that `stats` chooses; for resamples of `stats`."""
        chosen = self.worst(stats)
        if chosen is None:
            return self.reduce
        number = float(chosen)
        return lambda sample: self._figures(np.asarray(sample, dtype=np.float64), (number,)).get(
            number
        )


class GroupGap(_OfGroups):
    """The largest difference of a metric between groups of rows.

    Noise alone makes a gap positive, and more so in small groups. So compare the gaps of base and
    adapter on the same items instead of reading one gap alone. An item's statistic is the metric's
    statistic followed by the number of its group.

    The interval is that of the two groups that are worst and best on all items (`pinned`). If each
    resample chose its own two groups, its noise would make nearly every resampled gap larger than
    the gap itself, and the interval would lie above the value. The lower end may be below 0: then
    the items don't show that these two groups differ. That the two groups were chosen by the same
    items isn't part of the interval.

    Args:
        metric: the metric to compute for each group; lower or higher may be better.
        group: number of each row's group by row id; rows without a group are ignored.
    """

    meaning = "The difference between the worst group and the best one."
    higher_is_better = False

    def __init__(self, metric: Metric, group: Mapping[str, int]) -> None:
        super().__init__(metric, group)
        self.name = f"{metric.name} gap"
        self.unit = gap_unit(metric.name)

    def reduce(self, stats: Sequence[Stat] | Stat) -> float | None:
        """The largest minus the smallest value of a group; None for fewer than two groups."""
        matrix = np.asarray(stats, dtype=np.float64)
        figures = self._figures(matrix).values()
        return max(figures) - min(figures) if len(figures) > 1 else None

    def pinned(self, stats: Sequence[Stat] | Stat) -> Reduce:
        """Return `reduce` with the two groups that `stats` chooses; for resamples of `stats`."""
        figures = self._figures(np.asarray(stats, dtype=np.float64))
        if len(figures) < 2:
            return self.reduce
        high = max(figures, key=lambda n: figures[n])
        low = min((n for n in figures if n != high), key=lambda n: figures[n])

        def between(sample: Sequence[Stat] | Stat) -> float | None:
            found = self._figures(np.asarray(sample, dtype=np.float64), (high, low))
            return found[high] - found[low] if {high, low} <= found.keys() else None

        return between
