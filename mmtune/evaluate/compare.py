"""Base against adapter on the same items, paired, with intervals: what reports and gates read."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

from mmtune.metrics.bootstrap import Interval

INTERVALS = ("base", "adapter", "difference", "control")


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
    control: Interval | None = None  # an adapter trained on the same data without the subject


@dataclass(frozen=True)
class Comparison:
    """All that a report shows of a run, besides its log."""

    modality: str
    measures: list[Measure]
    headline: str  # one line for the terminal
    examples: list[dict[str, Any]] = field(default_factory=list)
    files: dict[str, Path] = field(default_factory=dict)  # grids, predictions

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values: paths as text, an undefined figure as null."""
        values: dict[str, Any] = _ADAPTER.dump_python(self, mode="json")
        for measure in values["measures"]:
            for name in INTERVALS:
                if measure[name] is not None:
                    measure[name] = {k: _null(v) for k, v in measure[name].items()}
        return values

    @staticmethod
    def from_json(values: dict[str, Any]) -> Comparison:
        """The inverse of `to_json`."""
        measures = []
        for measure in values["measures"]:
            intervals = {n: measure[n] for n in INTERVALS if measure.get(n) is not None}
            real = {n: {k: _nan(v) for k, v in i.items()} for n, i in intervals.items()}
            measures.append({**measure, **real})
        return _ADAPTER.validate_python({**values, "measures": measures})


def _null(value: float | None) -> float | None:
    return None if value is None or math.isnan(value) else value


def _nan(value: float | None) -> float:
    return math.nan if value is None else value


_ADAPTER = TypeAdapter(Comparison)
