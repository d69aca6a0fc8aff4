"""Style score: where images lie between the base model's images (0) and the brand's (1)."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mmtune.data.rows import Row
from mmtune.metrics.bootstrap import Interval, bootstrap, interval_of, resample_counts
from mmtune.metrics.metric import Quantity, Stat
from mmtune.predict import Prediction

Vectors = NDArray[np.float64]
Describe = Callable[[Sequence[Any]], Vectors]
# Least deviation of a feature, as a share of the median deviation: otherwise a feature that hardly
# varies would dominate the distance.
FLOOR = 0.1
STYLE_QUANTITY = Quantity(
    "style",
    "style (0 = base, 1 = brand)",
    "How far the look is on the way from the base's to the brand's own new images.",
    higher_is_better=True,
    says="Its pictures are {adapter} of the way from the base's look to the brand's.",
)


class StyleDistance:
    """The 2-Wasserstein distance between a set of images and a brand's reference images.

    Both sets of style vectors are treated as Gaussians with diagonal covariance, with features in
    units of the reference's deviation. With means m and deviations s (Dowson & Landau 1982):

        W2(X, R)^2 = mean over features of (m_X - m_R)^2 + (s_X - s_R)^2

    A uniform set is far from a varied brand; a mean of pairwise distances would reward it. Even
    new images of the brand have a small distance, by chance. So compare only sets of equal size.

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
        first, second = np.split(means, 2)
        deviation = np.sqrt(np.maximum(second - first**2, 0))
        gaps = (first - self.mean) ** 2 + (deviation - self.deviation) ** 2
        return float(np.sqrt(gaps.mean()))

    def distance(self, images: Sequence[Any]) -> float:
        """Compute the distance of a set of images; nan for fewer than two images."""
        value = self.reduce(self.statistics(images)) if len(images) > 1 else None
        return float("nan") if value is None else value


def on_scale(distance: float, base: float, real: float) -> float:
    """Place a distance on the scale from the base's images (0) to held-out real images (1).

    It is nan if the base's images are as near to the brand as the brand's own images.
    """
    return (base - distance) / (base - real) if base > real else float("nan")


@dataclass(frozen=True)
class StyleScore:
    """An adapter's style on the scale from base to brand.

    Attributes:
        score: 0 = base, 1 = held-out real images; nan if it isn't measurable.
        scale: distance of the base minus distance of real held-out images.
        measurable: whether the scale's interval excludes 0. Otherwise these images don't show that
            the base differs from the brand, and the score would be a division by chance.
        base, adapter, difference: distances from the brand; lower is better.
        real: distance of the held-out real images.
    """

    score: Interval
    scale: Interval
    measurable: bool
    base: Interval
    adapter: Interval
    difference: Interval
    real: float


def style_score(
    metric: StyleDistance,
    base: Stat,
    adapter: Stat,
    real: Stat,
    prompts: Sequence[str],
    *,
    rounds: int = 1000,
    seed: int = 0,
) -> StyleScore:
    """Compute the style score with bootstrap intervals over prompts.

    Args:
        metric: the distance to the brand.
        base: statistics of the base's images, [images, 2 x features].
        adapter: statistics of the adapter's images for the same prompts and seeds, in order.
        real: statistics of the brand's held-out image for each prompt, repeated for each seed.
        prompts: prompt of each image; images of one prompt are resampled together.
        rounds: number of resamples.
        seed: random seed of the resamples.

    Raises:
        ValueError: the lengths differ.
    """
    if not len(base) == len(adapter) == len(real) == len(prompts):
        raise ValueError(
            f"paired images differ: {len(base)}, {len(adapter)}, {len(real)}, {len(prompts)}"
        )
    width = base.shape[1]
    joined = np.concatenate([base, adapter, real], axis=1)
    known: dict[bytes, tuple[float, float, float]] = {}

    def distances(drawn: Stat) -> tuple[float, float, float]:
        # All figures use the same resamples. A resample is identified by its count of each image,
        # so its thousands of features are averaged only once.
        counts = np.bincount(drawn[:, 0].astype(np.intp), minlength=len(joined))
        key = counts.tobytes()
        if key not in known:
            means = (counts / counts.sum()) @ joined
            parts = (means[i * width : (i + 1) * width] for i in range(3))
            first, second, third = (metric.of_means(part) for part in parts)
            known[key] = first, second, third
        return known[key]

    positions = np.arange(len(joined), dtype=np.float64)[:, None]

    def boot(figure: Callable[[float, float, float], float]) -> Interval:
        def reduce(drawn: Stat) -> float | None:
            value = figure(*distances(drawn))
            return value if np.isfinite(value) else None

        return bootstrap(list(positions), reduce, clusters=prompts, rounds=rounds, seed=seed)

    scale = boot(lambda b, a, r: b - r)
    measurable = scale.low > 0
    undefined = Interval(float("nan"), float("nan"), float("nan"))
    return StyleScore(
        score=boot(lambda b, a, r: on_scale(a, b, r)) if measurable else undefined,
        scale=scale,
        measurable=measurable,
        base=boot(lambda b, a, r: b),
        adapter=boot(lambda b, a, r: a),
        difference=boot(lambda b, a, r: a - b),
        real=distances(positions)[2],
    )


def control_score(
    metric: StyleDistance,
    base: Stat,
    real: Stat,
    prompts: Sequence[Hashable],
    control: Stat,
    clusters: Sequence[Hashable] | None = None,
    *,
    rounds: int = 1000,
    seed: int = 0,
) -> Interval:
    """Place control images on the scale from base (0) to held-out real images (1).

    Another style should be far below 1, and the base's images of other seeds should be at 0. If
    they aren't, the scale tells little about an adapter.

    Args:
        metric, base, real, prompts, rounds, seed: as for `style_score`.
        control: statistics of the control images, at least two.
        clusters: prompt of each control image; images of one prompt are drawn together. If equal
            to `prompts`, they are drawn together with base and real images. None: each image is
            drawn by itself.
    """
    if clusters is not None and list(clusters) == list(prompts):
        counts = others = resample_counts(len(base), prompts, rounds, seed)
    else:
        counts = resample_counts(len(base), prompts, rounds, seed)
        others = resample_counts(len(control), clusters, rounds, seed + 1)

    def distances(stats: Stat, counts: Stat) -> Stat:
        means = counts / counts.sum(1, keepdims=True) @ stats
        return np.array([metric.of_means(mean) for mean in means])

    def scores(of: Stat, zero: Stat, one: Stat) -> Stat:
        return np.array([on_scale(*each) for each in zip(of, zero, one, strict=True)])

    sets = ((control, others), (base, counts), (real, counts))
    [value] = scores(*(distances(s, np.ones((1, len(s)))) for s, _ in sets))
    return interval_of(value, scores(*(distances(s, c) for s, c in sets)))
