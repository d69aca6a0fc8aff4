"""The interval of a difference of rare events, for which resampling says too little."""

from __future__ import annotations

from collections.abc import Hashable, Sequence

import numpy as np
from scipy.special import chdtri  # type: ignore[import-untyped]

from mmtune.metrics.bootstrap import Interval
from mmtune.metrics.metric import Stat

# Hanley and Lippman-Hand, JAMA 1983: with no event in n items, the 95 % upper end is 3 / n.
NO_EVENT_END = 3.0


def rare_difference(
    base: Sequence[Stat],
    adapter: Sequence[Stat],
    clusters: Sequence[Hashable] | None = None,
    level: float = 0.95,
) -> Interval | None:
    """The difference of events per item, adapter - base, if few items have any.

    One count is of clusters in which the adapter has more events than the base, one of those with
    fewer. Each has Garwood's exact Poisson limits (1936). The limits of their difference follow
    from them (MOVER: Zou & Donner, 2008), and a cluster counts as many events as these clusters
    have on average.

    Args:
        base: (events, items) of each item.
        adapter: the same of the adapter, in the same order.
        clusters: label of each item; None: each item is its own.
        level: confidence level.

    Returns:
        None without items or differences.

    Examples:
        >>> one = [(0.0, 1.0)] * 300
        >>> found = rare_difference(one, [(1.0, 1.0), *one[1:]])
        >>> f"{found.value:.4f} {found.low:.4f} {found.high:.4f}"
        '0.0033 -0.0094 0.0186'
    """
    a, b = np.asarray(base, dtype=np.float64), np.asarray(adapter, dtype=np.float64)
    labels = range(len(a)) if clusters is None else clusters
    changes: dict[Hashable, float] = {}
    for label, change in zip(labels, b[:, 0] - a[:, 0] if len(a) else (), strict=True):
        changes[label] = changes.get(label, 0.0) + float(change)
    more = [each for each in changes.values() if each > 0]
    fewer = [-each for each in changes.values() if each < 0]
    if not more and not fewer:
        return None
    tail, items = (1 - level) / 2, a[:, 1].sum()
    size = (sum(more) + sum(fewer)) / (len(more) + len(fewer))
    (low_more, high_more), (low_fewer, high_fewer) = (
        _limits(len(each), tail) for each in (more, fewer)
    )
    value = (sum(more) - sum(fewer)) / items
    up = np.hypot(high_more - len(more), len(fewer) - low_fewer) * size / items
    down = np.hypot(len(more) - low_more, high_fewer - len(fewer)) * size / items
    return Interval(value, value - float(down), value + float(up))


def _limits(count: int, tail: float) -> tuple[float, float]:
    low = chdtri(2 * count, 1 - tail) / 2 if count else 0.0
    return float(low), float(chdtri(2 * (count + 1), tail) / 2)
