"""The steps of a run: check the data, train, compare with the base, and write the report."""

from __future__ import annotations

import dataclasses
import shlex
from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mmtune.adapters.adapter_rights import ended_note
from mmtune.adapters.card import CARD_FILE, read_card
from mmtune.adapters.integrity import check_adapter
from mmtune.config import RunConfig
from mmtune.data.policy import refusal_counts
from mmtune.errors import ConfigError
from mmtune.evaluation.answers import forget
from mmtune.evaluation.comparison import COMPARISON_FILE, Comparison, read_comparison
from mmtune.evaluation.gate_result import Step
from mmtune.evaluation.parallel import agreed
from mmtune.evaluation.suite import Suite, load_suite
from mmtune.evaluation.verdict import VERDICT_FILE, Verdict, judge, read_verdict, write_verdict
from mmtune.pages.report import PAGE, REDACTED, write_report
from mmtune.pages.sources import require_own_files
from mmtune.runs import timing
from mmtune.runs.against_page import holds_two, write_against_page
from mmtune.runs.folder import (
    SUITE_FILE,
    check_files,
    keep_comparison,
    keep_suite,
    require_consent,
)
from mmtune.runs.measuring import keep_measuring, with_measuring
from mmtune.runs.modalities import find_modality, play, setting_names
from mmtune.runs.parent import without_parents_rows
from mmtune.runs.recipes import load_run
from mmtune.runs.run_data import own_dataset
from mmtune.runs.run_policy import renew_rights
from mmtune.runs.run_record import STOPPED, add_seconds
from mmtune.runs.train_on_data import timing_kind, train_on_data
from mmtune.runs.trained_rows import recorded_fingerprint, without_trained
from mmtune.system.display import Displayed, Rows, numbered, plain_values
from mmtune.system.locks import locked
from mmtune.system.processes import this_process, together
from mmtune.training.estimate import COMPARISON, REPORT, TRAINING, Clock
from mmtune.training.interrupt import Interrupted
from mmtune.training.log import RunLog

if TYPE_CHECKING:
    from mmtune.data.dataset import Dataset
    from mmtune.training.reporter import FitResult, Reporter
    from mmtune.training.task import Task


@dataclass(frozen=True, kw_only=True)
class Evaluation(Displayed):
    """The measurements of a finished run.

    Attributes:
        folder: of the run: config.yaml, data.json, files.json, log.jsonl, checkpoints/, adapter/,
            report.html.
        verdict: of the run's suite; None: it has none.
    """

    folder: Path
    comparison: Comparison
    verdict: Verdict | None = None

    @property
    def adapter(self) -> Path:
        """The folder of the adapter."""
        return self.folder / "adapter"

    @property
    def report(self) -> Path:
        """The path of the report."""
        return self.folder / PAGE

    @property
    def steps(self) -> list[Step]:
        """Commands that give the verdict the data that it lacks."""
        if self.verdict is None:
            return []
        return self.verdict.steps(str(self.folder), self.comparison.seconds)

    def to_dict(self) -> dict[str, Any]:
        """Convert to JSON values: paths, comparison, and verdict (None if there is none)."""
        return {
            "folder": str(self.folder),
            "adapter": str(self.adapter),
            "report": str(self.report),
            "comparison": self.comparison.to_dict(),
            "verdict": self.verdict.to_dict() if self.verdict is not None else None,
        }

    def shown(self) -> Iterable[str | Rows]:
        """Show the comparison, the paths of the files, and the verdict or why there is none."""
        return [
            *self.comparison.shown(),
            f"adapter  {self.adapter}",
            f"report   {self.report}",
            *(self.verdict.shown() if self.verdict is not None else (self._no_verdict(),)),
            *(f"next     {step}" for step in self.steps),
        ]

    def _no_verdict(self) -> str:
        line = f"mmtune evaluate {shlex.quote(str(self.folder))} --suite NAME"
        return f"verdict  no suite was named, so there is no verdict: {line}"


@dataclass(frozen=True, kw_only=True)
class RunResult(Evaluation):
    """The result of a training run and its measurements.

    Attributes:
        fit: the result of the training loop.
    """

    fit: FitResult

    def to_dict(self) -> dict[str, Any]:
        """Convert to JSON values: those of an `Evaluation`, and the result of training."""
        return super().to_dict() | {"fit": plain_values(self.fit)}


def train(config: RunConfig, reporter: Reporter | None = None) -> RunResult:
    """Check the data, train an adapter, compare it with the base, and write the report.

    Calling it again with the same settings resumes the run, and takes little time if it is done.
    An adapter that was damaged since is restored from the run's checkpoint.

    Raises:
        MmtuneError: a problem that the user can solve; the error names the cure.
        Locked: another command works in the run folder.
        Interrupted: a signal stopped the run; it is saved.
    """
    clock = Clock()
    require_packages(config)
    config.folder.mkdir(parents=True, exist_ok=True)
    from mmtune.prefix.cache import pinning

    with _lock(config.folder), pinning(), together():
        return _train(config, reporter, clock)


