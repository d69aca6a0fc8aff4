"""Does an image show what its prompt says? CLIP score, and whether an adapter keeps it.

Hessel et al., EMNLP 2021 (without their factor of 2.5), as torchmetrics' `CLIPScore` computes it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mmtune.metrics.bootstrap import Interval, paired_bootstrap
from mmtune.predict import Stat

Vectors = NDArray[np.float64]
TOLERANCE = 0.1  # of the gap between matched and shuffled prompts, that an adapter may lose


def clip_scores(images: Vectors, texts: Vectors) -> Stat:
    """100 · max(cos, 0) of each image and its text, [items, 1].

    Args:
        images: embeddings in the space that both share, [items, width], of any length.
        texts: the same of the prompts.
    """
    cosine = (_unit(images) * _unit(texts)).sum(1, keepdims=True)
    return np.asarray(100 * np.maximum(cosine, 0), dtype=np.float64)


def mean_score(stats: Sequence[Stat] | Stat) -> float | None:
    """The mean over items; None for none."""
    matrix = np.asarray(stats, dtype=np.float64)
    return float(matrix.mean()) if len(matrix) else None


def shuffled(prompts: Sequence[str]) -> list[int]:
    """For each item the index of one with another prompt: half a turn along the distinct prompts.

    Raises:
        ValueError: all prompts are the same.
    """
    distinct = list(dict.fromkeys(prompts))
    if len(distinct) < 2:
        raise ValueError("one prompt alone can't be shuffled")
    first = {prompt: prompts.index(prompt) for prompt in distinct}
    turn = len(distinct) // 2
    other = {p: distinct[(i + turn) % len(distinct)] for i, p in enumerate(distinct)}
    return [first[other[prompt]] for prompt in prompts]


@dataclass(frozen=True)
class PromptCheck:
    """Whether a scorer can tell prompts apart, and whether an adapter still follows them.

    Attributes:
        matched: score of real images with their own captions.
        shuffled: of the same images with captions of others.
        gap: matched - shuffled, in pairs.
        valid: whether the gap's interval is above 0; otherwise the scorer can't judge these images.
        kept: whether the lower end of adapter - base is no less than -`TOLERANCE` of the gap.
    """

    matched: Interval
    shuffled: Interval
    gap: Interval
    valid: bool
    kept: bool

    def __str__(self) -> str:
        if not self.valid:
            return "not valid: this scorer can't tell these captions apart on real images"
        limit = (
            f"{TOLERANCE:.0%} of the gap between own and others' captions ({self.gap.value:.2f})"
        )
        return (
            "kept: loses surely less than " if self.kept else "not shown to be kept within "
        ) + limit


def check_prompts(
    matched: Stat, other: Stat, difference: Interval, clusters: Sequence[str]
) -> PromptCheck:
    """Judge a scorer by real images, and an adapter by that scorer.

    Args:
        matched: scores of real images with their captions, [images, 1].
        other: of the same images with captions of others, [images, 1].
        difference: of the scores, adapter - base.
        clusters: prompt of each real image.
    """
    low, high, gap = paired_bootstrap(list(other), list(matched), mean_score, clusters=clusters)
    valid = gap.low > 0
    kept = valid and difference.low >= -TOLERANCE * gap.value
    return PromptCheck(matched=high, shuffled=low, gap=gap, valid=valid, kept=kept)


def _unit(vectors: Vectors) -> Vectors:
    norms: Vectors = np.linalg.norm(vectors, axis=1, keepdims=True)
    return vectors / np.maximum(norms, 1e-12)
