"""The jackknife against figures whose bias and interval are known exactly."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from mmtune.metrics.bootstrap import bootstrap
from mmtune.metrics.jackknife import jackknife, leave_one_out

RNG = np.random.default_rng(0)


def test_means_without_each_unit_are_those_of_the_rest() -> None:
    items, units = RNG.normal(size=(2, 7, 3)), ["a", "b", "a", "c", "c", "c", "d"]
    whole, without = leave_one_out(items, units)
    np.testing.assert_allclose(whole, items.mean(1))
    for place, unit in enumerate("abcd"):
        rest = [i for i, each in enumerate(units) if each != unit]
        np.testing.assert_allclose(without[place], items[:, rest].mean(1))


def test_a_squared_mean_becomes_the_u_statistic() -> None:
    """The mean of x_i x_j over i != j is the unbiased estimate of a squared mean."""
    x, y = RNG.normal(1, 2, (12, 1)), RNG.normal(3, 1, (5, 1))

    def unbiased(values: np.ndarray) -> float:
        products = values @ values.T
        n = len(values)
        return float((products.sum() - np.trace(products)) / (n * (n - 1)))

    first, without = leave_one_out(x, range(12))
    assert jackknife(first**2, without**2).values[0] == pytest.approx(unbiased(x))
    # Of two independent sets: (mean x - mean y)^2.
    second, other = leave_one_out(y, range(5))
    found = jackknife((first - second) ** 2, (without - second) ** 2, (first - other) ** 2)
    expected = unbiased(x) + unbiased(y) - 2 * x.mean() * y.mean()
    assert found.values[0] == pytest.approx(expected)
    assert found.units == 5


def test_the_interval_of_a_mean_is_students() -> None:
    x = RNG.normal(1, 2, (12, 1))
    found = jackknife(*leave_one_out(x, range(12))).interval(0)
    low, high = stats.t.interval(0.95, 11, x.mean(), stats.sem(x[:, 0]))
    assert (found.value, found.low, found.high) == pytest.approx((x.mean(), low, high))


def test_the_interval_of_a_ratio_is_fiellers() -> None:
    """Its ends r are where the interval of (above - r below) touches 0."""
    x = RNG.normal([2, 4], 1, (20, 2))
    found = jackknife(*leave_one_out(x, range(20)))
    ratio = found.ratio(0, 1)
    assert ratio.value == pytest.approx(x[:, 0].mean() / x[:, 1].mean())
    for end in (ratio.low, ratio.high):
        gap = x[:, 0] - end * x[:, 1]
        assert abs(gap.mean()) == pytest.approx(found.quantile * stats.sem(gap))
    near_zero = jackknife(*leave_one_out(x - [0, 4], range(20)))
    assert math.isnan(near_zero.ratio(0, 1).value)
    below = jackknife(*leave_one_out(x - [0, 9], range(20)))  # a distance below 0 isn't a scale
    assert math.isnan(below.ratio(0, 1).value)


def test_a_bootstrap_reaches_to_the_farther_of_students_and_the_studentized_ends() -> None:
    """Both as textbooks have them, of a skewed mean: the studentized upper end lies farther."""
    x, rounds = np.random.default_rng(4).lognormal(0, 1, 120), 400
    found = bootstrap([np.array([each]) for each in x], lambda m: float(m.mean()), rounds=rounds)
    error = stats.sem(x)
    draws = np.random.default_rng(0).integers(120, size=(rounds, 120))
    steps = [(x[draw].mean() - x.mean()) / stats.sem(x[draw]) for draw in draws]
    first, last = np.quantile(steps, [0.025, 0.975])
    low, high = stats.t.interval(0.95, 119, x.mean(), error)
    assert x.mean() - first * error > high  # else the test could not tell them apart
    assert found.high == pytest.approx(x.mean() - first * error)
    assert found.low == pytest.approx(min(low, x.mean() - last * error))
