"""CLIP score and prompt match: does an image show its prompt, and does an adapter keep that?

Source: Hessel et al., EMNLP 2021 (without their factor of 2.5), computed like torchmetrics'
`CLIPScore`. Prompt match is the same score from a smaller model. That model must first show on real
images that it can find prompts.
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
    "How well image and caption fit, measured by CLIP.",
    higher_is_better=True,
)
PROMPT_MATCH = Quantity(
    "prompt match",
    "prompt match (0 to 100)",
    "How well image and caption fit, measured by mmtune's small scorer.",
    higher_is_better=True,
)
TOLERANCE = 0.1  # share of the gap between matched and shuffled prompts that may be lost


def clip_scores(images: Vectors, texts: Vectors) -> Stat:
    """Score each image with its text, 100 · max(cos, 0): [items, 1].

    Args:
        images: embeddings of the images, [items, width]; their norms don't matter.
        texts: embeddings of the prompts in the same space, [items, width].
    """
    cosine = (_unit(images) * _unit(texts)).sum(1, keepdims=True)
    return np.asarray(100 * np.maximum(cosine, 0), dtype=np.float64)


def mean_score(stats: Sequence[Stat] | Stat) -> float | None:
    """Mean over items; None without items."""
    matrix = np.asarray(stats, dtype=np.float64)
    return float(matrix.mean()) if len(matrix) else None


def shuffled(prompts: Sequence[str]) -> list[int]:
    """Give each item the index of an item with another prompt.

    The distinct prompts are rotated by half of their number.

    Raises:
        ValueError: all prompts are the same.
    """
    distinct = list(dict.fromkeys(prompts))
    if len(distinct) < 2:
        raise ValueError("shuffling needs two different prompts or more")
    first = {prompt: prompts.index(prompt) for prompt in distinct}
    turn = len(distinct) // 2
    other = {p: distinct[(i + turn) % len(distinct)] for i, p in enumerate(distinct)}
    return [first[other[prompt]] for prompt in prompts]


def similarities(
    images: Vectors, texts: Vectors, prompts: Sequence[str]
) -> tuple[Vectors, Vectors]:
    """Compute the cosine of each image with each different prompt, and with its own.

    Args:
        images, texts: embeddings of the items' images and prompts, [items, width].
        prompts: prompt of each item.

    Returns:
        [items, different prompts] and [items, 1].
    """
    distinct = list(dict.fromkeys(prompts))
    candidates = _unit(texts)[[list(prompts).index(prompt) for prompt in distinct]]
    likeness: Vectors = _unit(images) @ candidates.T
    own = np.array([distinct.index(prompt) for prompt in prompts])
    return likeness, np.take_along_axis(likeness, own[:, None], 1)


@dataclass(frozen=True)
class Recall:
    """Recall of prompts: for `share` of the images, their own prompt is among the best `at`."""

    share: float
    at: int
    prompts: int

    def __str__(self) -> str:
        return f"recall@{self.at} {self.share:.2f} of {self.prompts} captions"


def recall(images: Vectors, texts: Vectors, prompts: Sequence[str]) -> Recall:
    """Compute the share of images whose own prompt is among the k prompts that match best.

    k is 5. With fewer than 20 distinct prompts it is a quarter of their number, so that chance
    gives at most 0.25 from four prompts on.

    Args:
        images: embeddings of the images, [items, width].
        texts: embeddings of the items' prompts, [items, width].
        prompts: prompt of each item.
    """
    likeness, right = similarities(images, texts, prompts)
    distinct = likeness.shape[1]
    at = min(5, max(1, distinct // 4))
    # Ties count as not found, so a scorer that gives all prompts one score finds none.
    before = (likeness >= right).sum(1) - 1
    return Recall(float((before < at).mean()), at, distinct)


@dataclass(frozen=True)
class PromptCheck:
    """Whether a scorer can tell prompts apart, and whether an adapter still follows prompts.

    Attributes:
        matched: score of real images with their own captions.
        shuffled: score of the same images with captions of other images.
        gap: matched - shuffled, from paired resampling.
        valid: whether the gap's interval is above 0 and enough prompts are found; otherwise the
            scorer can't judge these images.
        kept: whether the lower end of adapter - base is at least -`TOLERANCE` times the gap.
        recalled: recall of the real images' prompts.
        on: which images count as real, for messages.
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
        loss = "kept: the adapter loses less than " if self.kept else "not shown to lose less than "
        return loss + limit + ("" if self.recalled is None else f"; {self.on}: {self.recalled}")


def check_prompts(
    matched: Stat,
    other: Stat,
    difference: Interval,
    clusters: Sequence[str],
    recalled: Recall | None = None,
    least: float = 0.0,
    on: str = "real images",
) -> PromptCheck:
    """Check a scorer on real images, and an adapter with that scorer.

    Args:
        matched: scores of real images with their own captions, [images, 1].
        other: scores of the same images with captions of other images, [images, 1].
        difference: interval of adapter - base of the scores.
        clusters: prompt of each real image.
        recalled: recall of the real images' prompts, if the scorer must reach `least`.
        least: the least recall of a valid scorer.
        on: which images count as real, for messages.
    """
    low, high, gap = paired_bootstrap(list(other), list(matched), mean_score, clusters=clusters)
    valid = gap.low > 0 and (recalled is None or recalled.share >= least)
    kept = valid and difference.low >= -TOLERANCE * gap.value
    return PromptCheck(high, low, gap, valid, kept, recalled, on)


def _unit(vectors: Vectors) -> Vectors:
    norms: Vectors = np.linalg.norm(vectors, axis=1, keepdims=True)
    return vectors / np.maximum(norms, 1e-12)
