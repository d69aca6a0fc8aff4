"""Kept layout: how much of the base's composition an adapter's image keeps, without a model."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

Vectors = NDArray[np.float64]
SIDE = 16  # pixels; enough for the place and size of things, too few for their outlines


def layouts(images: Sequence[Any]) -> Vectors:
    """Turn PIL images into unit vectors of their light and dark areas, [images, SIDE x SIDE]."""
    from PIL.Image import Resampling

    small = [i.convert("L").resize((SIDE, SIDE), Resampling.BOX) for i in images]
    vectors = np.stack([np.asarray(i, dtype=np.float64).ravel() for i in small])
    vectors -= vectors.mean(1, keepdims=True)
    norms = np.linalg.norm(vectors, axis=1, keepdims=True)
    placed: Vectors = vectors / np.maximum(norms, 1e-9)
    return placed


def kept_layout(images: Sequence[Any], base: Sequence[Any], prompts: Sequence[str]) -> float:
    """Compute the share of the base's layout that images keep.

    It is the correlation of each image with the base's image for the same prompt and seed. 1 is
    the base's image itself; 0 is the mean correlation with the base's images for other prompts.
    The sign is ignored, because a style may swap dark and light. A new style changes the layout
    by itself, so even an adapter that keeps everything in its place stays below 1.

    Args:
        images: the adapter's images, one for each image of the base.
        base: the base's images for the same prompts and noise.
        prompts: prompt of each image; if all are the same, 0 means no correlation.
    """
    likeness = np.abs(layouts(images) @ layouts(base).T)
    names = np.asarray(prompts)
    others = names[:, None] != names[None, :]
    chance = float(likeness[others].mean()) if others.any() else 0.0
    own = float(np.diag(likeness).mean())
    return (own - chance) / max(1 - chance, 1e-9)
