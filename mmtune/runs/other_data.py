"""Measure an adapter on data that it wasn't trained on, with or without its run.

The results are written into a folder of their own, which `report`, `review` and `verify` read like
a run folder: it holds a copy of the adapter, its settings, the answers and the comparison. The
comparison of two adapters has a file of its own, see `elsewhere.py`.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from mmtune.adapters.card import Card
from mmtune.adapters.integrity import PEFT_CONFIG, adapter_files, content_hash
from mmtune.config import PARENT, RunConfig
from mmtune.data.dataset import Dataset
from mmtune.data.row_keys import KnownKeys
from mmtune.data.rows import Row
from mmtune.errors import ConfigError, DataError, MmtuneError
from mmtune.runs.import_hint import described, import_cure
from mmtune.runs.measured_adapter import EVALUATION_FILE, MeasuredAdapter
from mmtune.runs.modalities import find_modality
from mmtune.runs.recipes import load_run
from mmtune.runs.run_data import NamedData, named_data, own_dataset
from mmtune.runs.trained_rows import read_recorded_rows, recorded_fingerprint
from mmtune.system.display import plain_values
from mmtune.system.files import copy_file, folder_aside, write_json, write_text
from mmtune.system.formats import FORMAT, without_format
from mmtune.system.inside import inside
from mmtune.system.locks import locked
from mmtune.system.processes import this_process
from mmtune.system.stored import damaged, read_json_object

INSIDE = "evaluations"  # folder in a run folder
BEFORE = ("train", "validation")  # splits whose rows an adapter has seen
MIN_ROWS = 2  # rows to measure, and to compare with, where an adapter is compared with its training
HALF = 0.5  # share of the rows that are held out, where the others must show the look


@dataclass(frozen=True)
class Measured:
    """Rows to measure on.

    Attributes:
        dataset: the test rows, and the training rows that a comparison needs.
        trained: whether these are rows that the adapter was trained on.
        notes: which rows are measured, and what isn't known of them.
    """

    dataset: Dataset
    trained: bool
    notes: tuple[str, ...]


@dataclass(frozen=True)
class Evaluated:
    """What `evaluation.json` holds: enough to repeat the evaluation.

    Paths are absolute, or relative to the folder of the results where that lies in the run, so that
    a run can be moved.

    Attributes:
        adapter: the run or adapter.
        data: the manifest or folder; None: the run's own test rows.
        against: the other adapter; None: the adapter was compared with its base.
        base: the base model, if the user named it.
        other_base: the base of the other adapter, if it stands on another one.
        settings: changes to the adapter's settings.
    """

    adapter: str
    data: str | None = None
    against: str | None = None
    base: str | None = None
    other_base: str | None = None
    settings: dict[str, Any] = field(default_factory=dict)

    @staticmethod
    def of(
        folder: Path,
        found: MeasuredAdapter,
        data: Path | None,
        against: Path | None,
        other_base: str | None = None,
    ) -> Evaluated:
        """Describe an evaluation whose results are in `folder`."""
        adapter = found.run or found.place

        def stored(path: Path) -> str:
            place, root = path.resolve(), adapter.resolve()
            near = folder.resolve().is_relative_to(root) and place.is_relative_to(root)
            return os.path.relpath(place, folder.resolve()) if near else str(place)

        return Evaluated(
            stored(adapter),
            None if data is None else stored(data),
            None if against is None else stored(against),
            found.named_base,
            other_base,
            plain_values(found.changes),
        )

    def paths(self, folder: Path) -> tuple[Path, Path | None, Path | None]:
        """The adapter, the data and the other adapter, seen from the current folder.

        The copy in the folder stands for an adapter that is gone.
        """

        def found(text: str | None) -> Path | None:
            return None if text is None else Path(os.path.normpath(folder / text))

        adapter = found(self.adapter)
        assert adapter is not None
        return adapter if adapter.exists() else folder, found(self.data), found(self.against)


def rows_to_measure(adapters: list[MeasuredAdapter], data: Path | None) -> Measured:
    """Choose the rows that no adapter has seen.

    Args:
        adapters: the adapter, and perhaps another one.
        data: a manifest or folder; None: the test rows of the first adapter's run.

    Raises:
        ConfigError: there is no data, because the first adapter has no run.
        DataError: the data can't be used, or the adapters were trained on all of it.
    """
    first = adapters[0]
    seen: dict[str, str] = {}  # contents, with the adapter that was trained on them
    records: list[tuple[str, KnownKeys]] = []  # two adapters may have one name
    missing: list[tuple[MeasuredAdapter, str]] = []
    own: Dataset | None = None
    for each in adapters:
        entries = read_recorded_rows(each.run) if each.run is not None else None
        if entries is not None:
            record = KnownKeys()
            record.add(entries)
            records.append((each.name, record))
        before = read_recorded_rows(each.run / PARENT) if each.run is not None else None
        if before is not None:
            record = KnownKeys()
            record.add(before)
            records.append((f"the adapter that {each.name} started from", record))
        dataset, reason = _training_data(each)
        if dataset is not None:
            seen |= {row.content: each.name for row in dataset.rows if row.split in BEFORE}
            own = dataset if each is first else own
        elif entries is None:
            missing.append((each, reason))
    named = _named(first, data, own) if data is not None else None
    if named is not None and named.trained:
        # The training data, which isn't where the run names it.
        own, missing = named.dataset, [(each, why) for each, why in missing if each is not first]
        seen |= {row.content: first.name for row in own.rows if row.split in BEFORE}
    notes = [f"{why}: nothing tells which rows it was trained on" for _, why in missing]
    if named is not None:
        found, test = named.dataset, list(named.test or named.dataset.rows)
        notes += _chosen(first, named, own)
    elif own is not None:
        found, test = own, list(own.split("test"))
    else:
        raise ConfigError(
            f"{first.given} has no data of its own here to measure on",
            "name a manifest or folder: --data PATH",
        )
    for row in test:
        for name, record in records:
            if record.side_of(f"content {row.content}") in BEFORE:
                seen[row.content] = name
    kept = [row for row in test if row.content not in seen]
    names = " and ".join(sorted({seen[r.content] for r in test if r.content in seen}))
    if left := len(test) - len(kept):
        notes.append(f"{left} of {len(test)} rows aren't measured: {names} was trained on them")
    if not kept:
        raise DataError(
            f"{found.source}: no row is left to measure on"
            + (f"; {notes[-1]}" if left else ": it has no test rows"),
            "name other recordings or images: --data PATH",
        )
    trained = own is not None and bool(own.split("train"))
    shown: Sequence[Row] = own.split("train") if own is not None else ()
    if not trained and first.modality.compares_with_training:
        shown = found.split("train")
    apart = _apart(shown, kept)
    if first.modality.compares_with_training and min(len(apart), len(kept)) < MIN_ROWS:
        why = f": {names} was trained on the other {left}, which are left out" if left else ""
        raise DataError(
            f"{found.source}: {len(kept)} of its {len(test)} rows can be measured{why}; "
            f"{MIN_ROWS} or more are needed, and as many others to compare with",
            "give a folder of others that it wasn't trained on: --data PATH",
        )
    rows = (*apart, *(row.model_copy(update={"split": "test"}) for row in kept))
    return Measured(dataclasses.replace(found, rows=rows), trained, tuple(notes))


def _training_data(each: MeasuredAdapter) -> tuple[Dataset | None, str]:
    """Read the data of an adapter's run; None if it isn't here, with the reason."""
    if each.run is None:
        return None, f"{each.name} has no run"
    config = load_run(each.run)
    try:
        if config.data.path is None and not (each.run / "data").is_dir():
            raise DataError(f"{each.run} holds no data folder")
        source = each.modality.prepare(config)
        return own_dataset(config, source, recorded_fingerprint(each.run)), ""
    except MmtuneError as error:
        return None, f"the training data of {each.name} isn't here ({error.found})"


def _named(first: MeasuredAdapter, data: Path, own: Dataset | None) -> NamedData:
    """Read a manifest or folder that the user names; `own` is the data of the adapter's run."""
    if not data.exists():
        raise ConfigError(f"--data: no such file or folder: {data}", "give a manifest or a folder")
    if first.modality.is_calls(data):
        what = described(data) or "holds recordings and transcripts that can't be measured as rows"
        cure = import_cure(data, first.modality) or f"import them: mmtune import {data} --to DIR"
        raise ConfigError(
            f"{data} {what}",
            f"{cure} for --data. If these are whole calls, they can be measured as they are with a "
            "run folder, without --base, --against and --out",
        )
    trained = {}
    if own is None and first.card is not None:
        trained = {first.card.dataset: first.name}
    half = first.config.data.model_copy(update={"validation": 0.0, "test": HALF})
    needs = first.modality.compares_with_training and not (own and own.split("train"))
    divide = half if needs else None
    return named_data(data, first.config, trained, [first.config.data], divide)


