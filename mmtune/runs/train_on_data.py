"""Training as a step of a run: check the data, run the loop, and save the adapter with its card."""

from __future__ import annotations

import dataclasses
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, cast

import yaml

from mmtune.adapters.adapter_rights import ended_note
from mmtune.adapters.card import Card, TriedPoint, read_card
from mmtune.adapters.integrity import seal_adapter
from mmtune.config import RunConfig
from mmtune.data.rows import Row
from mmtune.data.versions import kept_version
from mmtune.evaluation.comparison import COMPARISON_FILE
from mmtune.evaluation.suite import Suite, unmet
from mmtune.runs import timing
from mmtune.runs.choose_checkpoint import choose_checkpoint, choose_strength
from mmtune.runs.folder import (
    claim,
    keep_place,
    record_base,
    record_data,
    rows_by_split,
)
from mmtune.runs.modalities import find_modality
from mmtune.runs.parent import keep_parent, lineage_of, without_parents_rows
from mmtune.runs.run_data import own_dataset
from mmtune.runs.run_policy import learned_rights, renew_rights
from mmtune.runs.run_record import write_record
from mmtune.runs.saved_adapter import saved_before
from mmtune.runs.trained_rows import recorded_fingerprint
from mmtune.system.files import folder_aside, remove_partials
from mmtune.system.processes import this_process
from mmtune.system.run_folder import begun
from mmtune.training.estimate import CHOICE, DATA, TRAINING, Clock, LaterWork

if TYPE_CHECKING:
    from mmtune.data.dataset import Dataset
    from mmtune.modality import Modality
    from mmtune.training.reporter import FitResult, Reporter
    from mmtune.training.task import Task


@dataclass(frozen=True)
class Trained:
    """What training leaves for the comparison.

    Attributes:
        dataset: the data to measure on.
        task: the task, with its models loaded.
        fit: the result of the loop.
        notes: remarks on the data.
        later: the work after the loop, as it was computed from measured units; None if this call
            didn't begin the training.
    """

    dataset: Dataset
    task: Task
    fit: FitResult
    notes: list[str]
    later: LaterWork | None


def train_on_data(
    config: RunConfig, suite: Suite | None, reporter: Reporter | None, clock: Clock
) -> Trained:
    """Check the data, train an adapter and save it.

    Args:
        suite: what the run will be judged by; gates that will have no data are reported.
        clock: gets the seconds of the phases.
    """
    from mmtune.data.dataset import remarks
    from mmtune.data.rights_file import keep_rights
    from mmtune.data.split_ledger import mark_trained
    from mmtune.prefix.cache import PrefixCache
    from mmtune.training.balance import balance_groups
    from mmtune.training.loop import fit

    modality, folder, process = find_modality(config.modality), config.folder, this_process()
    with process.main_process_first():
        if process.is_main_process:
            remove_partials(folder)
            claim(config)
            keep_parent(config)
            modality.require_base(config.base)  # preparing the data may take minutes
        source = modality.prepare(config)
    own = source == config.data.path  # a recipe may make its data, with all splits named
    earlier = recorded_fingerprint(folder) if begun(folder) else ""
    # Every process writes the ledger, so that all of them divide the rows alike.
    dataset = own_dataset(config, source, earlier, record=own)
    if process.is_main_process and not own and source.is_relative_to(folder):
        dataset = _with_version(dataset, source, modality, reporter)
    if config.train.balance:  # a wrong label is told before the base is loaded
        balance_groups(dataset.split("train"), config.train.balance)
    if process.is_main_process:
        record_data(folder, dataset, config.data.shared)
        keep_rights(folder, dataset)
        renew_rights(config, dataset)
        if own:
            mark_trained(source, dataset.split("train"), config.data)
        keep_place(config)
        if reporter is not None:
            for line in remarks(dataset):
                reporter.note(line)
            if config.parent is not None:
                note = ended_note(read_card(config.parent), f"{config.init}")
                if note:
                    reporter.note(f"init       {note}")
            for line in modality.remarks_on_base(config):
                reporter.note(f"base       {line}")
            lacking: dict[str, list[str]] = {}
            for gate in unmet(suite, config) if suite is not None else ():
                lacking.setdefault(str(gate.needs), []).append(gate.name)
            for setting, names in lacking.items():
                reporter.note(
                    f"suite      {setting} is not set, so these gates will have no data: "
                    f"{', '.join(names)}"
                )
    dataset, notes = without_parents_rows(config, dataset)
    with process.main_process_first():
        added = _added(config, dataset, reporter, process.is_main_process)
    clock.lap(DATA)
    loading = time.perf_counter()
    task = modality.task(config, dataset, PrefixCache() if config.cache else None)
    loaded = time.perf_counter() - loading
    if process.is_main_process:
        record_base(folder, config.base, task.base_hash)
    said: list[LaterWork] = []

    def later(count: int, seconds: float) -> LaterWork:
        found = modality.later_work(config, dataset, task, count, seconds, loaded)
        said.append(LaterWork(*found, timing.FIRST_REPORT).shared(process.num_processes))
        return timing.corrected(timing_kind(config), said[0])

    result = fit(
        task,
        (*dataset.split("train"), *added),
        dataset.split("validation"),
        config.train,
        folder,
        reporter,
        config.model_dump(mode="json"),
        later,
        clock,
    )
    if process.is_main_process:
        if reporter is not None and config.init is not None:
            _note_no_gain(config, task, result, reporter)
        _save_adapter(config, dataset, len(added), task, result, reporter)
        if TRAINING in clock.seconds:  # it wasn't finished before
            write_record(config, dataset, task.base_hash, result.steps, clock.seconds)
    clock.lap(CHOICE)
    return Trained(dataset, task, result, notes, said[0] if said else None)