def train_adapter(config: RunConfig, reporter: Reporter | None = None) -> None:
    """Check the data, train an adapter and save it, without the comparison; see `train`.

    Of a finished run this restores a damaged adapter. The caller holds the run folder's lock.

    Raises:
        MmtuneError, Interrupted: see `train`.
    """
    from mmtune.prefix.cache import pinning

    with pinning(), together():
        train_on_data(config, None, reporter, Clock())


def require_packages(config: RunConfig) -> None:
    """Check that packages that settings name are installed, before anything is prepared.

    Raises:
        ConfigError: one is unknown or missing.
    """
    if config.train.optimizer != "adamw":
        from mmtune.training.optimizer import require_optimizer

        require_optimizer(config.train)
    if config.train.tracker is not None:
        from mmtune.training.tracker import require_tracker

        require_tracker(config.train.tracker)


def _lock(folder: Path) -> AbstractContextManager[None]:
    """Lock a run folder; the processes of one run are one holder, so the main process locks."""
    return locked(folder) if this_process().is_main_process else nullcontext()


def _train(config: RunConfig, reporter: Reporter | None, clock: Clock) -> RunResult:
    suite = suite_for(config.suite, config.modality) if config.suite else None
    try:
        trained = train_on_data(config, suite, reporter, clock)
    except Interrupted:
        clock.lap(TRAINING)
        log = RunLog(config.folder / "log.jsonl", this_process().is_main_process)
        log.write(event=STOPPED, phases=clock.seconds)
        raise
    dataset, task, result, said = trained.dataset, trained.task, trained.fit, trained.later
    if this_process().is_main_process:
        keep_suite(config.folder, config.suite)
    comparison = measure(
        with_measuring(config), dataset, suite, task, notes=trained.notes, clock=clock
    )
    folder = config.folder
    if said is not None and this_process().is_main_process:  # all of it was done in this call
        RunLog(folder / "log.jsonl", active=True).write(event="took", phases=clock.seconds)
        timing.record(timing_kind(config), said, clock.seconds)
    if TRAINING in clock.seconds and this_process().is_main_process:
        add_seconds(folder, clock.seconds)
    return RunResult(folder=folder, fit=result, comparison=comparison, verdict=read_verdict(folder))


def evaluate(
    config: RunConfig,
    suite: str | None = None,
    fresh: bool = False,
    changed: Mapping[str, Any] | None = None,
) -> Comparison:
    """Compare a finished run's adapter with its base again, on the run's own test rows.

    The verdict is written into the run folder (`read_verdict`). Several processes (`accelerate
    launch -m mmtune evaluate`) share the work and give the same figures as one process.

    Args:
        config: the settings to measure with.
        suite: the suite to use from now on, instead of the run's own.
        fresh: ignore stored answers and run the models again.
        changed: settings of the comparison, which `config` has already. They are kept for later
            evaluations once this one is complete.

    Raises:
        ConfigError: the run has no adapter yet, or the suite can't be used.
        BaseModelError: the run's base would have to be downloaded.
        Locked: another command works in the run folder.
        AdapterError: the adapter is damaged.
    """
    if not (config.folder / "adapter").is_dir():
        raise ConfigError(
            f"{config.folder} holds no adapter/ folder: the run isn't finished",
            "repeat the run's `mmtune train` command to finish it",
        )
    from mmtune.prefix.cache import pinning

    with _lock(config.folder), pinning(), together():
        return _evaluate(config, suite, fresh, changed or {})


def _evaluate(
    config: RunConfig, suite: str | None, fresh: bool, changed: Mapping[str, Any]
) -> Comparison:
    if suite is None and (own := config.folder / SUITE_FILE).is_file():
        suite = str(own)  # also where the run was moved, and its recipe wasn't
    suite = suite or config.suite
    gates = suite_for(suite, config.modality) if suite else None
    require_consent(config)
    check_adapter(config.folder / "adapter")
    modality, process = find_modality(config.modality), this_process()
    with process.main_process_first():
        if process.is_main_process:
            # What was trained: the files that `config` names may be others, to measure on.
            check_files(load_run(config.folder), missing=True)
        source = modality.prepare(config)
    dataset = own_dataset(config, source, recorded_fingerprint(config.folder))
    if process.is_main_process:
        renew_rights(config, dataset)
    dataset, notes = without_trained(config.folder, dataset, config.data.shared)
    dataset, more = without_parents_rows(config, dataset)
    if process.is_main_process and fresh:
        forget(config.folder)
    # The earlier comparison, verdict and suite stay until the new comparison is complete.
    found = measure(config, dataset, gates, again=True, keep=suite, notes=[*notes, *more])
    if process.is_main_process:
        keep_measuring(config, changed)
    return found


