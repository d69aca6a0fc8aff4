"""Base against adapter on the same items, paired, with intervals: what reports and gates read."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mmtune.metrics.bootstrap import Interval


@dataclass(frozen=True)
class Measure:
    """One metric of base and adapter (and of a control) on one slice of the items.

    `base` and `adapter` are estimates with intervals of their own; `difference` is
    adapter - base, resampled in pairs.
    """

    metric: str
    slice: str  # "test", "unseen terms", "general speech" …
    items: int
    base: Interval
    adapter: Interval
    difference: Interval
    higher_is_better: bool
    note: str = ""


@dataclass(frozen=True)
class Comparison:
    """All that a report shows of a run, besides its log."""

    modality: str
    measures: list[Measure]
    headline: str  # one line for the terminal
    examples: list[dict[str, Any]] = field(default_factory=list)
    files: dict[str, Path] = field(default_factory=dict)  # grids, predictions
