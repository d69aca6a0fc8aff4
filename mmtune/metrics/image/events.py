"""Shares of images with an event, counted by prompt, because images of one prompt are alike."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from mmtune.metrics.bootstrap import Interval, bootstrap
from mmtune.metrics.metric import Stat
from mmtune.metrics.rare import NO_EVENT_END


def events_by_prompt(events: Sequence[bool], seeds: int) -> list[Stat]:
    """Count each prompt's images with the event and its images: (events, images).

    Args:
        events: of each image; the images of a prompt stand together.
        seeds: number of images of each prompt.
    """
    matrix = np.asarray(events, dtype=np.float64).reshape(-1, seeds)
    return [np.array([row.sum(), float(seeds)]) for row in matrix]


def event_share(stats: Sequence[Stat] | Stat) -> float | None:
    """Images with the event / images; None without images."""
    matrix = np.asarray(stats, dtype=np.float64).reshape(-1, 2)
    events, images = matrix.sum(axis=0)
    return float(events / images) if images else None


def share_interval(stats: Sequence[Stat]) -> Interval:
    """The share with its interval, which has a width where no image or each one has the event.

    There a bootstrap has none, and 3 / prompts is its other end (`mmtune.metrics.rare`).
    """
    found = bootstrap(stats, event_share)
    reach = share_reach(stats)
    if found.value == 0:
        return Interval(0.0, 0.0, reach)
    return Interval(1.0, 1 - reach, 1.0) if found.value == 1 else found


def share_reach(stats: Sequence[Stat]) -> float:
    """The width of the interval of a share of 0 or 1: 3 / prompts, at most 1."""
    return min(1.0, NO_EVENT_END / len(stats)) if len(stats) else 0.0
