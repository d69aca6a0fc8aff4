"""Find the adapter to measure: that of a run, of an adapter folder, or of another program."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from mmtune.adapters.adopt import FOREIGN, ForeignAdapter, find_foreign
from mmtune.adapters.card import CARD_FILE, Card, adapter_folder, read_card, weights_hash
from mmtune.adapters.foreign import read_config
from mmtune.adapters.integrity import PEFT_CONFIG, check_adapter
from mmtune.adapters.named_base import base_of
from mmtune.adapters.routing import is_route
from mmtune.config import RunConfig
from mmtune.errors import AdapterError, ConfigError
from mmtune.modality import Modality
from mmtune.runs.foreign_adapters import convert, is_known
from mmtune.runs.measuring import with_measuring
from mmtune.runs.modalities import MODALITIES, find_modality
from mmtune.runs.recipes import configure, load_run
from mmtune.settings.declare import settings_of

EVALUATION_FILE = "evaluation.json"  # in a folder of results: what was measured on what


@dataclass(frozen=True)
class MeasuredAdapter:
    """An adapter to measure.

    Attributes:
        given: the path that the user named.
        place: the adapter folder, or for an adapter of another program its file or folder.
        folder: the adapter folder in mmtune's own form.
        modality: its modality.
        config: the settings to measure with; the base is the one to measure on.
        run: its run folder; None: it has none.
        card: None if it has none.
        digest: hash of its weights.
        named_base: the base that the user named; None: the adapter's own.
        changes: the settings that the user changed.
        notes: settings that were left out.
    """

    given: Path
    place: Path
    folder: Path
    modality: Modality
    config: RunConfig
    run: Path | None
    card: Card | None
    digest: str
    named_base: str | None = None
    changes: Mapping[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """The name for tables and folders."""
        if self.run is not None:
            return self.run.name
        return self.place.stem if self.place.is_file() else self.place.name


def find_adapter(
    given: Path, base: str | None = None, settings: Mapping[str, Any] | None = None
) -> MeasuredAdapter:
    """Find an adapter and its settings.

    Args:
        given: a run folder, its adapter/ folder, an adapter folder with mmtune's card, or a
            folder or `.safetensors` file of another program.
        base: the base model; None: the one that the adapter names.
        settings: changes to the settings, by full or short name.

    Raises:
        ConfigError: there is no such folder, the base isn't known, or a setting is wrong.
        AdapterError: the folder holds no adapter, or it is damaged.
        BaseModelError: only the adapter names the base, and it would have to be downloaded.
    """
    if not given.exists():
        raise ConfigError(
            f"{given} is not a run folder or an adapter: there is no such file or folder",
            "give a run folder (runs/NAME) or an adapter folder",
        )
    given = given.resolve() if given.name in {"", ".."} else given
    if is_route(given):
        raise ConfigError(
            f"{given} is a route of several adapters",
            "measure its adapters one by one: the folders in its adapters/",
        )
    place, foreign = _adapter_in(given)
    folder = place if foreign is None else convert(foreign, base)
    check_adapter(folder)
    run = run_of(folder)
    card = read_card(folder) if (folder / CARD_FILE).is_file() else None
    if run is not None:
        config = with_measuring(load_run(run))
        values = config.model_dump(mode="json")
        values["suite"] = config.suite
    elif card is not None:
        values = _values_of(card)
    else:
        values = {"recipe": FOREIGN, "modality": _foreign(folder).name, "name": folder.name}
        values |= {"base": base or _base_in(folder)}
    values["base"] = base or base_of(str(values["base"]), folder)
    config = configure(values, str(given), settings or {})
    if run is None:
        config = _without_code(config, settings or {})
    found = MeasuredAdapter(
        given,
        place,
        folder,
        find_modality(config.modality),
        config,
        run,
        card,
        weights_hash(folder),
        base,
        dict(settings or {}),
    )
    return _without_missing(found)


def _adapter_in(given: Path) -> tuple[Path, ForeignAdapter | None]:
    """Where the adapter is; and the adapter, if it has to be converted."""
    for folder in (given, given / "adapter"):
        own = folder.is_dir() and run_of(folder) is not None and _modalities_of(folder)
        if own or (folder / CARD_FILE).is_file():
            return folder, None
    foreign = find_foreign(given)
    if foreign is None:
        return adapter_folder(given), None  # which says what is missing
    place = foreign.file.parent if given.is_dir() and _modalities_of(foreign.file.parent) else given
    # Files that a modality names but doesn't know by their keys are measured as they are.
    return place, foreign if given.is_file() or is_known(foreign) else None


def _modalities_of(folder: Path) -> list[Modality]:
    """The modalities whose adapters consist of the files that a folder holds."""
    return [
        modality
        for _, modality in MODALITIES.usable()
        if modality.adapter_files and all((folder / n).is_file() for n in modality.adapter_files)
    ]


def _foreign(folder: Path) -> Modality:
    found = _modalities_of(folder)
    if len(found) != 1:
        names = " or ".join(modality.name for modality in found) or "no modality"
        usable = [m for _, m in MODALITIES.usable() if m.adapter_files]
        known = (f"for {m.name} {' and '.join(m.adapter_files)}" for m in usable)
        raise AdapterError(
            f"{folder} has no {CARD_FILE}, and its files are those of {names}",
            f"give a folder with the files of one kind of adapter: {'; '.join(known)}",
        )
    return found[0]


def config_of(folder: Path, card: Card) -> RunConfig:
    """Read the settings that an adapter was trained with, from its run or else from its card."""
    run = run_of(folder)
    if run is not None:
        return load_run(run)
    return _without_code(configure(_values_of(card), str(folder)), {})


def _without_code(config: RunConfig, given: Mapping[str, Any]) -> RunConfig:
    """Leave out settings that name code, unless the user gives them: a card may be somebody's."""
    own = {name.rpartition(".")[2] for name in given}
    named = {
        each.name.rpartition(".")[2]: each.default
        for each in settings_of(type(config.task), "task.")
        if each.code
    }
    changes = {name: default for name, default in named.items() if name not in own}
    return config.model_copy(update={"task": config.task.model_copy(update=changes)})


