"""A measure as the report shows it: its intervals as bars on one scale, and their reading."""

from __future__ import annotations

import math
from dataclasses import dataclass

from mmtune.metrics.bootstrap import Interval
from mmtune.metrics.explained import explain
from mmtune.metrics.measure import Measure


@dataclass(frozen=True)
class Bar:
    """An interval on a measure's scale, in per cent of the scale's width."""

    name: str
    kind: str  # "base", "adapter", "control", "reference"
    text: str
    at: float
    left: float
    width: float


@dataclass(frozen=True)
class Figure:
    """A measure with its bars and its reading, as the report shows it."""

    measure: Measure
    bars: list[Bar]
    difference: str
    reading: str  # "better", "worse", "no clear difference", "not defined"
    meaning: str


def figure(measure: Measure) -> Figure:
    """Place a measure's intervals on one scale, and describe the difference."""
    named = [("base", measure.base), ("adapter", measure.adapter)]
    if measure.control is not None:
        named.append(("control", measure.control))
    named += measure.references.items()
    defined = [i for _, i in named if math.isfinite(i.value)]
    # The scale starts at 0, so that lengths can be compared by eye, or at the lowest value below.
    low = min([0.0, *(i.low for i in defined)])
    high = max([0.0, *(i.high for i in defined), *(i.value for i in defined)])
    span = high - low or 1.0

    def place(value: float) -> float:
        return round(100 * (value - low) / span, 2)

    roles = {"base", "adapter", "control"}
    bars = [
        Bar(
            name,
            name if name in roles else "reference",
            str(i),
            place(i.value),
            place(i.low),
            round(place(i.high) - place(i.low), 2),
        )
        for name, i in named
        if math.isfinite(i.value)
    ]
    difference = _signed(measure.difference)
    return Figure(measure, bars, difference, reading(measure), explain(measure.metric))


def reading(measure: Measure) -> str:
    """Describe the difference: "better" or "worse" only if its interval excludes zero.

    The interval of one speaker, or of one item, says nothing about others.
    """
    gap = measure.difference
    if not math.isfinite(gap.value):
        return "not defined"
    if measure.units == 1 or measure.items == 1 or gap.low <= 0 <= gap.high:
        return "no clear difference"
    return "better" if (gap.low > 0) == measure.higher_is_better else "worse"


def _signed(interval: Interval) -> str:
    if not math.isfinite(interval.value):
        return "–"
    return f"{interval.value:+.3f} [{interval.low:+.3f}, {interval.high:+.3f}]"
