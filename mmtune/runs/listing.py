"""List runs: the settings that differ between them, the main figure, and the verdict."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from safetensors import SafetensorError, safe_open

from mmtune.adapters.card import read_card
from mmtune.adapters.foreign import require_small_header
from mmtune.config import RunConfig, read_yaml
from mmtune.errors import AdapterError, ConfigError, MmtuneError, first_line
from mmtune.evaluation.comparison import COMPARISON_FILE, Comparison, read_comparison
from mmtune.evaluation.verdict import Verdict, read_verdict
from mmtune.metrics.measure import Measure, interval_text
from mmtune.runs.recipes import load_run
from mmtune.system.display import Displayed, Rows
from mmtune.system.nested import flat
from mmtune.system.run_folder import begun, is_run

RunState = Literal["measured", "not measured", "not finished", "damaged"]
PLACES = ("name", "out")  # settings that say where a run is
MAX_VALUE = 40  # characters of a setting's value in the table


@dataclass(frozen=True)
class ListedRun:
    """One run.

    Attributes:
        folder: the run folder.
        state: how far it got.
        settings: those whose values differ between the listed runs, by dotted name.
        figure: the suite's main measure, or the first one; None: nothing was measured.
        decision: the verdict; empty without one.
        problem: what is damaged; empty if nothing is.
    """

    folder: Path
    state: RunState
    settings: Mapping[str, Any] = field(default_factory=dict)
    figure: Measure | None = None
    decision: str = ""
    problem: str = ""

    @property
    def outcome(self) -> str:
        """The verdict, or why there is none."""
        if self.state == "damaged":
            return f"damaged: {self.problem}"
        return self.state if self.state != "measured" else self.decision or "no suite"


@dataclass(frozen=True)
class Runs(Displayed):
    """The runs of a folder, by name.

    Attributes:
        folder: the folder.
        runs: the runs.
    """

    folder: Path
    runs: tuple[ListedRun, ...]

    def shown(self) -> Iterable[str | Rows]:
        """Show a table with one line for each run."""
        names = _short_names({name for run in self.runs for name in run.settings})
        head = ["run", "settings that differ", "main figure", "verdict"]
        rows = [
            [
                run.folder.name or str(run.folder),
                ", ".join(f"{names[k]}={_value(v)}" for k, v in run.settings.items()),
                _figure(run.figure) if run.figure is not None else "",
                run.outcome,
            ]
            for run in self.runs
        ]
        return [[head, *rows]]


def list_runs(folder: Path) -> Runs:
    """List the run folders in a folder, or the folder itself if it is one.

    Folders of runs that were refused before training began are left out.

    Raises:
        ConfigError: the folder is missing or holds no run.
    """
    if not folder.is_dir():
        raise ConfigError(
            f"no such folder: {folder}", "name the folder that holds run folders: mmtune runs DIR"
        )
    if is_run(folder):
        places = [folder]
    else:
        inner = (path for path in folder.iterdir() if not path.name.startswith("."))
        places = sorted(path for path in inner if path.is_dir() and _has_work(path))
    if not places:
        raise ConfigError(
            f"{folder} holds no run folder",
            "name the folder that `mmtune train` writes to: mmtune runs DIR (its setting is out)",
        )
    found = [_read(place) for place in places]
    settings = [_flat(config) if config is not None else {} for config, _ in found]
    differing = _differing(settings)
    return Runs(
        folder,
        tuple(
            replace(run, settings={k: v for k, v in values.items() if k in differing})
            for values, (_, run) in zip(settings, found, strict=True)
        ),
    )


def _has_work(folder: Path) -> bool:
    """Whether a folder is a run's and holds more than the settings of a start that was refused."""
    # `claim` writes them before the data is read.
    made = (folder / "adapter", folder / "checkpoints", folder / COMPARISON_FILE)
    return is_run(folder) and (begun(folder) or any(path.exists() for path in made))


def _read(folder: Path) -> tuple[RunConfig | None, ListedRun]:
    """Read one run; whatever can't be read makes it a damaged one, with the reason."""
    config: RunConfig | None = None
    try:
        config = load_run(folder)
        if not (folder / "adapter").is_dir():
            return config, ListedRun(folder, "not finished")
        _require_adapter(folder / "adapter")
        if not (folder / COMPARISON_FILE).exists():
            return config, ListedRun(folder, "not measured")
        comparison, verdict = read_comparison(folder), read_verdict(folder)
    except MmtuneError as error:
        return config, ListedRun(folder, "damaged", problem=error.found)
    except OSError as error:
        return config, ListedRun(folder, "damaged", problem=first_line(error))
    decision = verdict.decision if verdict is not None else ""
    return config, ListedRun(
        folder, "measured", figure=_main(comparison, verdict), decision=decision
    )


def _require_adapter(folder: Path) -> None:
    """Refuse an adapter without a card or weights, or whose weights are cut off.

    `mmtune verify` reads all of the weights; this reads their headers.
    """
    read_card(folder)
    files = sorted(folder.glob("*.safetensors"))
    if not files:
        raise AdapterError(f"{folder} holds no .safetensors file", "restore the folder")
    for path in files:
        require_small_header(path)
        try:
            with safe_open(path, "numpy"):
                pass
        except SafetensorError as error:
            raise AdapterError(f"{path} is damaged: {first_line(error)}", "restore it") from None


def _main(comparison: Comparison, verdict: Verdict | None) -> Measure | None:
    main = None
    if verdict is not None:
        main = comparison.measure_of(verdict.main.metric, verdict.main.slice)
    return main if main is not None else next(iter(comparison.measures), None)


def _flat(config: RunConfig) -> dict[str, Any]:
    values = flat(config.model_dump(mode="json"))
    values["suite"] = _suite_name(config.suite)
    return {name: value for name, value in values.items() if name not in PLACES}


def _suite_name(suite: str | None) -> str | None:
    """The name of a suite: that in its file, because each run folder has a copy of its own."""
    if suite is None or Path(suite).suffix not in {".yaml", ".yml"}:
        return suite
    try:
        return str(read_yaml(Path(suite)).get("name", Path(suite).name))
    except ConfigError:
        return Path(suite).name


def _differing(settings: Sequence[Mapping[str, Any]]) -> set[str]:
    """Names of the settings that have several values among the runs that have them."""
    values: dict[str, set[str]] = {}
    for each in settings:
        for name, value in each.items():
            values.setdefault(name, set()).add(json.dumps(value, sort_keys=True))
    return {name for name, found in values.items() if len(found) > 1}


def _short_names(names: Iterable[str]) -> dict[str, str]:
    """The last part of each dotted name, where no other ends alike."""
    every = sorted(names)
    ends = [name.rpartition(".")[2] for name in every]
    return {n: end if ends.count(end) == 1 else n for n, end in zip(every, ends, strict=True)}


def _value(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:g}"
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return text if len(text) <= MAX_VALUE else "…" + text[1 - MAX_VALUE :]


def _figure(measure: Measure) -> str:
    return (
        f"{measure.metric} on {measure.slice}: {measure.base.value:.3f} → "
        f"{measure.adapter.value:.3f}, {interval_text(measure.difference, signed=True)}"
    )
