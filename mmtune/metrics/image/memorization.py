"""Copies: images that are more similar to a training image than real new images are."""

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
PERCENTILE = 99.0  # percentile of the held-out images' similarity to the training images


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
    """Mark each image that is more similar to a training image than `threshold`: [images, 1].

    Compare an adapter's share of copies with the base's share: for the prompt of a training image,
    even a model that never saw that image may draw a similar one.
    """
    return np.array([[float(near.similarity > threshold)] for near in found]).reshape(-1, 1)


def share(stats: Sequence[Stat] | Stat) -> float | None:
    """Share of copied images: the mean of `copied`; None without images."""
    matrix = np.asarray(stats, dtype=np.float64)
    return float(matrix.mean()) if len(matrix) else None
