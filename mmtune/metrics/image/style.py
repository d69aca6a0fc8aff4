"""Style score: where images lie between the base model's images (0) and the brand's (1)."""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mmtune.data.rows import Row
from mmtune.metrics.bootstrap import UNDEFINED, Interval
from mmtune.metrics.jackknife import jackknife, leave_one_out
from mmtune.metrics.metric import Quantity, Stat
from mmtune.predict import Prediction

Vectors = NDArray[np.float64]
Describe = Callable[[Sequence[Any]], Vectors]
# Least deviation of a feature, as a share of the median deviation: otherwise a feature that hardly
# varies would dominate the distance.
FLOOR = 0.1
MIN_HELD_OUT = 15  # held-out images below which the score isn't measurable
STYLE_QUANTITY = Quantity(
    "style",
    "style (0 = base, 1 = brand)",
    "Where the look lies between the base's (0) and the brand's own new images (1).",
    higher_is_better=True,
    says="Its pictures are {adapter} of the way from the base's look to the brand's.",
)


class StyleDistance:
    """The 2-Wasserstein distance between a set of images and a brand's reference images.

    Both sets of style vectors are treated as Gaussians with diagonal covariance, with features in
    units of the reference's deviation. With means m and deviations s (Dowson & Landau 1982):

        W2(X, R)^2 = mean over features of (m_X - m_R)^2 + (s_X - s_R)^2

    A uniform set is far from a varied brand; a mean of pairwise distances would reward it. Even
    new images of the brand have a small distance, by chance; `style_score` corrects this bias.

    Args:
        describe: turns images into style vectors, [images, features].
        reference: the brand's images, at least two.

    Raises:
        ValueError: fewer than two reference images.
    """

    name = "style_distance"
    unit = "style distance to the brand"
    meaning = "How far the look is from the brand's; 0 is the same."
    higher_is_better = False

    def __init__(self, describe: Describe, reference: Sequence[Any]) -> None:
        if len(reference) < 2:
            raise ValueError(f"a style needs two reference images or more, not {len(reference)}")
        self.describe = describe
        vectors = describe(reference)
        deviation: Vectors = vectors.std(0)
        self.feature_scale: Vectors = np.maximum(
            deviation, FLOOR * float(np.median(deviation)) + 1e-12
        )
        self.mean = vectors.mean(0) / self.feature_scale
        self.deviation = deviation / self.feature_scale

    def observe(self, row: Row, prediction: Prediction) -> Stat:
        """One image's style vector and its squares, [2 x features]."""
        [stat] = self.statistics([prediction.value])
        return np.asarray(stat, dtype=np.float64)

    def statistics(self, images: Sequence[Any]) -> Stat:
        """The statistics of many images at once, [images, 2 x features]."""
        vectors: Vectors = self.describe(images) / self.feature_scale
        return np.concatenate([vectors, vectors**2], axis=1)

    def reduce(self, stats: Sequence[Stat] | Stat) -> float | None:
        """Distance of the set from the brand; None for fewer than two images."""
        matrix = np.asarray(stats, dtype=np.float64)
        if len(matrix) < 2:
            return None
        return self.of_means(matrix.mean(0))

    def of_means(self, means: Stat) -> float:
        """Compute the distance from a set's first and second moments, [2 x features]."""
        reference = np.concatenate([self.mean, self.deviation**2 + self.mean**2])
        return math.sqrt(float(self.squared(means, reference)))

    def squared(self, first: Vectors, second: Vectors) -> Vectors:
        """Compute the squared distance between two sets from their first and second moments.

        Args:
            first, second: [..., 2 x features].

        Returns:
            [...]: one distance for each pair of sets.
        """
        mean, square = np.split(first, 2, axis=-1)
        other_mean, other_square = np.split(second, 2, axis=-1)
        deviation = np.sqrt(np.maximum(square - mean**2, 0))
        other_deviation = np.sqrt(np.maximum(other_square - other_mean**2, 0))
        gaps: Vectors = ((mean - other_mean) ** 2 + (deviation - other_deviation) ** 2).mean(-1)
        return gaps


@dataclass(frozen=True)
class StyleScore:
    """An adapter's style on the scale from base to brand.

    Attributes:
        score: 0 = base, 1 = held-out real images; nan if it isn't measurable.
        base, adapter, difference: distances to the held-out real images; lower is better.
        reason: why the score isn't measurable; empty if it is. There must be `MIN_HELD_OUT`
            held-out images, and the interval of the base's distance must exclude 0. Otherwise these
            images don't show that the base differs from the brand, and the score would be a
            division by chance.
    """

    score: Interval
    base: Interval
    adapter: Interval
    difference: Interval
    reason: str = ""

    @property
    def measurable(self) -> bool:
        """Whether there is a score."""
        return not self.reason