def suite_for(name: str, modality: str) -> Suite:
    """Load a suite for a modality, and check the settings that its gates name.

    Raises:
        ConfigError: the suite can't be used.
    """
    return load_suite(name, modality, setting_names(modality))


def measure(
    config: RunConfig,
    dataset: Dataset,
    suite: Suite | None,
    task: Task | None = None,
    *,
    again: bool = False,
    keep: str | None = None,
    notes: Sequence[str] = (),
    clock: Clock | None = None,
) -> Comparison:
    """Read the run's comparison, or make it: all processes answer, the main process writes.

    Args:
        config: the settings to measure with.
        again: make it even if there is one; it is replaced at the end.
        keep: the suite to copy into the run folder then.
        notes: remarks on the data that the comparison keeps.
        clock: gets the seconds of the comparison and of the report.
    """
    from mmtune.data.rights_file import keep_rights

    process, path = this_process(), config.folder / COMPARISON_FILE
    if process.is_main_process:
        keep_rights(config.folder, dataset)
    if agreed(again or not path.exists()):
        found = find_modality(config.modality).compare(config, dataset, config.folder, task)
        if found is not None and process.is_main_process:
            said = [*notes, *_rights_notes(config, dataset)]
            keep_comparison(config, dataclasses.replace(found, notes=said))
    if clock is not None:
        clock.lap(COMPARISON)
    if process.is_main_process:
        if again:
            keep_suite(config.folder, keep)
        _conclude(config.folder, suite)
    if clock is not None:
        clock.lap(REPORT)
    process.wait_for_everyone()
    return read_comparison(config.folder)


def quarantine_note(dataset: Dataset) -> list[str]:
    """Say which rows the policy keeps out of a comparison; empty if there are none."""
    if not dataset.refused:
        return []
    by = f" by {dataset.policy.place}" if dataset.policy.place else ""
    count, reasons = sum(dataset.refused.values()), refusal_counts(dataset.refused)
    rows = f"{numbered(count, 'row')} {'is' if count == 1 else 'are'}"
    return [f"{rows} quarantined{by}, and not measured: {reasons}"]


def _rights_notes(config: RunConfig, dataset: Dataset) -> list[str]:
    """Rows that the policy keeps out of the comparison, and consents that have ended since."""
    adapter = config.folder / "adapter"
    card = read_card(adapter) if (adapter / CARD_FILE).is_file() else None
    ended = ended_note(card, "this adapter") if card is not None else ""
    return [*quarantine_note(dataset), *([ended] if ended else [])]


def _conclude(folder: Path, suite: Suite | None) -> None:
    """Write the verdict and the report that follow from the comparison."""
    comparison = read_comparison(folder)
    if suite is None:
        (folder / VERDICT_FILE).unlink(missing_ok=True)
    else:
        write_verdict(folder, judge(suite, comparison))
    write_report(folder / PAGE, [comparison], [folder], play=play, naming=find_modality)


def report(runs: Sequence[Path], out: Path | None = None, *, redacted: bool = False) -> Path:
    """Write the report of finished runs from their folders, without models or data.

    Args:
        runs: the run folders.
        out: the HTML file; None: `report.html` or `report-redacted.html` in the run folder.
        redacted: show no items of any run, whatever its `report.content` says.

    Returns:
        The path of the page.

    Raises:
        ConfigError: a run isn't finished, there are several runs and no `out`, or a file of a run
            folder is a link that leads out of it.
        Locked: the page belongs into a run folder, and another command works there.
    """
    if len(runs) == 1 and holds_two(runs[0]):
        return write_against_page(runs[0], out, redacted=redacted)
    for run in runs:
        if holds_two(run):
            raise ConfigError(
                f"{run} holds the comparison of two adapters, which has a page of its own",
                f"write it alone: mmtune report {run}",
            )
    lock: AbstractContextManager[None] = nullcontext()
    if out is None:
        if len(runs) != 1:
            raise ConfigError(
                f"a report of {len(runs)} runs needs --out", "give a file: --out FILE.html"
            )
        out = runs[0] / (REDACTED if redacted else PAGE)
        lock = locked(runs[0])
    for run in runs:
        require_own_files(run)
    with lock:
        found = [read_comparison(run) for run in runs]
        write_report(out, found, runs, redacted=redacted, play=play, naming=find_modality)
    return out
