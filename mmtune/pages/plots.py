"""The geometry of the report's plots; the template draws them as inline SVG, without a script."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from mmtune.metrics.bootstrap import Interval
from mmtune.metrics.explained import explain, unit_of
from mmtune.metrics.measure import Bin, Measure
from mmtune.pages.axes import (
    BOTTOM,
    HEIGHT,
    LEFT,
    RIGHT,
    TICK_GAP,
    TOP,
    WIDTH,
    Frame,
    Label,
    Mark,
    Tick,
)
from mmtune.pages.text_boxes import cut, cut_apart, width_of

SIDES = {"base": "base", "adapter": "adapter"}  # what texts call the sides of a comparison
NAME_MARGIN = 132  # left margin of a plot with names there
GROUP_HEIGHT = 36  # height of one group
MAX_POINTS = 400  # points of a line; more are averaged
MAX_DOTS = 40  # up to this many points, each is drawn as a dot with its value


@dataclass(frozen=True)
class Line:
    """A polyline, or the whisker of an interval."""

    kind: str  # "base", "adapter", "control", "ideal"
    points: str
    whisker: bool = False


@dataclass(frozen=True)
class Plot:
    """One plot in SVG units, `WIDTH` x `height`.

    Attributes:
        title: the caption.
        text: a sentence that describes the plot for readers who don't see it.
        x_label, y_label: labels of the axes.
        x_ticks, y_ticks: ticks of the axes.
        lines, marks, labels: what is drawn.
        keys: kinds of marks that the caption explains.
        note: a text below the plot.
        height: height of the plot.
        left: left margin.
    """

    title: str
    text: str
    x_label: str
    y_label: str
    x_ticks: list[Tick]
    y_ticks: list[Tick]
    lines: list[Line] = field(default_factory=list)
    marks: list[Mark] = field(default_factory=list)
    labels: list[Label] = field(default_factory=list)
    keys: list[str] = field(default_factory=list)
    note: str = ""
    height: int = HEIGHT
    left: float = LEFT

    @property
    def x_label_at(self) -> float:
        """The middle of the label below: that of the axis, if the label fits there."""
        half = width_of(self.x_label) / 2
        return round(min(max((self.left + WIDTH - RIGHT) / 2, half), max(WIDTH - half, half)), 1)


def thin(points: Sequence[tuple[float, float]], most: int) -> list[tuple[float, float]]:
    """Reduce points to at most `most`, by averaging runs of neighbours."""
    if len(points) <= most:
        return list(points)
    size = math.ceil(len(points) / most)
    runs = [points[i : i + size] for i in range(0, len(points), size)]
    return [(sum(x for x, _ in r) / len(r), sum(y for _, y in r) / len(r)) for r in runs]


def number(value: float) -> str:
    """Format a number with up to three significant digits, if possible without an exponent."""
    if value != 0 and not 1e-3 <= abs(value) < 1e5:
        return f"{value:.1e}"
    return f"{value:.3g}" if abs(value) < 1000 else f"{value:,.0f}"


def _points(places: Sequence[tuple[float, float]]) -> str:
    return " ".join(f"{x},{y}" for x, y in places)


def _range(values: Sequence[float]) -> tuple[float, float]:
    """Return a range that holds the values with some margin."""
    low, high = min(values), max(values)
    pad = (high - low) * 0.06 or abs(high) * 0.1 or 1.0
    return low - pad, high + pad


def steps_plot(
    title: str, points: Sequence[tuple[float, float]], *, unit: str, kept: int | None = None
) -> Plot | None:
    """Plot a value over the optimizer's steps; None if no value is finite.

    Args:
        title: the caption.
        points: pairs of step and value.
        unit: unit of the value.
        kept: the step of the saved checkpoint, which gets a ring.
    """
    finite = [(x, y) for x, y in points if math.isfinite(x) and math.isfinite(y)]
    if not finite:
        return None
    drawn = thin(finite, MAX_POINTS)
    xs = [x for x, _ in drawn]
    frame = Frame((min(xs), max(xs)), _range([y for _, y in drawn]))
    places = [(frame.across(x), frame.down(y)) for x, y in drawn]
    marks, labels = [], []
    for (x, y), (step, value) in zip(places, drawn, strict=True):
        ring = kept is not None and step == kept
        if ring or len(drawn) <= MAX_DOTS:
            marks.append(Mark("adapter", x, y, f"step {step:.0f}: {value:.4g}", ring, 2.5))
        if ring:
            labels.append(Label(x, y, f"saved: {number(value)}", kind="adapter"))
    if not labels:
        labels.append(Label(*places[-1], number(finite[-1][1]), kind="adapter"))
    first, last = finite[0], finite[-1]
    return Plot(
        title=title,
        text=f"{title}, from {number(first[1])} at step {first[0]:.0f} to {number(last[1])} "
        f"at step {last[0]:.0f}",
        x_label="optimizer step",
        y_label=cut(unit, WIDTH),
        x_ticks=frame.x_ticks(least=1.0, most=6),
        y_ticks=frame.y_ticks(),
        lines=[Line("adapter", _points(places))] if len(places) > 1 else [],
        marks=marks,
        labels=frame.labels(labels, marks),
        left=frame.left,
    )


def group_plots(measures: Sequence[Measure], names: Mapping[str, str] = SIDES) -> list[Plot]:
    """Plot base and adapter in each group of the items, one plot for each metric and label.

    Args:
        measures: of the comparison.
        names: what the texts call base and adapter.
    """
    found: dict[tuple[str, str], list[Measure]] = {}
    for measure in measures:
        if measure.group is not None and math.isfinite(measure.adapter.value):
            found.setdefault((measure.metric, measure.group[0]), []).append(measure)
    return [_groups(metric, label, some, names) for (metric, label), some in found.items()]


def _groups(metric: str, label: str, measures: Sequence[Measure], sides: Mapping[str, str]) -> Plot:
    ends = [0.0]
    for m in measures:
        ends += [v for i in (m.base, m.adapter) for v in (i.low, i.high, i.value)]
    ends = [v for v in ends if math.isfinite(v)]
    frame = Frame((min(ends), max(ends) * 1.04 or 1.0), (0, 1), left=NAME_MARGIN)
    lines, marks, ticks, told = [], [], [], []
    names = [m.group[1] if m.group else m.slice for m in measures]
    shown = cut_apart(names, NAME_MARGIN - TICK_GAP)
    for place, (m, name, short) in enumerate(zip(measures, names, shown, strict=True)):
        middle = TOP + GROUP_HEIGHT * place + GROUP_HEIGHT / 2
        ticks.append(Tick(middle, short))
        told.append(f"{name} {m.base.value:.3f} to {m.adapter.value:.3f}")
        for kind, interval, y in (("base", m.base, middle - 6), ("adapter", m.adapter, middle + 6)):
            if math.isfinite(interval.value):
                low, high = frame.across(interval.low), frame.across(interval.high)
                lines.append(Line(kind, f"{low},{y} {high},{y}", whisker=True))
                tip = f"{name}, {sides[kind]}: {interval}, {m.items} items"
                marks.append(Mark(kind, frame.across(interval.value), y, tip))
    few = min(m.items for m in measures)
    most = max(m.items for m in measures)
    return Plot(
        title=f"{metric} by {label}",
        text=f"{metric} of {sides['base']} and {sides['adapter']} by {label}: " + "; ".join(told),
        x_label=cut(unit_of(metric), WIDTH),
        y_label="",
        x_ticks=frame.x_ticks(),
        y_ticks=ticks,
        lines=lines,
        marks=marks,
        keys=["base", "adapter"],
        note=f"{few} to {most} items per group; whiskers are 95 % intervals; farther "
        + ("right" if measures[0].higher_is_better else "left")
        + " is better",
        height=TOP + GROUP_HEIGHT * len(measures) + BOTTOM,
        left=NAME_MARGIN,
    )


def strengths_plot(
    sweep: Sequence[Mapping[str, Any]], *, name: str, chosen: float | None
) -> Plot | None:
    """Plot the result of each adapter strength over what it keeps; None for fewer than two.

    Args:
        sweep: the compared strengths, from a card.
        name: name of the value, if the points don't tell it.
        chosen: the chosen or recommended strength, which gets a ring.
    """
    points = [p for p in sweep if p.get("value") is not None and math.isfinite(p["value"])]
    if len(points) < 2:
        return None
    name = next(
        (n for n, v in (points[-1].get("figures") or {}).items() if v == points[-1]["value"]), name
    )
    x_label, xs = _second_axis(points)
    placed = list(zip(xs, points, strict=True))
    ys = [p[k] for _, p in placed for k in ("value", "low", "high") if _known(p.get(k))]
    frame = Frame(_range(xs), _range(ys))
    places = [(frame.across(x), frame.down(p["value"])) for x, p in placed]
    lines = [Line("adapter", _points(places))]
    marks, labels = [], []
    for (across, down), (x, p) in zip(places, placed, strict=True):
        kind = "base" if p["scale"] == 0 else "adapter"
        if _known(p.get("low")) and _known(p.get("high")) and p["low"] < p["high"]:
            ends = f"{across},{frame.down(p['low'])} {across},{frame.down(p['high'])}"
            lines.append(Line(kind, ends, whisker=True))
        shown = "base" if p["scale"] == 0 else f"{p['scale']:g}"
        tip = f"strength {p['scale']:g}: {name} {number(p['value'])}, {x_label} {number(x)}"
        marks.append(Mark(kind, across, down, tip, p["scale"] == chosen))
        labels.append(Label(across, down, shown, kind=kind))
    ring = next((i for i, mark in enumerate(marks) if mark.chosen), 0)
    placed_labels = frame.labels(labels, marks, ring)
    left_out = len(labels) - len(placed_labels)
    best = "" if chosen is None else f"; the ring marks the chosen strength, {chosen:g}"
    return Plot(
        title=f"{name} at each strength",
        text=f"{name} against {x_label}: " + "; ".join(m.tip for m in marks),
        x_label=cut(x_label, WIDTH),
        y_label=cut(unit_of(name) if explain(name) else name, WIDTH),
        x_ticks=frame.x_ticks(),
        y_ticks=frame.y_ticks(),
        lines=lines,
        marks=marks,
        labels=placed_labels,
        note=f"each point is a strength of the adapter, measured on validation items{best}"
        + (f"; {left_out} points have no label, because they lie close" if left_out else ""),
        left=frame.left,
    )


def _second_axis(points: Sequence[Mapping[str, Any]]) -> tuple[str, list[float]]:
    """Choose the horizontal axis: what each strength keeps of the base, or the strength itself."""
    if all(_known(p.get("retained")) for p in points):
        content = any(p.get("figures") for p in points)
        name = "kept content (1 = all of the base's)" if content else "on retention rows"
        return name, [float(p["retained"]) for p in points]
    return "strength (1 = as trained)", [float(p["scale"]) for p in points]


def _known(value: Any) -> bool:
    return isinstance(value, int | float) and math.isfinite(value)


def calibration_plot(
    bins: Mapping[str, Sequence[Bin]], names: Mapping[str, str] = SIDES
) -> Plot | None:
    """Plot how often words of some confidence were right (reliability diagram).

    Source: Guo et al., On Calibration of Modern Neural Networks (2017), figure 1.

    Args:
        bins: bins by model, in ascending order.
        names: what the texts call base and adapter.
    """
    models = {model: each for model, each in bins.items() if each}
    if not models:
        return None
    frame = Frame((0.0, 1.0), (0.0, 1.0))
    lines = [Line("ideal", f"{frame.across(0)},{frame.down(0)} {frame.across(1)},{frame.down(1)}")]
    marks, told = [], []
    for kind, each in models.items():
        places = [(frame.across(b.confidence), frame.down(b.accuracy)) for b in each]
        if len(places) > 1:
            lines.append(Line(kind, _points(places)))
        for (x, y), b in zip(places, each, strict=True):
            tip = f"confidence {b.confidence:.2f}, {b.accuracy:.2f} of {b.n} are right"
            marks.append(Mark(kind, x, y, f"{names.get(kind, kind)}: {tip}"))
        error = sum(b.n * abs(b.accuracy - b.confidence) for b in each) / sum(b.n for b in each)
        told.append(f"{names.get(kind, kind)} is off by {error:.3f} on average")
    return Plot(
        title="confidence and correctness",
        text="The share of right answers at each confidence; " + "; ".join(told),
        x_label="mean confidence (0 to 1)",
        y_label="share of right answers",
        x_ticks=frame.x_ticks(),
        y_ticks=frame.y_ticks(),
        lines=lines,
        marks=marks,
        keys=list(models),
        note="; ".join(told)
        + "; on the dotted line confidence is right, below it the model is overconfident",
        left=frame.left,
    )


@dataclass(frozen=True)
class ThresholdGauge:
    """An interval and its threshold, in per cent of the gauge's width."""

    at: float
    left: float
    width: float
    bound: float
    allowed_left: float  # start of the allowed side
    allowed_width: float


def gauge(figure: Interval, bound: float, upward: bool) -> ThresholdGauge | None:
    """Place an interval and its threshold on a gauge; None if a value isn't finite.

    Args:
        figure: the interval.
        bound: the threshold.
        upward: whether the threshold is an upper limit.
    """
    values = [figure.value, figure.low, figure.high, bound]
    if not all(map(math.isfinite, values)):
        return None
    low, high = _range([*values, 0.0])

    def place(value: float) -> float:
        return round(100 * (value - low) / (high - low), 2)

    edge = place(bound)
    return ThresholdGauge(
        place(figure.value),
        place(figure.low),
        round(place(figure.high) - place(figure.low), 2),
        edge,
        0.0 if upward else edge,
        edge if upward else round(100 - edge, 2),
    )
