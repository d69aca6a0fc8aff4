"""The run folder: write its files, and refuse to mix runs with other settings or data."""

from __future__ import annotations

import contextlib
import dataclasses
import json
from collections.abc import Collection, Mapping
from operator import attrgetter
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

import yaml

from mmtune.adapters.card import CARD_FILE, read_card
from mmtune.adapters.named_base import base_of
from mmtune.config import RunConfig, read_yaml
from mmtune.data.policy import refusal_counts
from mmtune.data.rows import Split
from mmtune.errors import ConfigError
from mmtune.evaluation.comparison import COMPARISON_FILE, Comparison, write_comparison
from mmtune.evaluation.suite import load_suite, suite_path
from mmtune.runs.build import build
from mmtune.runs.measuring import drop_measuring
from mmtune.runs.modalities import find_modality
from mmtune.runs.trained_rows import DATA, record_rows
from mmtune.settings.declare import Setting, settings_of
from mmtune.system.base_name import split_base
from mmtune.system.contents import hash_contents
from mmtune.system.files import write_bytes, write_json, write_text
from mmtune.system.formats import FORMAT, without_format
from mmtune.system.hashing import hash_file
from mmtune.system.nested import flat
from mmtune.system.run_folder import begun
from mmtune.system.stored import damaged, is_file, read_json_object

if TYPE_CHECKING:
    from mmtune.data.dataset import Dataset


SUITE_FILE = "suite.yaml"  # in a run's folder: the one that judged it


FILES = "files.json"  # in a run's folder: hashes of the files that its settings name
BASE = "base"  # in files.json: the hash of the base's weights

# Settings that change nothing of what is trained.
AFTERWARDS = {"suite", "data.policy", "report.content", "train.tracker", "train.tracker_samples"}
COPIED = {"init"}  # settings whose file isn't needed again: the run folder has a copy


def keep_suite(folder: Path, suite: str | None) -> None:
    """Copy the suite into the run folder, so that the folder doesn't depend on other files."""
    path = folder / SUITE_FILE
    if suite is None:
        path.unlink(missing_ok=True)
    elif suite_path(suite).resolve() != path.resolve():
        write_text(path, load_suite(suite).dump())


def claim(config: RunConfig) -> None:
    """Write the run's settings, or check that the folder already holds the same settings.

    The contents of the files that settings name belong to the settings, and their places don't: a
    run and its files may be moved. `keep_place` writes the new ones.

    Raises:
        ConfigError: the folder holds a run with other settings.
    """
    path = config.folder / "config.yaml"
    if not begun(config.folder) or not path.exists():
        config.folder.mkdir(parents=True, exist_ok=True)
        _write_settings(path, config)
        # The base's hash stays until `record_base` replaces it, so that a failure loses nothing.
        base = {}
        with contextlib.suppress(ConfigError):  # a damaged record is replaced
            base = {k: v for k, v in _read_files(config.folder).items() if k == BASE}
        _write_files(config.folder, files_of(config) | _judging_files(config) | base)
        return
    # Settings that came with a later version have their defaults in the run of an earlier one.
    stored = without_format(read_yaml(path), path)
    before = build(stored, str(path), type(config.task), {})
    old, new = (flat(yaml.safe_load(each.dump())) for each in (before, config))
    files = files_of(config)
    moved = _moved(config, old, files)
    differing = [
        k for k in sorted(old.keys() | new.keys()) if old.get(k) != new.get(k) and k not in moved
    ]
    # The strength was chosen on the retention rows, so the run depends on which file has them.
    task = settings_of(type(config.task), "task.")
    measuring = {e.name for e in task if e.measuring and (not e.file or e.harmless)}
    if differing and set(differing) <= AFTERWARDS | measuring:
        _write_settings(path, config)
        if measuring & set(differing):
            drop_measuring(config, differing)
            (config.folder / COMPARISON_FILE).unlink(missing_ok=True)  # measure again
    elif differing:
        key = next(name for name in differing if name not in AFTERWARDS | measuring)
        raise ConfigError(
            f"{config.folder} holds a run with other settings: {key} was {_shown(old.get(key))}, "
            f"now {_shown(new.get(key))}"
            + (f", and {len(differing) - 1} more" * (len(differing) > 1)),
            f"give the old settings to resume it, or a new run: --name {config.name}-2",
        )
    _check_files(config, files)
    _measure_again_if_judged_otherwise(config)


