"""Does an image show what its prompt says? CLIP score, and whether an adapter keeps it.

Hessel et al., EMNLP 2021 (without their factor of 2.5), as torchmetrics' `CLIPScore` computes it.
Prompt match is the same of a smaller scorer, which has to show more before it judges.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mmtune.metrics.bootstrap import Interval, paired_bootstrap
from mmtune.metrics.metric import Quantity, Stat

Vectors = NDArray[np.float64]
CLIP_SCORE = Quantity(
    "CLIP score",
    "CLIP score (0 to 100)",
    "How well image and caption fit, as CLIP sees.",
    higher_is_better=True,
)
PROMPT_MATCH = Quantity(
    "prompt match",
    "prompt match (0 to 100)",
    "How well image and caption fit, as a small home-trained net sees.",
    higher_is_better=True,
)
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
class Recall:
    """Retrieval of prompts: `share` of the images had theirs among the best `at` of `prompts`."""

    share: float
    at: int
    prompts: int

    def __str__(self) -> str:
        return f"recall@{self.at} {self.share:.2f} of {self.prompts} captions"


def recall(images: Vectors, texts: Vectors, prompts: Sequence[str]) -> Recall:
    """The share of images whose own prompt is among the k that match it best.

    k is 5, or of fewer than 20 distinct prompts a quarter of them, so that chance is at most 0.25
    from four prompts on.

    Args:
        images: embeddings, [items, width].
        texts: the same of the items' prompts, in their order.
        prompts: of each item.
    """
    distinct = list(dict.fromkeys(prompts))
    at = min(5, max(1, len(distinct) // 4))
    candidates = _unit(texts)[[prompts.index(prompt) for prompt in distinct]]
    likeness = _unit(images) @ candidates.T
    own = np.array([distinct.index(prompt) for prompt in prompts])
    right = np.take_along_axis(likeness, own[:, None], 1)
    # A scorer that gives all prompts the same finds none.
    before = (likeness >= right).sum(1) - 1
    return Recall(float((before < at).mean()), at, len(distinct))


@dataclass(frozen=True)
class PromptCheck:
    """Whether a scorer can tell prompts apart, and whether an adapter still follows them.

    Attributes:
        matched: score of real images with their own captions.
        shuffled: of the same images with captions of others.
        gap: matched - shuffled, in pairs.
        valid: whether the gap's interval is above 0 and enough prompts are found; otherwise the
            scorer can't judge these images.
        kept: whether the lower end of adapter - base is no less than -`TOLERANCE` of the gap.
        recalled: of the real images' prompts.
        on: what the "real" images are.
    """

    matched: Interval
    shuffled: Interval
    gap: Interval
    valid: bool
    kept: bool
    recalled: Recall | None = None
    on: str = "real images"

    def __str__(self) -> str:
        found = "" if self.recalled is None else f" ({self.recalled})"
        if not self.valid:
            return f"not valid: this scorer can't tell these captions apart on {self.on}{found}"
        limit = (
            f"{TOLERANCE:.0%} of the gap between own and others' captions ({self.gap.value:.2f})"
        )
        said = "kept: loses surely less than " if self.kept else "not shown to be kept within "
        return said + limit + ("" if self.recalled is None else f"; {self.on}: {self.recalled}")


def check_prompts(
    matched: Stat,
    other: Stat,
    difference: Interval,
    clusters: Sequence[str],
    recalled: Recall | None = None,
    least: float = 0.0,
    on: str = "real images",
) -> PromptCheck:
    """Judge a scorer by real images, and an adapter by that scorer.

    Args:
        matched: scores of real images with their captions, [images, 1].
        other: of the same images with captions of others, [images, 1].
        difference: of the scores, adapter - base.
        clusters: prompt of each real image.
        recalled: of the real images' prompts, of a scorer that must find at least the share
            `least` of them.
        on: what the real images are, for words.
    """
    low, high, gap = paired_bootstrap(list(other), list(matched), mean_score, clusters=clusters)
    valid = gap.low > 0 and (recalled is None or recalled.share >= least)
    kept = valid and difference.low >= -TOLERANCE * gap.value
    return PromptCheck(high, low, gap, valid, kept, recalled, on)


def _unit(vectors: Vectors) -> Vectors:
    norms: Vectors = np.linalg.norm(vectors, axis=1, keepdims=True)
    return vectors / np.maximum(norms, 1e-12)
