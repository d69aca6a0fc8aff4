"""How much of what the base drew an adapter's image still shows, without any further model."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

Vectors = NDArray[np.float64]
SIDE = 16  # pixels: where things are and how large, and none of their lines


def layouts(images: Sequence[Any]) -> Vectors:
    """PIL images as unit vectors of their light and dark places, [images, SIDE x SIDE]."""
    from PIL.Image import Resampling

    small = [i.convert("L").resize((SIDE, SIDE), Resampling.BOX) for i in images]
    vectors = np.stack([np.asarray(i, dtype=np.float64).ravel() for i in small])
    vectors -= vectors.mean(1, keepdims=True)
    norms = np.linalg.norm(vectors, axis=1, keepdims=True)
    placed: Vectors = vectors / np.maximum(norms, 1e-9)
    return placed


def kept_layout(images: Sequence[Any], base: Sequence[Any], prompts: Sequence[str]) -> float:
    """The share of the base's layout that images keep: 1 as the base, 0 as its other images.

    The correlation of each image with the base's image for the same prompt and seed, on a scale
    whose 0 is its correlation with the base's images for other prompts. Signs don't count: a look
    may turn dark on light round. A new look changes a layout by itself, so that even an adapter
    that keeps every thing in its place is below 1.

    Args:
        images: the adapter's, one for each of the base's.
        base: drawn for the same prompts from the same noise.
        prompts: of each image; if all are the same, 0 is no correlation at all.
    """
    likeness = np.abs(layouts(images) @ layouts(base).T)
    names = np.asarray(prompts)
    others = names[:, None] != names[None, :]
    chance = float(likeness[others].mean()) if others.any() else 0.0
    own = float(np.diag(likeness).mean())
    return (own - chance) / max(1 - chance, 1e-9)
