"""How much of a brand's look a set of images has: 0 as the base model, 1 as the brand itself."""

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
FLOOR = 0.1  # of the median deviation: a feature that hardly varies must not rule the distance
STYLE_QUANTITY = Quantity(
    "style",
    "style (0 = base, 1 = brand)",
    "How far the look is on the way from the base's to the brand's own new images.",
    higher_is_better=True,
)


class StyleDistance:
    """2-Wasserstein distance between sets of style vectors and a brand's reference images.

    Both sets are taken as Gaussians with diagonal covariance, features in units of the
    reference's deviation, so with means m and deviations s

        W2(X, R)^2 = mean over features of (m_X - m_R)^2 + (s_X - s_R)^2

    (Dowson & Landau 1982). A set that is uniform where the brand is varied is far from it, which
    a mean of pairwise distances would reward. Even images of the brand itself are at a small
    distance, by chance; a set's distance is comparable with that of a set of the same size.

    Args:
        describe: images to style vectors, [images, features].
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
        """First and second powers of one image's style vector, [2 x features]."""
        [stat] = self.statistics([prediction.value])
        return np.asarray(stat, dtype=np.float64)

    def statistics(self, images: Sequence[Any]) -> Stat:
        """The same for many images at once, [images, 2 x features]."""
        vectors: Vectors = self.describe(images) / self.feature_scale
        return np.concatenate([vectors, vectors**2], axis=1)

    def reduce(self, stats: Sequence[Stat] | Stat) -> float | None:
        """Distance of the set to the brand; None for fewer than two images."""
        matrix = np.asarray(stats, dtype=np.float64)
        if len(matrix) < 2:
            return None
        return self.of_means(matrix.mean(0))

    def of_means(self, means: Stat) -> float:
        """Distance from the first and second moments of a set, [2 x features]."""
        first, second = np.split(means, 2)
        deviation = np.sqrt(np.maximum(second - first**2, 0))
        gaps = (first - self.mean) ** 2 + (deviation - self.deviation) ** 2
        return float(np.sqrt(gaps.mean()))

    def distance(self, images: Sequence[Any]) -> float:
        """`reduce` of images; nan for fewer than two."""
        value = self.reduce(self.statistics(images)) if len(images) > 1 else None
        return float("nan") if value is None else value


def on_scale(distance: float, base: float, real: float) -> float:
    """A distance on the scale of the base's images (0) and held-out real ones (1).

    nan where the base is no farther from the brand than the brand's own images are.
    """
    return (base - distance) / (base - real) if base > real else float("nan")


@dataclass(frozen=True)
class StyleScore:
    """The style of an adapter on the calibrated scale.

    Attributes:
        score: 0 = base, 1 = held-out real images; nan where it isn't measurable.
        scale: how much farther the base is from the brand than real held-out images are.
        measurable: whether the scale's interval excludes 0: otherwise the base already looks like
            the brand, as far as these images can tell, and a score would divide by chance.
        base, adapter, difference: distances, lower is better.
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
    """Score with bootstrap intervals over prompts.

    Args:
        base: statistics of the base's images, [images, 2 x features].
        adapter: of the adapter's images for the same prompts and seeds, in the same order.
        real: of the brand's held-out image for each prompt, repeated for each seed.
        prompts: of each image; images of one prompt are resampled together.

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
        # Every figure sees the same resamples, and a resample is known by how often it holds each
        # image: far cheaper than gathering thousands of features a thousand times.
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
    """Where other images stand on the scale of base (0) and held-out real images (1).

    A style that isn't the brand's belongs far below 1, and the base's own images of other seeds
    at 0: a scale on which they don't says little of an adapter.

    Args:
        base, real, prompts: as for `style_score`.
        control: statistics of the other images, at least two.
        clusters: prompt of each control image: those of one are drawn together. The same as
            `prompts`: they are drawn with base and real images. None: each by itself.
    """
    if clusters is not None and list(clusters) == list(prompts):
        counts = others = resample_counts(len(base), prompts, rounds, seed)
    else:
        counts = resample_counts(len(base), prompts, rounds, seed)
        others = resample_counts(len(control), clusters, rounds, seed + 1)

    def distances(stats: Stat, counts: Stat) -> Stat:
        means = counts / counts.sum(1, keepdims=True) @ stats
        return np.array([metric.of_means(mean) for mean in means])

    def placed(of: Stat, zero: Stat, one: Stat) -> Stat:
        return np.array([on_scale(*each) for each in zip(of, zero, one, strict=True)])

    sets = ((control, others), (base, counts), (real, counts))
    [value] = placed(*(distances(s, np.ones((1, len(s)))) for s, _ in sets))
    return interval_of(value, placed(*(distances(s, c) for s, c in sets)))
