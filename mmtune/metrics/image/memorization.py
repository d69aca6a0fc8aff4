"""Which images repeat a training image: nearer to one than real new images ever come."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from mmtune.metrics.image.nearest import Nearest
from mmtune.metrics.metric import Quantity, Stat

COPIES = Quantity(
    "copies",
    "share of images",
    "Images that repeat a training image more closely than new ones would.",
    higher_is_better=False,
)
PERCENTILE = 99.0  # of the similarity of real held-out images to the training images


def copy_threshold(held_out: Sequence[Nearest]) -> float:
    """The similarity that real images which nobody trained on hardly exceed.

    Of n images, fewer than a hundred, it is the highest: then another such image exceeds it one
    time in n + 1.

    Raises:
        ValueError: there are none.
    """
    if not held_out:
        raise ValueError("no held-out images to take a threshold from")
    similar = [near.similarity for near in held_out]
    return float(np.percentile(similar, PERCENTILE, method="higher"))


def copied(found: Sequence[Nearest], threshold: float) -> Stat:
    """Whether each image is nearer to a training image than `threshold`, [images, 1] of 0 and 1.

    The base's share is the figure to read an adapter's beside: asked for what a training image
    shows, even a model that never saw it may come near.
    """
    return np.array([[float(near.similarity > threshold)] for near in found]).reshape(-1, 1)


def share(stats: Sequence[Stat] | Stat) -> float | None:
    """The mean of `copied`; None for no images."""
    matrix = np.asarray(stats, dtype=np.float64)
    return float(matrix.mean()) if len(matrix) else None
