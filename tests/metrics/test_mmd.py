"""KID and CMMD against torchmetrics and against their formulas, and their resamples."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torchmetrics.image.kid import maximum_mean_discrepancy, poly_mmd

from mmtune.metrics.bootstrap import resample_counts
from mmtune.metrics.image.mmd import KernelDistance, gaussian, polynomial


def cloud(n: int, mean: float = 0.0, seed: int = 0, unit: bool = False) -> np.ndarray:
    x = np.random.default_rng(seed).normal(mean, 1, (n, 6))
    return x / np.linalg.norm(x, axis=1, keepdims=True) if unit else x


def test_kid_is_that_of_torchmetrics() -> None:
    x, y = cloud(30, 0.4), cloud(30, seed=1)
    wanted = float(poly_mmd(torch.tensor(y), torch.tensor(x)))
    assert KernelDistance(polynomial, y).of(x) == pytest.approx(wanted)


def test_cmmd_is_its_formula() -> None:
    """Squared distances by torch.cdist, the estimator by torchmetrics."""
    x, y = cloud(25, 0.5, unit=True), cloud(25, seed=1, unit=True)

    def kernel(a: np.ndarray, b: np.ndarray) -> torch.Tensor:
        return torch.exp(-(torch.cdist(torch.tensor(a), torch.tensor(b)) ** 2) / 200)

    wanted = 1000 * float(maximum_mean_discrepancy(kernel(x, x), kernel(x, y), kernel(y, y)))
    assert KernelDistance(gaussian, y).of(x) == pytest.approx(wanted)
    assert wanted > 0


@pytest.mark.parametrize("kernel", [polynomial, gaussian])
def test_sets_of_one_kind_are_at_zero_whatever_their_sizes(kernel: object) -> None:
    far = KernelDistance(kernel, cloud(80, 2.0, seed=2)).of(cloud(40))  # type: ignore[arg-type]
    same = [
        KernelDistance(kernel, cloud(80, seed=100 + i)).of(cloud(40, seed=i))  # type: ignore[arg-type]
        for i in range(20)
    ]
    assert abs(float(np.mean(same))) < 0.02 * far
    assert min(same) < 0  # unbiased


def test_resamples_do_not_compare_an_image_with_itself() -> None:
    """With the diagonal, or with copies, the mean of the resamples would lie far above."""
    found = KernelDistance(polynomial, cloud(60, seed=1))
    x = cloud(40)
    counts = resample_counts(40, rounds=400)
    distances = found.distances(x, counts)
    assert distances.mean() == pytest.approx(found.of(x), abs=0.5 * distances.std())
    naive = [found.of(np.repeat(x, c.astype(int), axis=0)) for c in counts[:100]]
    assert np.mean(naive) > found.of(x) + distances.std()
    assert math.isnan(found.distances(x[:1], np.ones((1, 1)))[0])
    assert math.isnan(found.of(x[:1]))


def test_pairs_are_resampled_together() -> None:
    found = KernelDistance(polynomial, cloud(60, seed=1))
    prompts = [str(i // 2) for i in range(40)]
    x, y = cloud(40, 1.5, seed=2), cloud(40, 0.7, seed=3)
    base, adapter, difference = found.paired(x, y, prompts)
    assert difference.value == pytest.approx(adapter.value - base.value)
    assert difference.high < 0
    assert base.low < base.value < base.high
    assert found.interval(x, prompts) == base
    nothing = found.paired(x, x, prompts)[2]
    assert (nothing.value, nothing.low, nothing.high) == (0, 0, 0)
    with pytest.raises(ValueError, match="paired images differ"):
        found.paired(x, y[1:], prompts)
    with pytest.raises(ValueError, match="two images"):
        KernelDistance(gaussian, x[:1])


def test_counts_are_of_whole_clusters_drawn_anew() -> None:
    clusters = [i // 3 for i in range(30)]
    counts = resample_counts(30, clusters, rounds=400)
    assert counts.shape == (400, 30)
    assert (counts.sum(axis=1) == 30).all()
    assert (counts.reshape(400, 10, 3) == counts.reshape(400, 10, 3)[:, :, :1]).all()
    drawn = np.random.default_rng(0)
    first = np.bincount(drawn.integers(10, size=10), minlength=10)
    assert (counts[0].reshape(10, 3)[:, 0] == first).all()
    # Each cluster is drawn as often as each other: 400 times, give or take chance.
    assert counts[:, ::3].sum(axis=0) == pytest.approx(np.full(10, 400), abs=80)


def test_two_images_have_a_distance_and_one_has_none() -> None:
    distance = KernelDistance(polynomial, cloud(30, seed=1))
    assert math.isfinite(distance.of(cloud(2)))
    assert math.isnan(distance.of(cloud(1)))
    assert math.isnan(distance.of(cloud(0)))
