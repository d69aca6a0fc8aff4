"""The adapter that a run starts from (`init`): its settings, and the copy in the run folder."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace
from operator import attrgetter
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mmtune.adapters.card import CARD_FILE, adapter_folder, read_card, weights_hash
from mmtune.adapters.integrity import adapter_files, check_adapter
from mmtune.adapters.named_base import base_of
from mmtune.adapters.routing import is_route
from mmtune.config import LORA_SHAPE, RunConfig
from mmtune.data.row_keys import KnownKeys
from mmtune.errors import AdapterError, ConfigError, DataError
from mmtune.modality import Modality
from mmtune.runs.foreign_adapters import own_form
from mmtune.runs.trained_rows import ROWS, read_recorded_rows
from mmtune.system.files import copy_file, folder_aside
from mmtune.system.run_folder import begun

if TYPE_CHECKING:
    from mmtune.data.dataset import Dataset


def inherited(config: RunConfig, modality: Modality, beside: Collection[str]) -> dict[str, Any]:
    """Read the settings that the adapter of `init` decides.

    Args:
        config: the settings so far, with `init`.
        modality: the run's.
        beside: full names of settings that are given with `init` or later; theirs hold.

    Returns:
        Values by full name; empty if all of them are given.

    Raises:
        ConfigError: there is no such adapter, or nobody names its base.
        AdapterError: it can't be read, is damaged, or is for another modality.
        BaseModelError: only the adapter names the base, and it would have to be downloaded.
    """
    decided = {"base", *(f"lora.{name}" for name in LORA_SHAPE), *modality.adapter_settings}
    if decided <= set(beside):
        return {}
    folder = _copy_of(config) or _found(config, config.base if "base" in beside else None)
    card = read_card(folder)
    if card.modality != modality.name:
        raise AdapterError(
            f"--init {config.init} is an adapter for {card.modality}, but {config.recipe} trains "
            f"{modality.name}",
            "give an adapter of the same kind of data",
        )
    base = config.base if "base" in beside else base_of(card.base, folder)
    given = {name: attrgetter(name)(config) for name in beside if name in decided}
    found = {"base": base, **modality.settings_of_adapter(folder, base, given)}
    return {name: value for name, value in found.items() if name not in beside}


def _copy_of(config: RunConfig) -> Path | None:
    """The copy in the folder of a run that has begun with this adapter; None: it has none."""
    folder = config.parent
    if folder is None or not begun(config.folder):
        return None
    return folder if (folder / CARD_FILE).is_file() else None


def _found(config: RunConfig, base: str | None) -> Path:
    """The adapter folder of `init`, in mmtune's own form, checked."""
    given = config.init
    assert given is not None
    if not given.exists():
        raise ConfigError(
            f"--init {given}: no such file or folder",
            "give a run, or the folder or file of an adapter",
        )
    if is_route(given):
        raise ConfigError(
            f"--init {given} is a route of several adapters",
            "start from one of them: the folders in its adapters/",
        )
    folder = adapter_folder(own_form(given, base))
    check_adapter(folder)
    return folder


def keep_parent(config: RunConfig) -> None:
    """Copy the adapter of `init` into the run folder, unless it is there.

    So the run resumes where the adapter was moved or deleted.

    Raises:
        MmtuneError: see `inherited`.
    """
    to = config.parent
    if to is None:
        return
    if _copy_of(config) is not None and _is_whole(to):
        return
    source = _found(config, config.base)
    rows = source.parent / ROWS
    with folder_aside(to) as partial:
        for path in (*adapter_files(source), source / CARD_FILE):
            copy_file(path, partial / path.name)
        if source.name == "adapter" and rows.is_file():
            copy_file(rows, partial / ROWS)


def _is_whole(folder: Path) -> bool:
    try:
        check_adapter(folder)
    except AdapterError:
        return False
    return True


def lineage_of(config: RunConfig) -> list[dict[str, str]]:
    """Describe the adapter that a run starts from, and those before it, for the card."""
    if config.parent is None:
        return []
    card = read_card(config.parent)
    own = {
        "name": card.name,
        "recipe": card.recipe,
        "hash": weights_hash(config.parent),
        "base": card.base,
        "dataset": card.dataset,
    }
    return [own | {k: v for k, v in card.origin.items() if k == "file"}, *card.lineage]


def without_parents_rows(config: RunConfig, dataset: Dataset) -> tuple[Dataset, list[str]]:
    """Leave out the test rows that the adapter of `init` was trained on or chosen by.

    Returns:
        The dataset without these rows; and what the user should know.

    Raises:
        DataError: the adapter was trained on all test rows.
        ConfigError: the record of its rows is damaged.
    """
    if config.parent is None:
        return dataset, []
    entries = read_recorded_rows(config.parent)
    if entries is None:
        return dataset, [
            f"nothing tells which rows {config.init} was trained on, from which this run started"
        ]
    known, test = KnownKeys(), dataset.split("test")
    known.add(entries)
    seen = {
        row.id for row in test if known.side_of(f"content {row.content}") in ("train", "validation")
    }
    if not seen:
        return dataset, []
    if len(seen) == len(test):
        raise DataError(
            f"{dataset.source}: the adapter of --init, {config.init}, was trained on each of the "
            f"{len(test)} test rows",
            "add test rows that it wasn't trained on, with split = test",
        )
    kept = replace(
        dataset,
        rows=tuple(row for row in dataset.rows if row.id not in seen),
        withheld=(*dataset.withheld, *sorted(seen)),
    )
    return kept, [
        f"{len(seen)} of {len(test)} test rows are left out, because {config.init}, from which "
        "this run started, was trained on them"
    ]