def style_score(
    metric: StyleDistance, base: Stat, adapter: Stat, real: Stat, prompts: Sequence[Hashable]
) -> StyleScore:
    """Place the adapter's images between the base's (0) and the brand's held-out images (1).

        score = 1 - d(adapter, real) / d(base, real)

    with the distance of `StyleDistance` in units of the training images' deviation. All three sets
    show the same prompts. A distance between two sets is too large by about the variance over their
    number, so the quotient of raw distances depends on how many images are held out. The squared
    distances are therefore corrected by a jackknife over prompts. The interval is Fieller's for
    their ratio. docs/evaluation.md has its measured bias and coverage.

    Args:
        metric: the distance.
        base: statistics of the base's images, [images, 2 x features].
        adapter: statistics of the adapter's images for the same prompts and seeds, in order.
        real: statistics of the brand's held-out image for each prompt, repeated for each seed.
        prompts: prompt of each image; images of one prompt stay together.

    Raises:
        ValueError: the lengths differ.
    """
    if not len(base) == len(adapter) == len(real) == len(prompts):
        raise ValueError(
            f"paired images differ: {len(base)}, {len(adapter)}, {len(real)}, {len(prompts)}"
        )
    held_out = len(set(prompts))
    if held_out < 2:
        return StyleScore(UNDEFINED, UNDEFINED, UNDEFINED, UNDEFINED, _too_few(held_out))
    means, without = leave_one_out(np.stack([base, adapter, real]), prompts)

    def figures(moments: Vectors) -> Vectors:
        # Squared distances of base and adapter; and adapter - base of the distances themselves.
        squares = metric.squared(moments[..., :2, :], moments[..., 2:, :])
        gap = np.sqrt(squares[..., 1:]) - np.sqrt(squares[..., :1])
        return np.concatenate([squares, gap], axis=-1)

    found = jackknife(figures(means), figures(without))
    first, second = (_root(found.interval(place)) for place in (0, 1))
    gap, difference = found.interval(2), second.value - first.value
    ratio, reason = found.ratio(1, 0), ""
    if held_out < MIN_HELD_OUT:
        reason = _too_few(held_out)
    elif not math.isfinite(ratio.value):
        reason = (
            "the base is as near to the brand as the brand's own held-out images are (distance "
            f"{first.value:.2f} [{first.low:.2f}, {first.high:.2f}])"
        )
    return StyleScore(
        score=UNDEFINED if reason else _on_scale(ratio),
        base=first,
        adapter=second,
        difference=Interval(
            difference, difference + gap.low - gap.value, difference + gap.high - gap.value
        ),
        reason=reason,
    )


def control_score(
    metric: StyleDistance,
    base: Stat,
    real: Stat,
    prompts: Sequence[Hashable],
    control: Stat,
    clusters: Sequence[Hashable] | None = None,
) -> Interval:
    """Place control images on the scale from base (0) to held-out real images (1).

    Another style should be far below 1, and the base's images of other seeds should be at 0. If
    they aren't, the scale tells little about an adapter.

    Args:
        metric, base, real, prompts: as for `style_score`.
        control: statistics of the control images, at least two.
        clusters: prompt of each control image. If equal to `prompts`, they are left out together
            with base and real images. None: each image is a unit by itself.
    """
    means, without = leave_one_out(np.stack([base, real]), prompts)
    if clusters is not None and list(clusters) == list(prompts):
        other, together = leave_one_out(control, clusters)
        alone = None
    else:
        other, alone = leave_one_out(control, range(len(control)) if clusters is None else clusters)
        together = np.broadcast_to(other, (len(without), len(other)))

    def figures(base: Vectors, real: Vectors, control: Vectors) -> Vectors:
        return np.stack([metric.squared(base, real), metric.squared(control, real)], axis=-1)

    parts = [figures(without[:, 0], without[:, 1], together)]
    if alone is not None:
        same = np.broadcast_to(means, (len(alone), *means.shape))
        parts.append(figures(same[:, 0], same[:, 1], alone))
    return _on_scale(jackknife(figures(means[0], means[1], other), *parts).ratio(1, 0))


def _on_scale(ratio: Interval) -> Interval:
    """1 - the root of a ratio of squared distances; a corrected one may be below 0."""
    low, high = (1 - math.sqrt(max(end, 0.0)) for end in (ratio.high, ratio.low))
    return Interval(1 - math.sqrt(max(ratio.value, 0.0)), low, high)


def _root(square: Interval) -> Interval:
    ends = (square.value, square.low, square.high)
    return Interval(*(math.sqrt(max(end, 0.0)) for end in ends))


def _too_few(held_out: int) -> str:
    return f"{held_out} held-out images are too few; {MIN_HELD_OUT} are needed"
