"""The geometry of the report's plots."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmtune.metrics.bootstrap import Interval
from mmtune.metrics.measure import Bin, Measure
from mmtune.pages.axes import WIDTH, nice_ticks
from mmtune.pages.plots import (
    Plot,
    calibration_plot,
    gauge,
    group_plots,
    steps_plot,
    strengths_plot,
    thin,
)


def places(plot: Plot) -> list[tuple[float, float]]:
    """All points of its lines."""
    pairs = [pair.split(",") for line in plot.lines for pair in line.points.split()]
    return [(float(x), float(y)) for x, y in pairs]


def within(plot: Plot, x: float, y: float) -> bool:
    return plot.left <= x <= WIDTH and 0 <= y <= plot.height


def group(value: str, base: float, adapter: float, label: str = "accent") -> Measure:
    def around(x: float) -> Interval:
        return Interval(x, x - 0.05, x + 0.05)

    gap = around(adapter - base)
    return Measure("WER", f"test, {label} {value}", 12, around(base), around(adapter), gap, False,
                   group=(label, value))  # fmt: skip


def test_groups_stand_on_one_scale() -> None:
    plots = group_plots([
        group("indian", 0.4, 0.2), group("scottish and a long name", 0.2, 0.3),
        group("f", 0.1, 0.1, "gender"),
    ])  # fmt: skip
    assert [p.title for p in plots] == ["WER by accent", "WER by gender"]
    first = plots[0]
    assert first.x_label == "WER, wrong words per word spoken"
    assert first.keys == ["base", "adapter"]
    assert [t.label for t in first.y_ticks] == ["indian", "scottish and a l…"]
    at = {m.tip.split(":")[0]: (m.x, m.y, m.kind) for m in first.marks}
    apart = at["indian, base"][0] - at["indian, adapter"][0]  # 0.2
    beyond = at["indian, base"][0] - at["scottish and a long name, adapter"][0]  # 0.1
    assert beyond == pytest.approx(apart / 2, abs=0.3)
    assert at["indian, base"][2] == "base"
    assert all(within(first, x, y) for x, y in places(first))
    assert "scottish and a long name 0.200 to 0.300" in first.text
    assert group_plots([group("x", 0.1, math.nan)]) == []


def point(scale: float, value: float, kept: float | None, **figures: float) -> dict[str, object]:
    return {"scale": scale, "value": value, "retained": kept, "low": value - 0.1,
            "high": value + 0.1, "figures": figures}  # fmt: skip


def test_strengths_stand_against_what_they_cost() -> None:
    looks = [point(0, 0.0, 1.0, style=0.0), point(0.5, 0.5, 0.9, style=0.5),
             point(1, 0.8, 0.4, style=0.8)]  # fmt: skip
    plot = strengths_plot(looks, name="x", chosen=0.5)
    assert plot is not None
    assert plot.title == "style at each strength"
    assert (plot.x_label, plot.y_label) == (
        "kept content (1 = all of the base's)", "style (0 = base, 1 = brand)",
    )  # fmt: skip
    assert [m.chosen for m in plot.marks] == [False, True, False]
    assert [label.text for label in plot.labels] == ["base", "0.5", "1"]
    xs = [m.x for m in plot.marks]
    assert xs == sorted(xs, reverse=True), "less is kept at more strength"
    speech = [point(0, 0.3, None), point(1, 0.2, None)]
    plot = strengths_plot(speech, name="wer", chosen=1)
    assert plot is not None
    assert plot.x_label == "strength (1 = as trained)"
    assert plot.y_label == "WER, wrong words per word spoken"
    assert strengths_plot(looks[:1], name="x", chosen=None) is None


def test_calibration_says_how_far_off() -> None:
    bins = {
        "base": [Bin(0, 0.5, 0.4, 0.4, 10), Bin(0.5, 1, 0.9, 0.7, 30)],
        "adapter": [Bin(0.5, 1, 0.8, 0.8, 40)],
    }
    plot = calibration_plot(bins)
    assert plot is not None
    assert "base is off by 0.150" in plot.note
    assert "adapter is off by 0.000" in plot.note
    ideal, *_ = plot.lines
    (x0, y0), (x1, y1) = (tuple(map(float, p.split(","))) for p in ideal.points.split())
    on = next(m for m in plot.marks if m.kind == "adapter")
    assert (on.x - x0) / (x1 - x0) == pytest.approx((on.y - y0) / (y1 - y0), abs=0.01)
    assert calibration_plot({}) is None
    assert calibration_plot({"base": []}) is None


def test_the_kept_step_has_the_ring() -> None:
    plot = steps_plot("validation wer", [(0, 0.8), (10, 0.4), (20, 0.5)], unit="WER", kept=10)
    assert plot is not None
    assert [m.chosen for m in plot.marks] == [False, True, False]
    assert [label.text for label in plot.labels] == ["saved: 0.4"]
    assert plot.y_label == "WER"
    assert "from 0.8 at step 0 to 0.5 at step 20" in plot.text


@given(st.tuples(*[st.floats(-5, 5)] * 4), st.booleans())
def test_a_gauge_shows_whether_an_end_is_within(drawn: tuple[float, ...], upward: bool) -> None:
    low, value, high = sorted(drawn[:3])
    bound = drawn[3]
    found = gauge(Interval(value, low, high), bound, upward)
    assert found is not None
    assert 0 <= found.left <= found.at + 0.02 <= found.left + found.width + 0.04 <= 100.1
    end = found.left + found.width if upward else found.left
    inside = found.allowed_left - 0.02 <= end <= found.allowed_left + found.allowed_width + 0.02
    assert inside or (high > bound if upward else low < bound)


@given(st.floats(-1e6, 1e6), st.floats(1e-6, 1e6))
def test_ticks_lie_within_and_differ(low: float, span: float) -> None:
    high = low + span
    ticks = nice_ticks(low, high)
    assert len(ticks) <= 6
    slack = 1e-6 * max(1.0, abs(low), abs(high))
    assert all(low - slack <= tick.place <= high + slack for tick in ticks)
    if span > 1e-4:  # below that the labels are in powers of ten
        labels = [tick.label for tick in ticks]
        assert labels == list(dict.fromkeys(labels))
        assert [float(label.replace(",", "")) for label in labels] == pytest.approx(
            [tick.place for tick in ticks], abs=span / 1000
        )


def test_steps_are_whole_numbers() -> None:
    assert [t.label for t in nice_ticks(0, 2, least=1.0)] == ["0", "1", "2"]
    assert [t.label for t in nice_ticks(0, 120, least=1.0)] == ["0", "50", "100"]
    assert [t.label for t in nice_ticks(0.0312, 0.03135)] == [
        "0.03120",
        "0.03125",
        "0.03130",
        "0.03135",
    ]


@given(st.lists(st.floats(allow_nan=True, allow_infinity=True), min_size=1, max_size=900))
def test_chart_of_any_values(values: list[float]) -> None:
    small = [v for v in values if abs(v) < 1e12 or not math.isfinite(v)]
    drawn = steps_plot("loss", [(float(i), v) for i, v in enumerate(small)], unit="nats")
    if not any(math.isfinite(v) for v in small):
        assert drawn is None
        return
    assert drawn is not None
    pairs = places(drawn)
    finite = sum(math.isfinite(v) for v in small)
    assert (1 < len(pairs) <= 400) == (finite > 1)
    assert all(within(drawn, x, y) for x, y in pairs)


def test_thin_keeps_the_mean() -> None:
    points = [(float(i), float(i % 7)) for i in range(1000)]
    assert sum(y for _, y in thin(points, 500)) / 500 == pytest.approx(
        sum(y for _, y in points) / 1000
    )