def _moved(config: RunConfig, old: Mapping[str, Any], now: Mapping[str, str]) -> set[str]:
    """Settings that only say where something is: the run, and files with the recorded contents."""
    before = _read_files(config.folder)
    found = {name for name in now if before.get(name) == now[name]}
    # `record_data` and `record_base` compare their contents.
    data = config.data.path if old.get("data.path") is not None else None
    if data is not None and data.exists() and (config.folder / DATA).is_file():
        found.add("data.path")
    if BASE in before and Path(split_base(config.base)[0]).expanduser().exists():
        found.add("base")
    return {"out", "name"} | found


def keep_place(config: RunConfig) -> None:
    """Write the settings of a run that was moved; its data is known to be what it was."""
    path = config.folder / "config.yaml"
    if build(without_format(read_yaml(path), path), str(path), type(config.task), {}) != config:
        _write_settings(path, config)


def files_of(config: RunConfig) -> dict[str, str]:
    """The hash of the contents of each file or folder that a setting names, by the setting.

    Settings whose file is recorded elsewhere or doesn't matter are left out, as are names that are
    no path, such as a model of the hub.
    """
    found = {}
    for each in (*settings_of(RunConfig), *settings_of(type(config.task), "task.")):
        if each.file and not each.harmless:
            value = attrgetter(each.name)(config)
            # A card is written again whenever its run is measured again.
            skip = (CARD_FILE, "README.md")
            if value is not None and (contents := hash_contents(_used_of(Path(value)), skip)):
                found[each.name] = contents
    return found


def _judging_files(config: RunConfig) -> dict[str, str]:
    """The hash of each file that only judges results, by its setting.

    Unlike in `files_of`, folders and what a manifest names aren't read: these are recordings.
    """
    found = {}
    for each in settings_of(type(config.task), "task."):
        value = attrgetter(each.name)(config) if _only_judges(each) else None
        if value is not None and is_file(Path(value)):
            found[each.name] = hash_file(Path(value))
    return found


def _only_judges(setting: Setting) -> bool:
    return setting.file and setting.measuring and bool(setting.harmless)


def _measure_again_if_judged_otherwise(config: RunConfig) -> None:
    """Remove a comparison that was made with other contents of a file that judges results."""
    before, now = _read_files(config.folder), _judging_files(config)
    if any(before.get(name, contents) != contents for name, contents in now.items()):
        (config.folder / COMPARISON_FILE).unlink(missing_ok=True)
        _write_files(config.folder, before | now)


def require_consent(config: RunConfig) -> None:
    """Check that no model which the run folder's settings name would have to be downloaded.

    Raises:
        BaseModelError: one would, and no download is allowed.
    """
    named = [e.name for e in settings_of(type(config.task), "task.") if e.file]
    for value in (config.base, *(attrgetter(name)(config) for name in named)):
        if isinstance(value, str):
            base_of(value, config.folder, option=False)


def _used_of(path: Path) -> Path:
    # Of another run, its adapter alone: measuring or repeating that run writes beside it.
    adapter = path / "adapter"
    return adapter if (adapter / CARD_FILE).is_file() else path


def check_files(config: RunConfig, *, missing: bool = False) -> None:
    """Check that the files which settings name hold what they held when the run began.

    A run of an earlier version has no record of them, and passes.

    Args:
        missing: accept that a file is gone. A finished run no longer needs all of them, and reports
            those itself that it needs.

    Raises:
        ConfigError: the contents have changed; the error names the setting.
    """
    _check_files(config, files_of(config), missing=missing)


def _check_files(config: RunConfig, now: Mapping[str, str], *, missing: bool = False) -> None:
    before = _read_files(config.folder)
    judging = {e.name for e in settings_of(type(config.task), "task.") if _only_judges(e)}
    for name in sorted((before.keys() | now.keys()) - {BASE, *judging} if before else ()):
        gone, copied = name not in now, name in COPIED
        spared = (gone and (missing or copied)) or (missing and copied)
        if before.get(name) == now.get(name) or spared:
            continue
        value = attrgetter(name)(config)
        what = "is gone" if gone else "has changed"
        raise ConfigError(
            f"{name}: {value} {what} since the run in {config.folder} began",
            f"restore it, or start a new run: --name {config.name}-2",
        )


