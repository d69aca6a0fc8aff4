"""Results of metrics: values of base and adapter with intervals, tables and confidence bins."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, field

from mmtune.metrics.bootstrap import Interval


@dataclass(frozen=True)
class Measure:
    """A metric's values for base and adapter (and for a control) on one slice of the items.

    `base` and `adapter` each have their own interval. `difference` is adapter - base, with an
    interval from paired resampling.
    """

    metric: str
    slice: str  # "test", "unseen terms", "general speech" …
    items: int
    base: Interval
    adapter: Interval
    difference: Interval
    higher_is_better: bool
    note: str = ""
    control: Interval | None = None  # an adapter trained on the same data without the subject
    # Values to compare with: of real held-out images, other styles, shuffled prompts.
    references: dict[str, Interval] = field(default_factory=dict)
    # If the intervals rest on too few speakers or terms: a note, and the sign-flip test's p.
    few: str = ""
    p: float | None = None
    units: int = 0  # number of speakers (or terms, recordings) behind the figures; 0: not counted
    enough: int = 0  # units below which no end of an interval is evidence; 0: any number is
    per_row: int = 1  # number of items that were made of each test row: images of a caption
    # Label and value, if the slice is one group of the items: ("accent", "indian").
    group: tuple[str, str] | None = None
    # Of a metric that counts (`Metric.says`): by model, how many, and out of how many.
    counts: dict[str, tuple[float, float]] = field(default_factory=dict)
    # Of each system in `references` that answered the same items: system - base, adapter - system.
    gained: dict[str, Interval] = field(default_factory=dict)
    beyond: dict[str, Interval] = field(default_factory=dict)


@dataclass(frozen=True)
class Table:
    """A table that the report shows beside the measures.

    Attributes:
        title: what the table shows.
        columns: names of the columns.
        rows: cells of each row, as text.
    """

    title: str
    columns: list[str]
    rows: list[list[str]]


@dataclass(frozen=True)
class Bin:
    """Predictions with similar confidence, and the share of them that is right.

    Attributes:
        low, high: limits of the confidences.
        confidence: mean confidence.
        accuracy: share of right predictions.
        n: number of predictions; at least 1.
    """

    low: float
    high: float
    confidence: float
    accuracy: float
    n: int


def measure_rows(measures: Iterable[Measure]) -> list[list[str]]:
    """A table, head first: base, adapter and their difference with 95 % confidence intervals."""
    measures = list(measures)
    with_control = any(m.control is not None for m in measures)
    head = ["metric", "on", "items", "base", "adapter", "difference"]
    rows = [head + ["control"] * with_control]
    for m in measures:
        cells = [m.metric, m.slice, str(m.items), interval_text(m.base), interval_text(m.adapter)]
        cells.append(interval_text(m.difference, signed=True))
        if with_control:
            cells.append("" if m.control is None else interval_text(m.control))
        rows.append(cells)
    return rows


def interval_text(value: Interval, signed: bool = False) -> str:
    """`0.123 [0.100, 0.150]`; a dash where it isn't defined."""
    if not math.isfinite(value.value):
        return "–"
    sign = "+" if signed else ""
    return f"{value.value:{sign}.3f} [{value.low:{sign}.3f}, {value.high:{sign}.3f}]"
