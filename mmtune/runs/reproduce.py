"""Train a finished run again in a new folder, and compare weights and figures."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mmtune.adapters.card import read_card
from mmtune.config import PARENT, RunConfig
from mmtune.data.version_rows import SHOWN_DIGITS, current_rows, fingerprint_of
from mmtune.errors import ConfigError
from mmtune.evaluation.comparison import COMPARISON_FILE, Comparison, read_comparison
from mmtune.runs.folder import SUITE_FILE, require_consent
from mmtune.runs.modalities import find_modality
from mmtune.runs.pipeline import train
from mmtune.runs.recipes import load_run
from mmtune.runs.rich_reporter import RichReporter
from mmtune.runs.run_record import made_otherwise, read_record
from mmtune.system.display import Displayed, Rows, numbered
from mmtune.system.files import finished_files
from mmtune.system.progress import progress_console, shows_progress
from mmtune.system.quiet import public_call
from mmtune.system.tensors import load_tensors

if TYPE_CHECKING:
    from torch import Tensor

ENDING = "-reproduced"  # of the new run's name


@dataclass(frozen=True)
class WeightDistance:
    """How far the weights of two adapters are from each other.

    Attributes:
        tensors: how many there are.
        differing: how many of them aren't bit-equal, or are in one adapter only.
        largest: the largest absolute difference of two numbers.
        relative: the norm of all differences, as a share of the first adapter's norm.
    """

    tensors: int
    differing: int
    largest: float
    relative: float


@dataclass(frozen=True)
class FigureDistance:
    """A figure of the comparison, then and now; None: undefined, or it wasn't measured.

    Attributes:
        metric, slice: of the measure.
        model: whose figure it is: "base" or "adapter".
        then, now: the values.
    """

    metric: str
    slice: str
    model: str
    then: float | None
    now: float | None


@dataclass(frozen=True)
class Reproduced(Displayed):
    """The result of training a run again.

    Attributes:
        run: the run.
        again: the new run.
        fingerprints: of the data, then and now.
        version: fingerprint of the version of the data; empty if the run doesn't know it.
        weights: how far the adapters are from each other.
        measures: how many measures were compared.
        figures: those that differ.
        otherwise: what of base, code, libraries and machine isn't as it was.
    """

    run: Path
    again: Path
    fingerprints: tuple[str, str]
    version: str
    weights: WeightDistance
    measures: int
    figures: tuple[FigureDistance, ...]
    otherwise: tuple[str, ...]

    @property
    def equal(self) -> bool:
        """Whether data and figures are the same, and weights are bit-equal."""
        same_data = self.fingerprints[0] == self.fingerprints[1]
        return same_data and not self.weights.differing and not self.figures

    def shown(self) -> Iterable[str | Rows]:
        """Show a line each for the data, the weights and each figure that differs."""
        then, now = (each[:SHOWN_DIGITS] for each in self.fingerprints)
        known = f"version {self.version[:SHOWN_DIGITS]}" if self.version else f"fingerprint {then}"
        data = f"the same ({known})" if then == now else f"fingerprint {then} then, {now} now"
        weights, count = self.weights, numbered(self.weights.tensors, "tensor")
        distance = f"bit-equal: {count}"
        if weights.differing:
            distance = (
                f"{weights.differing:,} of {count} differ; the largest difference of a number is "
                f"{weights.largest:.2g}, all differences are {weights.relative:.2%} of the norm"
            )
        lines = [f"trained   {self.again}", f"data      {data}", f"weights   {distance}"]
        if not self.figures:
            lines.append(f"figures   the same: {numbered(self.measures, 'measure')}")
        lines += [
            f"figure    {each.metric} on {each.slice}, {each.model}: {_number(each.then)} then, "
            f"{_number(each.now)} now"
            for each in self.figures
        ]
        return [*lines, *(f"otherwise {each}" for each in self.otherwise)]


@public_call("reproduce")
def reproduce(run: Path, out: Path | None = None, *, progress: bool | None = None) -> Reproduced:
    """Train a run again with its own settings, and compare the adapters and their figures.

    Repeating it resumes the new run, and compares again.

    Args:
        run: a finished run folder.
        out: the new run's folder; None: beside the run, with its name and "-reproduced".
        progress: show progress bars and notes; None: only in a terminal.

    Raises:
        ConfigError: the run isn't finished, or its data isn't the version that it was trained on.
        BaseModelError: the run's base would have to be downloaded.
        MmtuneError: see `train`.
    """
    run = run.resolve() if run.name in {"", ".."} else run
    config, record = load_run(run), read_record(run)
    for name in ("adapter", COMPARISON_FILE):
        if not (run / name).exists():
            raise ConfigError(
                f"{run} holds no {name}: the run isn't finished",
                "repeat the run's `mmtune train` command to finish it",
            )
    require_consent(config)
    card = read_card(run / "adapter")
    version = str(record.get("dataset", {}).get("version", ""))
    _require_version(config, version)
    again = out or run.with_name(run.name + ENDING)
    changed: dict[str, Any] = {"out": again.parent, "name": again.name}
    if (suite := run / SUITE_FILE).is_file():
        changed["suite"] = str(suite)
    if config.init is not None and (run / PARENT).is_dir():
        changed["init"] = run / PARENT
    watched = shows_progress(progress)
    with RichReporter(progress_console()) if watched else nullcontext() as reporter:
        result = train(config.model_copy(update=changed), reporter)
    measures, figures = _figures(read_comparison(run), result.comparison)
    return Reproduced(
        run=run,
        again=again,
        fingerprints=(card.dataset, read_card(again / "adapter").dataset),
        version=version,
        weights=compare_weights(run / "adapter", again / "adapter"),
        measures=measures,
        figures=figures,
        otherwise=tuple(made_otherwise(record, read_record(again)) if record else ()),
    )


def _require_version(config: RunConfig, version: str) -> None:
    """Refuse data that isn't the version that the run was trained on, before training."""
    source = config.data.path
    if not version or source is None:
        return
    rows, _ = current_rows(source, find_modality(config.modality))
    if (now := fingerprint_of(rows.values())) != version:
        short = version[:SHOWN_DIGITS]
        raise ConfigError(
            f"{source} isn't the version that the run was trained on ({short} then, "
            f"{now[:SHOWN_DIGITS]} now)",
            f"restore its rows and files; list them with mmtune data diff {source}@{short}",
        )