def record_base(folder: Path, base: str, base_hash: str) -> None:
    """Write the hash of the base's weights; refuse to resume a run with other weights.

    Raises:
        ConfigError: the base has changed since the run began.
    """
    before = _read_files(folder)
    if not begun(folder):
        _write_files(folder, before | {BASE: base_hash})
    elif before.get(BASE, base_hash) != base_hash:
        raise ConfigError(
            f"base: the weights of {base} have changed since the run in {folder} began "
            f"({before[BASE][:12]} then, {base_hash[:12]} now)",
            "restore the base to resume, or start a new run with --name",
        )


def _read_files(folder: Path) -> dict[str, str]:
    path = folder / FILES
    if not path.is_file():
        return {}
    try:
        found = without_format(json.loads(path.read_text(encoding="utf-8")), path)["files"]
        return {str(name): str(value) for name, value in found.items()}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ConfigError(
            f"{path} is damaged: {error!r}",
            "restore it, or delete it: then nothing tells whether the files that settings name "
            "have changed",
        ) from None


def _write_files(folder: Path, files: Mapping[str, str]) -> None:
    text = json.dumps({"format": FORMAT, "files": dict(files)}, indent=2)
    write_text(folder / FILES, text + "\n")


def _write_settings(path: Path, config: RunConfig) -> None:
    write_text(path, f"format: {FORMAT}\n{config.dump()}")


def record_data(folder: Path, dataset: Dataset, shared: Collection[str] = ()) -> None:
    """Write what the check found and the run's rows; refuse to resume a run with other data.

    Args:
        folder: of the run.
        dataset: the run's data.
        shared: kinds of keys that splits may share.

    Raises:
        ConfigError: the data has changed since the run began.
    """
    path = folder / DATA
    if begun(folder) and path.exists():
        cure = f"restore it, or start a new run with --name {folder.name}-2"
        with damaged(path, cure):
            old = str(without_format(read_json_object(path, cure), path)["fingerprint"])
        if old != dataset.fingerprint:
            refused = refusal_counts(dataset.refused)
            by = f"; rows that the policy keeps out today: {refused}" if refused else ""
            raise ConfigError(
                f"{dataset.source} has changed since {folder} began "
                f"({old[:12]} then, {dataset.fingerprint[:12]} now){by}",
                "restore the data to resume, or start a new run with --name",
            )
        return
    facts = {
        "format": FORMAT,
        "source": str(dataset.source),
        "fingerprint": dataset.fingerprint,
        "version": dataset.version,
        "rows": rows_by_split(dataset),
        "quarantined": list(dataset.quarantined),
        "withheld": list(dataset.withheld),
        "refused": dict(dataset.refused),
        "findings": [dataclasses.asdict(finding) for finding in dataset.findings],
    }
    write_json(path, facts, private=True)  # its findings quote transcripts and captions
    record_rows(folder, dataset, shared)


def rows_by_split(dataset: Dataset) -> dict[str, int]:
    """Count a dataset's rows by split."""
    return {name: len(dataset.split(name)) for name in get_args(Split)}


def keep_comparison(config: RunConfig, found: Comparison) -> None:
    """Write the comparison in place of an earlier one; measures and strength into the card.

    If that fails, both hold what they held before.
    """
    measures = [dataclasses.asdict(measure) for measure in found.measures]
    adapter = config.folder / "adapter"
    card = read_card(adapter)
    if card.parent:
        started = f"training of {card.name} started from {card.parent}"
        found = dataclasses.replace(found, notes=[started, *found.notes])
    # To the byte: a card of an earlier version would be written otherwise today.
    before = {
        p: p.read_bytes() for p in (adapter / CARD_FILE, adapter / "README.md") if p.is_file()
    }
    try:
        facts = {"measures": measures, "judged": card.judged_scale}
        changed = card.model_copy(update=facts)
        changed.write(adapter, find_modality(card.modality).usage(changed))
        # Last, because a run that has its comparison isn't measured again.
        write_comparison(config.folder, found)
    except BaseException:
        for path, content in before.items():
            write_bytes(path, content)
        raise


def _shown(value: object) -> str:
    """A setting's value as in the settings' files, where None is null."""
    return "null" if value is None else repr(value)
