"""Diversity: how much the images of one prompt differ between seeds."""

from __future__ import annotations

from collections.abc import Hashable, Sequence

import numpy as np
from numpy.typing import NDArray

from mmtune.metrics.metric import Quantity, Stat

Vectors = NDArray[np.float64]
DIVERSITY = Quantity(
    "diversity",
    "mean distance of two seeds",
    "How much images of one caption differ from one another.",
    higher_is_better=True,
)


def spread(vectors: Vectors) -> float:
    """Mean distance of all pairs of vectors (root mean square over features); nan below two.

    Args:
        vectors: [images, features].
    """
    n = len(vectors)
    if n < 2:
        return float("nan")
    first, second = np.triu_indices(n, 1)
    gaps: Vectors = vectors[first] - vectors[second]
    return float(np.sqrt((gaps**2).mean(1)).mean())


def spread_by_prompt(vectors: Vectors, prompts: Sequence[Hashable]) -> Stat:
    """Compute the `spread` of each prompt's images, [prompts with two images or more, 1].

    Prompts keep the order in which they first occur, so that two sets of images for the same
    prompts can be compared in pairs.

    Raises:
        ValueError: the lengths differ.
    """
    if len(vectors) != len(prompts):
        raise ValueError(f"{len(vectors)} images but {len(prompts)} prompts")
    members: dict[Hashable, list[int]] = {}
    for i, prompt in enumerate(prompts):
        members.setdefault(prompt, []).append(i)
    values = [spread(vectors[of]) for of in members.values() if len(of) > 1]
    return np.array(values, dtype=np.float64).reshape(-1, 1)


def mean_spread(stats: Sequence[Stat] | Stat) -> float | None:
    """Mean over prompts; None without prompts."""
    matrix = np.asarray(stats, dtype=np.float64)
    return float(matrix.mean()) if len(matrix) else None