def compare_weights(first: Path, second: Path) -> WeightDistance:
    """Compare the tensors of two adapter folders.

    Raises:
        MmtuneError: a file can't be read.
    """
    import torch

    old, new = _tensors(first), _tensors(second)
    differing, largest, squares, norm = 0, 0.0, 0.0, 0.0
    for name in old.keys() | new.keys():
        a, b = old.get(name), new.get(name)
        if a is not None:
            norm += float(a.double().square().sum())
        if a is None or b is None or a.shape != b.shape or a.dtype != b.dtype:
            differing, largest, squares = differing + 1, math.inf, math.inf
        elif not torch.equal(a, b):
            gap = (a.double() - b.double()).abs()
            differing += 1
            largest = max(largest, float(gap.max()))
            squares += float(gap.square().sum())
    relative = math.sqrt(squares / norm) if norm else (math.inf if squares else 0.0)
    return WeightDistance(len(old.keys() | new.keys()), differing, largest, relative)


def _tensors(folder: Path) -> Mapping[str, Tensor]:
    return {
        f"{path.name} {name}": tensor
        for path in finished_files(folder.glob("*.safetensors"))
        for name, tensor in load_tensors(path).items()
    }


def _figures(then: Comparison, now: Comparison) -> tuple[int, tuple[FigureDistance, ...]]:
    """How many measures were compared, and the figures that differ."""
    old, new = ({(m.metric, m.slice): m for m in each.measures} for each in (then, now))
    names = list(dict.fromkeys((*old, *new)))
    differing = []
    for name in names:
        for model in ("base", "adapter"):
            pair = [
                None if (m := side.get(name)) is None else _defined(getattr(m, model).value)
                for side in (old, new)
            ]
            if pair[0] != pair[1]:
                differing.append(FigureDistance(*name, model, *pair))
    return len(names), tuple(differing)


def _defined(value: float | None) -> float | None:
    return None if value is None or math.isnan(value) else value


def _number(value: float | None) -> str:
    return "undefined" if value is None else f"{value:.6g}"
