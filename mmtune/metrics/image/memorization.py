"""Copies: images that are more similar to a training image than real new images are."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from mmtune.metrics.image.copy_search import AlignedTraining
from mmtune.metrics.image.nearest import Nearest
from mmtune.metrics.metric import Quantity, Stat

COPIES = Quantity(
    "copies",
    "share of images",
    "Images that repeat a training image more closely than new ones would.",
    higher_is_better=False,
)
PERCENTILE = 99.0  # percentile of the held-out images' similarity to the training images
MIN_HELD_OUT = 30  # different held-out images below which copies can't be told from new images
SAME = 0.98  # similarity of two images from which on they are one: saved again, moved or resized


def new_images(held_out: Sequence[Any], training: AlignedTraining) -> list[Nearest]:
    """Choose the held-out images that repeat neither a training image nor one another.

    A held-out image that repeats a training image would put the threshold so high that no copy is
    found.

    Returns:
        The nearest training image of each of them.
    """
    nearest = training.find(held_out)
    kept = [i for i, near in enumerate(nearest) if near.similarity < SAME]
    if len(kept) < 2:
        return [nearest[i] for i in kept]
    some = [held_out[i] for i in kept]
    among = AlignedTraining(some).find(some, without=range(len(some)))
    first: list[int] = []  # of images that are one, the first is kept
    for i, near in enumerate(among):
        if (
            near.similarity < SAME
            or not first
            or AlignedTraining([some[j] for j in first]).find([some[i]])[0].similarity < SAME
        ):
            first.append(i)
    return [nearest[kept[i]] for i in first]


def copy_threshold(held_out: Sequence[Nearest]) -> float:
    """Compute a similarity that real images outside the training data hardly ever exceed.

    With n < 100 held-out images it is their highest similarity. Another such image then exceeds it
    with probability 1 / (n + 1).

    Raises:
        ValueError: there are no held-out images.
    """
    if not held_out:
        raise ValueError("no held-out images to take a threshold from")
    similar = [near.similarity for near in held_out]
    return float(np.percentile(similar, PERCENTILE, method="higher"))


def copied(found: Sequence[Nearest], threshold: float) -> Stat:
    """Mark each image that is more similar to a training image than `threshold`: [images, 1]."""
    return np.array([[float(near.similarity > threshold)] for near in found]).reshape(-1, 1)


def share(stats: Sequence[Stat] | Stat) -> float | None:
    """Share of copied images: the mean of `copied`; None without images."""
    matrix = np.asarray(stats, dtype=np.float64)
    return float(matrix.mean()) if len(matrix) else None