def _values_of(card: Card) -> dict[str, Any]:
    # A merged adapter has no run; the adapter that training started from isn't needed again.
    left_out = ("compose", "out", "suite", "init")
    known = {k: v for k, v in card.settings.items() if k not in left_out}
    values = {"recipe": card.recipe, "modality": card.modality, "name": card.name}
    return values | known | {"base": card.base}


def run_of(folder: Path) -> Path | None:
    """The run that made an adapter; None: it has none, or lies in the results of an evaluation."""
    run = folder.parent
    if folder.name != "adapter" or (run / EVALUATION_FILE).exists():
        return None
    return run if (run / "config.yaml").is_file() else None


def _base_in(folder: Path) -> str:
    named = None
    if (folder / PEFT_CONFIG).is_file():
        named = read_config(folder / PEFT_CONFIG).get("base_model_name_or_path")
    if not isinstance(named, str) or not named:
        raise ConfigError(
            f"{folder} doesn't say which model it was trained on", "name the model: --base BASE"
        )
    return named


def _without_missing(found: MeasuredAdapter) -> MeasuredAdapter:
    """Leave out settings whose file isn't here: an adapter travels without them.

    A setting that the user gives now stays, so that a wrong path is an error.
    """
    task, changes, notes = found.config.task, dict[str, Any](), list(found.notes)
    own = {name.rpartition(".")[2] for name in found.changes}
    for each in settings_of(type(task), "task."):
        name = each.name.removeprefix("task.")
        value = getattr(task, name, None)
        if name in own or not isinstance(value, Path):
            continue
        # A name without a folder or ending may be a list that mmtune brings along.
        if each.own_data:
            changes[name] = None
        elif not value.exists() and (len(value.parts) > 1 or value.suffix):
            changes[name] = None
            notes.append(f"{each.name} is left out: {value} isn't here; name it: --{name} PATH")
    if not changes:
        return found
    config = found.config.model_copy(update={"task": task.model_copy(update=changes)})
    return replace(found, config=config, notes=tuple(notes))
