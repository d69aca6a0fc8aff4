"""The comparison of base and adapter on the same items, which reports and gates read."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

from mmtune.data.rule_result import rule_table
from mmtune.errors import ConfigError, printable
from mmtune.evaluation.shown_guide import Guide
from mmtune.metrics.measure import Bin, Measure, Table, measure_rows
from mmtune.system.display import Displayed, Rows
from mmtune.system.files import write_text
from mmtune.system.formats import with_format, without_format
from mmtune.system.moved import relative_to_run
from mmtune.system.run_folder import COMPARISON_FILE as COMPARISON_FILE
from mmtune.system.stored import damaged, read_json_object

INTERVALS = ("base", "adapter", "difference", "control")
NAMED = ("references", "gained", "beyond")  # intervals by name


@dataclass(frozen=True)
class Comparison(Displayed):
    """Everything that a report shows of a run, apart from the run's log.

    Attributes:
        modality: the run's modality.
        measures: the metrics of base and adapter.
        headline: the result in one line, for the terminal.
        examples: examples as columns by name. "kind" groups them under headings, "row" is the id of
            the item, and "made" names the columns that hold only models' output. Files of
            the run are named from its folder on.
        files: images and other files beside the report, by name.
        tables: further tables.
        speed: seconds of sound that a model transcribes in a second, by model. It isn't compared,
            because it depends on the machine and its load.
        calibration: confidence bins by model, in ascending order.
        measured_on: a sentence: how many items of what kind the main measures rest on.
        alternatives: ways without an adapter that were measured too: their names in
            `Measure.references`, and the command that uses each.
        use: what can be done with the adapter: a verb, and a command with {run}.
        seconds: computing time of one item with base and adapter; None: it wasn't measured. It
            isn't compared either.
        notes: remarks on the data, such as test rows that were trained on and are left out.
        guide: rules that the user has written down, and whether base and adapter keep them.
    """

    modality: str
    measures: list[Measure]
    headline: str
    examples: list[dict[str, Any]] = field(default_factory=list)
    files: dict[str, Path] = field(default_factory=dict)
    tables: list[Table] = field(default_factory=list)
    speed: dict[str, float] = field(default_factory=dict, compare=False)
    calibration: dict[str, list[Bin]] = field(default_factory=dict)
    measured_on: str = ""
    alternatives: dict[str, str] = field(default_factory=dict)
    use: dict[str, str] = field(default_factory=dict)
    seconds: float | None = field(default=None, compare=False)
    notes: list[str] = field(default_factory=list)
    guide: Guide | None = None

    def measure_of(self, metric: str, slice: str) -> Measure | None:
        """The measure of a metric on a slice; None: there is none."""
        found = (m for m in self.measures if (m.metric, m.slice) == (metric, slice))
        return next(found, None)

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values: paths as text, an undefined figure as None."""
        return self.to_json()

    def shown(self) -> Iterable[str | Rows]:
        """The headline, notes, and tables of the measures and of the rules that were judged."""
        notes = [printable(f"note: {note}") for note in self.notes]
        rules = [rule_table(self.guide.rules, {})] if self.guide is not None else []
        return [self.headline, *notes, measure_rows(self.measures), *rules]

    def to_json(self) -> dict[str, Any]:
        """Convert to JSON values, with paths as text and undefined figures as null."""
        values: dict[str, Any] = _ADAPTER.dump_python(self, mode="json")
        for measure in values["measures"]:
            for name in INTERVALS:
                if measure[name] is not None:
                    measure[name] = _nan_to_null(measure[name])
            for name in NAMED:
                measure[name] = {n: _nan_to_null(i) for n, i in measure[name].items()}
        return values

    @staticmethod
    def from_json(values: dict[str, Any]) -> Comparison:
        """Make a comparison from the values of `to_json`."""
        measures = []
        for measure in values["measures"]:
            intervals = {n: measure[n] for n in INTERVALS if measure.get(n) is not None}
            # They are missing in comparisons of older versions.
            named = {name: _null_to_nan(measure.get(name, {})) for name in NAMED}
            measures.append({**measure, **_null_to_nan(intervals), **named})
        return _ADAPTER.validate_python({**values, "measures": measures})


def read_comparison(run: Path, name: str = COMPARISON_FILE) -> Comparison:
    """Read a comparison in a run folder.

    Args:
        run: the run folder.
        name: of the file.

    Raises:
        ConfigError: the comparison is missing or can't be read.
    """
    path, cure = run / name, f"write it again with mmtune evaluate {run}"
    try:
        values = without_format(read_json_object(path, cure), path)
    except FileNotFoundError:
        raise ConfigError(
            f"{run} holds no {name}: base and adapter were not compared",
            "repeat the run's `mmtune train` command to finish it",
        ) from None
    with damaged(path, cure):
        found = Comparison.from_json(values)
    # Files of the run are named from its folder on, so that it can be moved.
    files = {
        name: run / place if not place.is_absolute() and (run / place).exists() else place
        for name, place in found.files.items()
    }
    return replace(found, files=files)


def write_comparison(run: Path, found: Comparison, name: str = COMPARISON_FILE) -> None:
    """Write a comparison into a run folder; files in the folder are named from there on."""
    text = json.dumps(named_from(found, run).to_json(), indent=2, ensure_ascii=False)
    write_text(run / name, with_format(text) + "\n", private=True)


def named_from(comparison: Comparison, run: Path) -> Comparison:
    """Name the files of a comparison that lie in a run folder by their places in it."""

    def moved(value: Any) -> Any:
        return relative_to_run(value, run) if isinstance(value, Path) else value

    def of_row(row: Mapping[str, Any]) -> dict[str, Any]:
        # The values of a manifest's row are text; an absolute path in the run is its recording.
        return {
            key: str(relative_to_run(Path(value), run))
            if isinstance(value, str) and value.startswith("/")
            else value
            for key, value in row.items()
        }

    examples = [
        {
            key: of_row(value) if key == "row" and isinstance(value, Mapping) else moved(value)
            for key, value in example.items()
        }
        for example in comparison.examples
    ]
    files = {name: relative_to_run(place, run) for name, place in comparison.files.items()}
    return replace(comparison, files=files, examples=examples)


def _nan_to_null(interval: dict[str, float]) -> dict[str, float | None]:
    return {k: None if math.isnan(v) else v for k, v in interval.items()}


def _null_to_nan(intervals: dict[str, dict[str, float | None]]) -> dict[str, dict[str, float]]:
    return {
        name: {k: math.nan if v is None else v for k, v in interval.items()}
        for name, interval in intervals.items()
    }


_ADAPTER = TypeAdapter(Comparison)
