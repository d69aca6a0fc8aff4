"""Properties of all intervals: low <= value <= high, whatever the metric; and what a gap is."""

from __future__ import annotations

import ast
import math
from collections.abc import Callable
from functools import reduce as fold
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from mmtune.metrics.bootstrap import (
    Interval,
    bootstrap,
    interval_of,
    paired_bootstrap,
    pin_of,
    wider,
)
from mmtune.metrics.gap import GroupGap
from mmtune.metrics.image.diversity import mean_spread
from mmtune.metrics.image.mmd import KernelDistance, gaussian, polynomial
from mmtune.metrics.image.style import StyleDistance, control_score, style_score
from mmtune.metrics.text.wer import WordErrors

Matrix = NDArray[np.float64]
# Metrics that resampling shifts as far as any: extremes, spreads, numbers of different items.
REDUCES: dict[str, Callable[[Matrix], float | None]] = {
    "mean": lambda m: float(m.mean()),
    "ratio": lambda m: float(m[:, 0].sum() / m[:, 1].sum()) if m[:, 1].sum() else None,
    "largest": lambda m: float(m.max()),
    "smallest": lambda m: float(m.min()),
    "range": lambda m: float(np.ptp(m)),
    "spread": lambda m: float(m.var()),
    "different items": lambda m: float(len(np.unique(m[:, 0]))),
    "often undefined": lambda m: None if m[0, 0] < 5 else float(m[0, 0]),
}
ROWS = st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9)), min_size=1, max_size=12)


def holds_its_value(interval: Interval) -> bool:
    """Whether low <= value <= high, or none of the three is defined."""
    three = interval.low, interval.value, interval.high
    return all(map(math.isnan, three)) or three[0] <= three[1] <= three[2]


@settings(max_examples=40, deadline=None)
@given(ROWS, ROWS, st.sampled_from(sorted(REDUCES)), st.integers(1, 4), st.integers(0, 99))
def test_every_bootstrap_holds_its_value(
    first: list[tuple[int, int]],
    second: list[tuple[int, int]],
    name: str,
    clusters: int,
    seed: int,
) -> None:
    reduce = REDUCES[name]
    n = min(len(first), len(second))
    a, b = (np.asarray(each[:n], dtype=np.float64) for each in (first, second))
    ways = [None, [i % clusters for i in range(n)]]
    alone = [bootstrap(list(a), reduce, clusters=way, rounds=20, seed=seed) for way in ways]
    pairs = [
        paired_bootstrap(list(a), list(b), reduce, clusters=way, rounds=20, seed=seed)
        for way in ways
    ]
    widest = [fold(wider, each) for each in zip(*pairs, strict=True)]
    assert all(map(holds_its_value, [*alone, *(i for pair in pairs for i in pair), *widest]))


@settings(max_examples=60, deadline=None)
@given(
    st.floats(allow_infinity=False),
    st.lists(st.floats(allow_nan=True, allow_infinity=True, width=32), max_size=9),
)
def test_an_interval_of_given_resamples_holds_its_value(value: float, samples: list[float]) -> None:
    assert holds_its_value(interval_of(value, np.asarray(samples, dtype=np.float64)))


@settings(max_examples=5, deadline=None)
@given(st.integers(0, 10**6), st.integers(2, 8), st.floats(0, 3))
def test_the_measures_of_looks_hold_their_values(seed: int, images: int, shift: float) -> None:
    rng = np.random.default_rng(seed)
    base, adapter, real = (rng.normal(shift * i, 1, (images, 6)) for i in range(3))
    prompts = [str(i % 3) for i in range(images)]
    found: list[Interval] = []
    for kernel in (polynomial, gaussian):
        distance = KernelDistance(kernel, rng.normal(size=(5, 6)))
        found += [distance.interval(base, prompts), *distance.paired(base, adapter, prompts)]
    metric = StyleDistance(lambda images: np.asarray(images, dtype=np.float64), list(real))
    sets = [metric.statistics(list(each)) for each in (base, adapter, real)]
    score = style_score(metric, *sets, prompts)
    found += [score.score, score.base, score.adapter, score.difference]
    found.append(control_score(metric, sets[0], sets[2], prompts, sets[1]))
    found.append(bootstrap(list(base), lambda m: mean_spread([m]), rounds=50))
    assert all(map(holds_its_value, found))


def gap_of(groups: list[list[tuple[int, int]]]) -> tuple[GroupGap, list[Matrix]]:
    """A gap of word error rates, and the statistics of its items (errors, words), by group."""
    metric = GroupGap(WordErrors("en"), {})
    rows = [
        np.array([errors, 0, 0, words, number], dtype=np.float64)
        for number, items in enumerate(groups)
        for errors, words in items
    ]
    return metric, rows


ITEMS = st.lists(st.tuples(st.integers(0, 5), st.integers(5, 9)), min_size=1, max_size=12)


@settings(max_examples=10, deadline=None)
@given(st.lists(ITEMS, min_size=2, max_size=4), st.integers(0, 99))
def test_the_interval_of_a_gap_holds_it(groups: list[list[tuple[int, int]]], seed: int) -> None:
    metric, rows = gap_of(groups)
    for pin in (pin_of(metric), None):
        found = bootstrap(rows, metric.reduce, rounds=30, seed=seed, pin=pin)
        assert holds_its_value(found)
        assert all(
            map(holds_its_value, paired_bootstrap(rows, rows, metric.reduce, rounds=30, pin=pin))
        )


def test_a_gap_that_is_noise_has_an_interval_around_it() -> None:
    """Two groups of one kind: chosen anew, their resampled gaps are above the gap itself."""
    groups = [[(int(i < wrong), 1) for i in range(30)] for wrong in (9, 9)]
    metric, rows = gap_of(groups)
    found = bootstrap(rows, metric.reduce, pin=pin_of(metric))
    assert found.low < 0 < found.high
    assert found.value == metric.reduce(rows) == 0
    errors = [np.mean([e for e, _ in group]) for group in groups]
    width = 2 * 2.17 * math.sqrt(sum(e * (1 - e) / 30 for e in errors))
    assert found.high - found.low == pytest.approx(
        width, rel=0.15
    )  # that of two shares, at 1.5 % a side


def test_most_intervals_of_two_equal_groups_hold_zero() -> None:
    held = 0
    for seed in range(40):
        rng = np.random.default_rng(seed)
        groups = [[(int(rng.random() < 0.3), 1) for _ in range(40)] for _ in range(2)]
        metric, rows = gap_of(groups)
        held += bootstrap(rows, metric.reduce, rounds=100, pin=pin_of(metric)).low <= 0
    assert held >= 34  # of 40: 95 % less three standard errors of the count


def test_only_the_bootstrap_makes_intervals_of_figures() -> None:
    """Elsewhere an interval is made of constants, or of the end that a rule gives."""
    package = Path(__file__).parents[2] / "mmtune"
    made = {
        path.relative_to(package).as_posix()
        for path in package.rglob("*.py")
        if "Interval(" in path.read_text(encoding="utf-8")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Name)
        and node.func.id == "Interval"
        and not all(isinstance(each, ast.Constant | ast.Attribute | ast.Call) for each in node.args)
    }
    assert made <= {
        "metrics/bootstrap.py",
        "metrics/rare.py",
        "metrics/jackknife.py",
        "metrics/image/style.py",
        "metrics/image/events.py",
        "image/evaluation/guide_rules.py",
        "evaluation/gate_result.py",
        "speech/evaluation/score.py",
    }
