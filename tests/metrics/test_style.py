"""The style score on sets whose distances are known."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from mmtune.image.image_row import ImageRow
from mmtune.metrics.bootstrap import Interval
from mmtune.metrics.image.style import (
    MIN_HELD_OUT,
    StyleDistance,
    StyleScore,
    control_score,
    style_score,
)
from mmtune.predict import Prediction


def rows_of(images: object) -> np.ndarray:
    return np.asarray(images, dtype=np.float64)


def gauss(mean: float, deviation: float, n: int = 60, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(mean, deviation, (n, 5))


def metric(reference: np.ndarray) -> StyleDistance:
    return StyleDistance(rows_of, list(reference))


def test_distance_is_the_wasserstein_distance_of_diagonal_gaussians() -> None:
    """Against the general formula with full covariance matrices, by matrix square roots."""
    x, r = gauss(1.0, 2.0), gauss(0.0, 1.0, seed=1)
    found = metric(r)
    mean, deviation = x.mean(0) / found.feature_scale, x.std(0) / found.feature_scale
    a, b = torch.diag(torch.tensor(deviation**2)), torch.diag(torch.tensor(found.deviation**2))
    cross = torch.linalg.eigvals(a @ b).real.sqrt().sum()
    squared = float(np.sum((mean - found.mean) ** 2)) + float(a.trace() + b.trace() - 2 * cross)
    assert distance(found, x) == pytest.approx(math.sqrt(squared / 5))


def distance(metric: StyleDistance, images: np.ndarray) -> float:
    found = metric.reduce(metric.statistics(list(images)))
    assert found is not None
    return found


def test_observe_and_reduce_agree_with_the_whole_set() -> None:
    x, found = gauss(1.0, 1.0), metric(gauss(0.0, 1.0, seed=1))
    stats = [
        found.observe(ImageRow(id="a", image="a.png", caption="a"), Prediction("a", v)) for v in x
    ]
    assert found.reduce(stats) == pytest.approx(distance(found, x))
    assert found.reduce(stats[:1]) is None
    assert found.reduce([]) is None
    assert distance(metric(x), x) == pytest.approx(0, abs=1e-6)


def test_a_uniform_set_is_not_the_brand() -> None:
    """The mean image of a brand has the smallest mean distance to it, and isn't its style."""
    brand = gauss(0.0, 1.0)
    collapsed = np.repeat(brand.mean(0, keepdims=True), 20, axis=0)
    found = metric(brand)
    assert distance(found, collapsed) > 3 * distance(found, gauss(0.0, 1.0, seed=3))


def test_features_that_never_vary_do_not_rule() -> None:
    brand = gauss(0.0, 1.0)
    brand[:, 0] = 7.0
    moved = gauss(0.0, 1.0, seed=2)
    moved[:, 0] = 7.001
    assert distance(metric(brand), moved) < 0.5
    with pytest.raises(ValueError, match="two reference images"):
        metric(brand[:1])


def scored(adapter: float, base: float = 4.0) -> StyleScore:
    """A set at `adapter` between the brand (0) and the base, two images a prompt."""
    found = metric(gauss(0.0, 1.0, n=100, seed=9))
    prompts = [str(i // 2) for i in range(60)]
    content = gauss(0.0, 1.0, seed=1)
    return style_score(
        found,
        found.statistics(list(content + base)),
        found.statistics(list(content + adapter)),
        found.statistics(list(gauss(0.0, 1.0, seed=2))),
        prompts,
    )


def test_the_scale_has_the_base_at_0_and_the_brand_at_1() -> None:
    assert scored(4.0).score.value == pytest.approx(0)
    assert scored(0.0).score.value == pytest.approx(1, abs=0.06)
    halfway = scored(2.0).score
    assert 0.4 < halfway.low < halfway.value < halfway.high < 0.6
    assert scored(6.0).score.value < -0.3  # farther from the brand than the base


def test_a_base_that_already_looks_like_the_brand_gives_no_score() -> None:
    same = scored(0.0, base=0.0)
    assert not same.measurable
    assert same.base.low <= 0
    assert math.isnan(same.score.value)
    assert same.reason.startswith("the base is as near to the brand")


def test_unequal_sets_are_refused() -> None:
    found = metric(gauss(0.0, 1.0))
    stats = found.statistics(list(gauss(0.0, 1.0)))
    with pytest.raises(ValueError, match="paired images differ"):
        style_score(found, stats, stats[:-1], stats, ["p"] * len(stats))


def sets(n: int, way: float, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Base, adapter and real images of `n` captions; `way` of the base's distance is gone.

    The deviations are equal and the means 1 apart, so the true score is `way`.
    """
    rng = np.random.default_rng(seed)
    subject = rng.normal(size=(n, 5))

    def drawn(mean: float) -> np.ndarray:
        return 0.6 * subject + rng.normal(mean, 0.8, (n, 5))

    return drawn(1.0), drawn(1.0 - way), drawn(0.0)


@pytest.mark.parametrize("way", [0.3, 0.6, 0.9])
def test_the_score_does_not_depend_on_how_many_images_are_held_out(way: float) -> None:
    """Of plain distances it is 0.1 to 0.3 too high at 20 images; the true value is `way`."""
    found = metric(gauss(0.0, 1.0, n=300))
    for n in (20, 40):
        scores = []
        for seed in range(60):
            base, adapter, real = (found.statistics(list(x)) for x in sets(n, way, seed))
            scores.append(style_score(found, base, adapter, real, range(n)).score)
        assert np.mean([s.value for s in scores]) == pytest.approx(way, abs=0.05)
        assert np.mean([s.low <= way <= s.high for s in scores]) >= 0.88


def test_few_held_out_images_give_no_score() -> None:
    found = metric(gauss(0.0, 1.0, n=300))
    for n in (1, 2, MIN_HELD_OUT - 1, MIN_HELD_OUT):
        base, adapter, real = (found.statistics(list(x)) for x in sets(n, 0.5, 1))
        # Two seeds of a caption aren't two captions.
        twice = [np.repeat(x, 2, axis=0) for x in (base, adapter, real)]
        score = style_score(found, *twice, [i // 2 for i in range(2 * n)])
        if n < MIN_HELD_OUT:
            assert not score.measurable
            assert math.isnan(score.score.value)
            assert f"{n} held-out images are too few; 15 are needed" in score.reason
        else:
            assert "too few" not in score.reason


def test_controls_stand_on_the_same_scale() -> None:
    found = metric(gauss(0.0, 1.0, n=100, seed=9))
    prompts = [str(i // 2) for i in range(60)]
    base = found.statistics(list(gauss(4.0, 1.0, seed=1)))
    real = found.statistics(list(gauss(0.0, 1.0, seed=2)))

    def placed(images: np.ndarray, clusters: list[str] | None = None) -> Interval:
        stats = found.statistics(list(images))
        return control_score(found, base, real, prompts, stats, clusters)

    again = placed(gauss(4.0, 1.0, seed=7), prompts)
    assert again.low < 0 < again.high
    assert abs(again.value) < 0.1
    other = placed(gauss(3.0, 1.0, n=25, seed=5))  # nearer than the base, and another style
    assert 0.1 < other.low < other.value < other.high < 0.4
    assert placed(gauss(0.0, 1.0, n=50, seed=6)).value == pytest.approx(1, abs=0.05)
    itself = control_score(found, base, real, prompts, base, prompts)
    assert (itself.value, itself.low, itself.high) == pytest.approx((0, 0, 0), abs=1e-6)