def _chosen(first: MeasuredAdapter, named: NamedData, own: Dataset | None) -> Iterator[str]:
    """Which rows of named data are measured, where that isn't plain."""
    data, test, rows = named.dataset.source, len(named.test), len(named.dataset.rows)
    if named.trained:
        yield f"{data} is what {named.trained} was trained on: its test rows are measured"
    elif first.modality.compares_with_training and not (own and own.split("train")):
        yield (
            f"{test} of {rows} rows of {data} are measured; the others show the look, because no "
            "training data is here"
        )
    elif 0 < test < rows:
        yield f"{test} of {rows} rows of {data} are measured: those whose 'split' is 'test'"


def _apart(shown: Sequence[Row], kept: list[Row]) -> list[Row]:
    """The rows of `shown` that aren't measured, with ids that no measured row has."""
    contents, ids = {row.content for row in kept}, {row.id for row in kept}
    return [
        row.model_copy(update={"split": "train", "id": f"trained/{row.id}"})
        if row.id in ids
        else row.model_copy(update={"split": "train"})
        for row in shown
        if row.content not in contents
    ]


def results_folder(
    found: MeasuredAdapter, data: Path | None, against: MeasuredAdapter | None, out: Path | None
) -> Path:
    """The folder to write results to: `out`, or one in the run folder or beside the adapter."""
    if out is not None:
        return out
    what = _name_of(data) if data is not None else "own-data"
    what += f"-against-{against.name}" if against is not None else ""
    if found.run is not None:
        return found.run / INSIDE / what
    return found.place.parent / f"{found.name}-on-{what}"


