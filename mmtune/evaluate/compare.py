"""Base against adapter on the same items, paired, with intervals: what reports and gates read."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from pydantic import ConfigDict, TypeAdapter

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

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values; paths as text, an undefined figure as "NaN"."""
        values: dict[str, Any] = json.loads(_adapter().dump_json(self))
        return values

    @staticmethod
    def from_json(values: dict[str, Any]) -> Comparison:
        """The inverse of `to_json`."""
        comparison: Comparison = _adapter().validate_python(values)
        return comparison


@cache
def _adapter() -> TypeAdapter[Comparison]:
    return TypeAdapter(Comparison, config=ConfigDict(ser_json_inf_nan="strings"))
