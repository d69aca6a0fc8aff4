"""Base against adapter on the same items, paired, with intervals: what reports and gates read."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

from mmtune.errors import ConfigError
from mmtune.metrics.measure import Bin, Measure, Table, measure_rows
from mmtune.system.display import Displayed, Rows
from mmtune.system.formats import without_format

INTERVALS = ("base", "adapter", "difference", "control")


@dataclass(frozen=True)
class Comparison(Displayed):
    """All that a report shows of a run, besides its log.

    Attributes:
        examples: columns by name. "kind" puts some under one heading, "row" is an item of the
            manifest, "made" names the columns that hold only what models made.
        files: pictures and other files beside the report.
    """

    modality: str
    measures: list[Measure]
    headline: str  # one line for the terminal
    examples: list[dict[str, Any]] = field(default_factory=list)
    files: dict[str, Path] = field(default_factory=dict)
    tables: list[Table] = field(default_factory=list)
    # Seconds of sound that a model hears in a second, by model; not part of what is compared, for
    # another machine, or another program beside this one, gives another.
    speed: dict[str, float] = field(default_factory=dict, compare=False)
    calibration: dict[str, list[Bin]] = field(default_factory=dict)  # by model, in rising order

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values: paths as text, an undefined figure as None."""
        return self.to_json()

    def shown(self) -> Iterable[str | Rows]:
        """The headline, and a table of the measures with their 95 % confidence intervals."""
        return [self.headline, measure_rows(self.measures)]

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values: paths as text, an undefined figure as null."""
        values: dict[str, Any] = _ADAPTER.dump_python(self, mode="json")
        for measure in values["measures"]:
            for name in INTERVALS:
                if measure[name] is not None:
                    measure[name] = _nulls(measure[name])
            measure["references"] = {n: _nulls(i) for n, i in measure["references"].items()}
        return values

    @staticmethod
    def from_json(values: dict[str, Any]) -> Comparison:
        """The inverse of `to_json`."""
        measures = []
        for measure in values["measures"]:
            intervals = {n: measure[n] for n in INTERVALS if measure.get(n) is not None}
            named = measure.get("references", {})  # a comparison of an older run has none
            measures.append({**measure, **_nans(intervals), "references": _nans(named)})
        return _ADAPTER.validate_python({**values, "measures": measures})


COMPARISON_FILE = "comparison.json"


def read_comparison(run: Path) -> Comparison:
    """The comparison in a run's folder.

    Raises:
        ConfigError: there is none, or it can't be read.
    """
    path = run / COMPARISON_FILE
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        return Comparison.from_json(without_format(values, path))
    except FileNotFoundError:
        raise ConfigError(
            f"{run} holds no {COMPARISON_FILE}: nothing was compared", "finish it: mmtune train"
        ) from None
    except (ValueError, KeyError, TypeError) as error:
        raise ConfigError(f"{path} can't be read: {error}", f"mmtune evaluate {run}") from None


def _nulls(interval: dict[str, float]) -> dict[str, float | None]:
    return {k: None if math.isnan(v) else v for k, v in interval.items()}


def _nans(intervals: dict[str, dict[str, float | None]]) -> dict[str, dict[str, float]]:
    return {
        name: {k: math.nan if v is None else v for k, v in interval.items()}
        for name, interval in intervals.items()
    }


_ADAPTER = TypeAdapter(Comparison)
