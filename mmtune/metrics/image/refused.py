"""Refused images: the share that a filter of content refuses."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from mmtune.metrics.metric import Quantity, Stat

REFUSED = Quantity(
    "refused images",
    "share of images",
    "The share of the images that the content filter refuses, as something that nobody should see.",
    higher_is_better=False,
)


def refused_by_prompt(refused: Sequence[bool], seeds: int) -> list[Stat]:
    """Count each prompt's refused images and its images: (refused, images).

    Args:
        refused: of each image; the images of a prompt stand together.
        seeds: number of images of each prompt.
    """
    matrix = np.asarray(refused, dtype=np.float64).reshape(-1, seeds)
    return [np.array([row.sum(), float(seeds)]) for row in matrix]


def refused_share(stats: Sequence[Stat] | Stat) -> float | None:
    """Refused images / images; None without images."""
    matrix = np.asarray(stats, dtype=np.float64).reshape(-1, 2)
    refused, images = matrix.sum(axis=0)
    return float(refused / images) if images else None