def timing_kind(config: RunConfig) -> str:
    """The runs that are alike in the time that they take, compared with what is said."""
    process = this_process()
    return f"{config.modality} {process.device.type} {process.num_processes}"


def _note_no_gain(config: RunConfig, task: Task, result: FitResult, reporter: Reporter) -> None:
    """Report that no validation was better than that of the adapter that training started from."""
    name = task.monitor.name
    before, best = result.base.get(name), result.best.get(name)
    if before is not None and best is not None and not task.monitor.better(best, before):
        reporter.note(
            f"no step has a better {name} than {config.init} ({before:.4f}; the best: {best:.4f}): "
            "training gained nothing over that adapter"
        )


def _with_version(
    dataset: Dataset,
    source: Path,
    modality: Modality,
    reporter: Reporter | None,
    parents: Sequence[str] = (),
) -> Dataset:
    """Write a version of rows that the run has made itself."""
    version, findings = kept_version(source, modality, "synthesize", parents=parents)
    if reporter is not None:
        for finding in findings:
            reporter.note(f"{finding.message}. Cure: {finding.cure}")
    return dataclasses.replace(dataset, version=version)


def _added(
    config: RunConfig, dataset: Dataset, reporter: Reporter | None, is_main: bool
) -> tuple[Row, ...]:
    """Make and check the rows that the modality adds to the training rows."""
    from mmtune.data.check import check

    modality = find_modality(config.modality)
    source = modality.extend(config, dataset)
    if source is None:
        return ()
    made = check(source, modality, divide=False)
    rows = made.split("train")
    if is_main:
        parents = [dataset.version] if dataset.version else []
        _with_version(made, source, modality, reporter, parents)
    if is_main and reporter is not None:
        kinds = Counter(row.group.get("mix", "other") for row in rows)
        parts = ", ".join(f"{count} {kind}" for kind, count in kinds.items())
        reporter.note(f"added      {parts}: {source}")
    return rows


def _save_adapter(
    config: RunConfig,
    dataset: Dataset,
    added: int,
    task: Task,
    result: FitResult,
    reporter: Reporter | None,
) -> None:
    from mmtune.adapters.licence import licence_of
    from mmtune.training.strength import scaled

    final = config.folder / "adapter"
    note = reporter.note if reporter is not None else lambda text: None
    if final.exists() and saved_before(config, task, result, note):
        return
    modality = find_modality(config.modality)

    def retention() -> Sequence[Row]:
        return modality.retention(config)

    checkpoint = choose_checkpoint(config, dataset, task, result, retention, note)
    strength = choose_strength(config, dataset, task, retention, note)
    scale = strength.scale
    rows, licence = rows_by_split(dataset), licence_of(config.base)
    card = Card(
        name=config.name,
        recipe=config.recipe,
        modality=config.modality,
        base=config.base,
        base_hash=task.base_hash,
        base_licence=licence.name if licence else "",
        dataset=dataset.fingerprint,
        dataset_version=dataset.version,
        rows=rows | ({"added": added} if added else {}),
        rights=learned_rights(config, dataset),
        settings=yaml.safe_load(config.dump()),
        validation=dict(checkpoint.values),
        best_step=checkpoint.step,
        steps=result.steps,
        checkpoints=[cast(TriedPoint, dataclasses.asdict(each)) for each in checkpoint.points],
        checkpoint=checkpoint.reason,
        scale=scale,
        sweep=[cast(TriedPoint, dataclasses.asdict(each)) for each in strength.points],
        advised=strength.advised,
        advice=strength.reason,
        lineage=lineage_of(config),
    )
    with folder_aside(final) as partial:
        with nullcontext() if scale == 1.0 else scaled(task.module, scale):
            task.save(partial)
        files = seal_adapter(partial)
        card.model_copy(update={"files": files}).write(partial, modality.usage(card))
        (config.folder / COMPARISON_FILE).unlink(missing_ok=True)  # of an adapter that is gone
