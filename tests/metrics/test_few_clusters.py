"""Intervals over few clusters, and of rare events: held to scipy, and to a known truth."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import stats

from mmtune.metrics.bootstrap import SKEWED_CLUSTERS, bootstrap, paired_bootstrap
from mmtune.metrics.rare import rare_difference


def mean(values: NDArray[np.float64]) -> float:
    return float(values.mean())


@pytest.mark.parametrize("clusters", [5, 12, 40])
def test_the_interval_holds_students_t(clusters: int) -> None:
    """Of a plain mean the jackknife's interval is Student's, and no interval is narrower."""
    values = np.random.default_rng(clusters).exponential(size=(clusters, 1))
    found = bootstrap(list(values), mean)
    low, high = stats.t.interval(
        0.95, clusters - 1, loc=values.mean(), scale=stats.sem(values[:, 0])
    )
    drawn = [
        values[np.random.default_rng(0).integers(clusters, size=(1000, clusters))[i]].mean()
        for i in range(1000)
    ]
    assert found.value == pytest.approx(values.mean())
    assert found.low <= max(low, min(drawn)) + 1e-9
    assert found.high >= min(high, max(drawn)) - 1e-9
    assert found.high - found.low < 2.5 * (high - low)


def test_items_of_a_cluster_are_left_out_together() -> None:
    rng = np.random.default_rng(0)
    speakers = rng.normal(size=12)
    values = [np.array([each]) for each in np.repeat(speakers, 10)]
    together = bootstrap(values, mean, clusters=list(np.repeat(np.arange(12), 10)))
    once = bootstrap([np.array([each]) for each in speakers], mean)
    assert (together.low, together.high) == pytest.approx((once.low, once.high))


def test_a_share_stays_a_share() -> None:
    hits = [np.array([1.0])] * 14 + [np.array([0.0])]
    found = bootstrap(hits, mean)
    assert 0 <= found.low < found.value < found.high <= 1


def test_where_all_are_equal_the_interval_is_the_value() -> None:
    found = bootstrap([np.array([0.5])] * 20, mean)
    assert (found.value, found.low, found.high) == (0.5, 0.5, 0.5)


def test_differences_of_few_speakers_are_held() -> None:
    """Few speakers lose much and most lose little, as word errors do; twelve are few."""
    truth, rounds, held, plain = 0.02, 150, 0, 0
    rng = np.random.default_rng(3)
    for seed in range(rounds):
        gain = rng.gamma(2, truth / 2, size=(12, 1))
        base = rng.normal(0.3, 0.1, size=(12, 1))
        _, _, found = paired_bootstrap(list(base), list(base + gain), mean, rounds=199, seed=seed)
        held += found.low <= truth <= found.high
        drawn = gain[np.random.default_rng(seed).integers(12, size=(199, 12)), 0].mean(axis=1)
        low, high = np.quantile(drawn, [0.025, 0.975])
        plain += low <= truth <= high
    assert held / rounds > 0.90
    assert held > plain + 3, "percentiles alone hold it less often"


def test_rare_limits_are_garwoods() -> None:
    base, adapter = np.zeros((400, 2)), np.zeros((400, 2))
    base[:, 1] = adapter[:, 1] = 1
    adapter[:3, 0] = 1
    found = rare_difference(list(base), list(adapter))
    assert found is not None
    high = stats.chi2.ppf(0.975, 8) / 2
    assert found.high == pytest.approx((3 + (high - 3)) / 400)
    assert found.value == pytest.approx(3 / 400)
    assert found.low < 0 < found.high
    turned = rare_difference(list(adapter), list(base))
    assert turned is not None
    assert (turned.low, turned.high) == pytest.approx((-found.high, -found.low))
    assert rare_difference(list(base), list(base)) is None


def test_events_of_one_speaker_count_once() -> None:
    """Ten rows of one speaker say less than a row of each of ten speakers."""
    base, adapter = np.zeros((300, 2)), np.zeros((300, 2))
    base[:, 1] = adapter[:, 1] = 1
    adapter[:10, 0] = 1
    alone = rare_difference(list(base), list(adapter))
    together = rare_difference(list(base), list(adapter), [i // 10 for i in range(300)])
    assert alone is not None
    assert together is not None
    assert together.high > 1.5 * alone.high
    assert together.value == alone.value


@pytest.mark.parametrize("share", [0.005, 0.01, 0.03])
def test_rare_events_are_held(share: float) -> None:
    rng, rounds, above = np.random.default_rng(1), 400, 0
    for _ in range(rounds):
        base, adapter = np.ones((300, 2)), np.ones((300, 2))
        base[:, 0] = rng.random(300) < 0.01
        adapter[:, 0] = np.maximum(base[:, 0], rng.random(300) < share)
        found = rare_difference(list(base), list(adapter))
        truth = share * 0.99
        high = found.high if found is not None else 3 / 300  # the rule for no event
        above += high < truth
    assert above / rounds < 0.05


def test_from_a_hundred_clusters_on_the_tails_are_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of fewer clusters the tails are narrower, so the interval is wider."""
    values = list(np.random.default_rng(1).exponential(size=(SKEWED_CLUSTERS, 1)))
    usual = [bootstrap(values[:n], mean) for n in (SKEWED_CLUSTERS, SKEWED_CLUSTERS - 1)]
    monkeypatch.setattr("mmtune.metrics.bootstrap.SKEWED_TAIL", 1.0)
    whole = [bootstrap(values[:n], mean) for n in (SKEWED_CLUSTERS, SKEWED_CLUSTERS - 1)]
    assert (usual[0].low, usual[0].high) == (whole[0].low, whole[0].high)
    assert usual[1].high > whole[1].high
