"""Settings of the comparison that `mmtune evaluate` changes after training (`measuring.yaml`)."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import yaml

from mmtune.config import RunConfig, as_yaml, leaves_with, read_yaml
from mmtune.errors import ConfigError
from mmtune.runs.build import build
from mmtune.settings.declare import settings_of
from mmtune.settings.reading import collect
from mmtune.system.files import write_text
from mmtune.system.formats import FORMAT, without_format
from mmtune.system.moved import places_of

MADE_IN = "run"  # key in `MEASURING_FILE`: where the run was when a path was stored
MEASURING_FILE = "measuring.yaml"  # in a run's folder: these settings count in the comparison


def measuring_settings(config: RunConfig) -> list[str]:
    """Name the settings that only the comparison needs: "task.retention"."""
    return [each.name for each in settings_of(type(config.task), "task.") if each.measuring]


def set_measuring(config: RunConfig, settings: Mapping[str, Any]) -> RunConfig:
    """Change settings of the comparison; `keep_measuring` stores the changes.

    Args:
        config: the settings of a run.
        settings: by full or short name, as Python values or as text.

    Returns:
        The settings of the run with the changes stored so far, and these.

    Raises:
        ConfigError: a setting is unknown or wrong, or training depends on it.
    """
    return _with(config, _stored(config) | _changes(config, settings))


def keep_measuring(config: RunConfig, settings: Mapping[str, Any]) -> None:
    """Store changes of settings of the comparison, for later comparisons of the run.

    Args:
        config: the settings of a run; the caller holds the lock of its folder.
        settings: see `set_measuring`.

    Raises:
        ConfigError: see `set_measuring`.
    """
    if changes := _changes(config, settings):
        _write(config, _stored(config) | changes)


def drop_measuring(config: RunConfig, names: Collection[str]) -> None:
    """Remove stored changes of settings, which the run's own settings replace from now on."""
    stored = _stored(config)
    if stored.keys() & set(names):
        _write(config, {name: value for name, value in stored.items() if name not in names})


def with_measuring(config: RunConfig) -> RunConfig:
    """Return the settings of a run with the changes that `keep_measuring` has stored."""
    return _with(config, _stored(config))


def _changes(config: RunConfig, settings: Mapping[str, Any]) -> dict[str, Any]:
    """The values of changed settings as they are stored, by full name."""
    allowed = measuring_settings(config)
    names = collect(settings, leaves_with(type(config.task)))
    for name, given in names.items():
        if name not in allowed:
            short = ", ".join(each.rpartition(".")[2] for each in allowed)
            raise ConfigError(
                f"{given} can't be changed after training",
                f"evaluate changes: {short}"
                if allowed
                else "this kind of data has no settings that can be changed after training",
            )
    if not names:
        return {}
    # The stored changes too, because a setting may be valid with them alone.
    after = build(_values(with_measuring(config)), "", type(config.task), settings)
    task, found = after.task.model_dump(mode="json"), dict[str, Any]()
    for name in names:
        key = name.rpartition(".")[2]
        value = getattr(after.task, key)
        # A path is kept for commands that are given in another folder.
        found[name] = str(value.resolve()) if isinstance(value, Path) else task[key]
    return found


def _with(config: RunConfig, changes: Mapping[str, Any]) -> RunConfig:
    if not changes:
        return config
    path, allowed = str(config.folder / MEASURING_FILE), measuring_settings(config)
    known = {name: value for name, value in changes.items() if name in allowed}
    changed = build(_values(config), path, type(config.task), known)
    return config.model_copy(update={"task": changed.task})


def _write(config: RunConfig, changes: Mapping[str, Any]) -> None:
    values = {**changes, MADE_IN: str(config.folder.resolve())}
    write_text(config.folder / MEASURING_FILE, f"format: {FORMAT}\n{as_yaml(values)}")


def _values(config: RunConfig) -> dict[str, Any]:
    values: dict[str, Any] = yaml.safe_load(config.dump())
    return values


def _stored(config: RunConfig) -> dict[str, Any]:
    path = config.folder / MEASURING_FILE
    if not path.is_file():
        return {}
    stored = dict(without_format(read_yaml(path), path))
    made = Path(str(stored.pop(MADE_IN, config.folder)))
    for name, value in stored.items():
        if isinstance(value, str) and Path(value).is_absolute():
            places = places_of(Path(value), made.parent, made.name, config.folder)
            stored[name] = str(next((each for each in places if each.exists()), value))
    return stored
