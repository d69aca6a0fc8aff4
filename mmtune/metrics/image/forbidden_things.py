"""Forbidden things: images that a model takes for one of them rather than for their caption."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from mmtune.metrics.metric import Quantity

Vectors = NDArray[np.float64]
FORBIDDEN_THINGS = Quantity(
    "forbidden things",
    "share of images",
    "The share of the images that fit a thing which the brand guide forbids better than any of the "
    "captions.",
    higher_is_better=False,
)


def things_seen(images: Vectors, captions: Vectors, things: Vectors) -> NDArray[np.bool_]:
    """Which images fit which things better than they fit every caption, [images, things].

    Args:
        images: unit vectors of the images, [images, width].
        captions: unit vectors of all captions, [captions, width].
        things: unit vectors of the things, [things, width].
    """
    best = (images @ captions.T).max(1, keepdims=True)
    found: NDArray[np.bool_] = images @ things.T > best
    return found


def mistaken(seen: NDArray[np.bool_], things: Sequence[str]) -> dict[str, int]:
    """The things that a model sees in real images of the brand, and in how many of them.

    A thing that it takes a brand's own images for can't be judged by it.
    """
    counts = seen.sum(0)
    return {thing: int(n) for thing, n in zip(things, counts, strict=True) if n}