def _name_of(data: Path) -> str:
    data = data.resolve()
    return data.parent.name if data.stem == "manifest" else data.stem or "data"


@contextmanager
def results_in(
    folder: Path,
    found: MeasuredAdapter,
    data: Path | None,
    against: Path | None = None,
    other_base: str | None = None,
) -> Iterator[RunConfig]:
    """Prepare the folder of the results, and lock it meanwhile.

    Args:
        folder: the folder.
        found: the adapter.
        data: a manifest or folder; None: the run's own test rows.
        against: the other adapter; None: the adapter is compared with its base.
        other_base: the other adapter's base, if it stands on another one.

    Yields:
        The settings with which the results are made; their folder is `folder`.

    Raises:
        ConfigError: the folder holds something else.
        Locked: another command works in it.
    """
    process = this_process()
    config = found.config.model_copy(
        update={
            "out": folder.parent,
            "name": folder.name,
            "data": found.config.data.model_copy(update={"path": data}),
        }
    )
    what = Evaluated.of(folder, found, data, against, other_base)
    if not process.is_main_process:
        process.wait_for_everyone()
        yield config
        return
    _require_own(folder, what)
    folder.mkdir(parents=True, exist_ok=True)
    with locked(folder):
        _copy_adapter(found, config, folder / "adapter")
        write_text(folder / "config.yaml", f"format: {FORMAT}\n{config.dump()}")
        write_json(folder / EVALUATION_FILE, {"format": FORMAT, **dataclasses.asdict(what)})
        process.wait_for_everyone()
        yield config


def read_evaluation(folder: Path) -> Evaluated | None:
    """Read what a folder of results was made of; None: it is no such folder.

    Raises:
        ConfigError: the file is damaged.
    """
    path, cure = folder / EVALUATION_FILE, "repeat the evaluation with another --out DIR"
    if not path.is_file():
        return None
    values = without_format(read_json_object(path, cure), path)
    with damaged(path, cure):
        return Evaluated(**values)


def _require_own(folder: Path, what: Evaluated) -> None:
    if not folder.exists() or (folder.is_dir() and not any(folder.iterdir())):
        return
    earlier = read_evaluation(folder) if folder.is_dir() else None
    if earlier is None:
        raise ConfigError(
            f"{folder} exists, and holds no results of an evaluation", "choose another: --out DIR"
        )
    for name in ("data", "against"):
        _require_same(folder, f"--{name}", getattr(earlier, name), getattr(what, name))
    adapters = [each.paths(folder)[0] for each in (earlier, what)]
    # The copy in the folder stands for an adapter that is gone.
    if not any(each.resolve().is_relative_to(folder.resolve()) for each in adapters):
        _require_same(folder, "the adapter", *map(Path.resolve, adapters))


def _require_same(folder: Path, name: str, before: object, now: object) -> None:
    if before != now:
        raise ConfigError(
            f"{folder} holds the results of another evaluation: {name} was {before}, now {now}",
            "choose another folder: --out DIR",
        )


def _copy_adapter(found: MeasuredAdapter, config: RunConfig, to: Path) -> None:
    """Copy the adapter, with a card that names the settings of the evaluation."""
    settings = yaml.safe_load(config.dump())
    card = found.card
    if card is None:
        card = Card(
            name=found.name,
            recipe=config.recipe,
            modality=config.modality,
            base=config.base,
            base_hash="",  # nobody wrote down which weights it was trained on
            dataset="",
            rows={},
            settings=settings,
        )
    if to.exists() and to.resolve() == found.folder.resolve():
        return
    with folder_aside(to) as partial:
        for path in adapter_files(found.folder):
            # An adapter's own files may be links, as in the hub's cache; no other file is followed.
            own = path.suffix == ".safetensors" or path.name == PEFT_CONFIG
            if own or inside(found.folder, path) is not None:
                copy_file(path, partial / path.name)
        files = card.files or {path.name: content_hash(path) for path in adapter_files(partial)}
        changes: dict[str, Any] = {"settings": settings, "files": files, "base": config.base}
        changed = card.model_copy(update=changes | {"measures": []})
        changed.write(partial, find_modality(card.modality).usage(changed))
