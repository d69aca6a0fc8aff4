"""Settings of the comparison that `mmtune evaluate` changes after training (`measuring.yaml`)."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from mmtune.config import RunConfig, as_yaml, leaves_with, read_yaml
from mmtune.errors import ConfigError, did_you_mean
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
    """Change settings of the comparison, from now on.

    Args:
        config: the settings of a run.
        settings: by full or short name, as Python values or as text.

    Returns:
        The settings of the run with all changes so far.

    Raises:
        ConfigError: a setting is unknown or wrong, or training depends on it.
    """
    changed = with_measuring(config)
    if not settings:
        return changed
    allowed = measuring_settings(config)
    names = collect(settings, leaves_with(type(config.task)))
    for name, given in names.items():
        if name not in allowed:
            raise ConfigError(
                f"{given} can't be changed after training",
                f"evaluate changes: {', '.join(n.rpartition('.')[2] for n in allowed)}"
                if allowed
                else did_you_mean(name, allowed),
            )
    after = build(_values(changed), "", type(config.task), settings)
    task = after.task.model_dump(mode="json")
    stored = _stored(config)
    for name in names:
        key = name.rpartition(".")[2]
        value = getattr(after.task, key)
        # A path is kept for commands that are given in another folder.
        stored[name] = str(value.resolve()) if isinstance(value, Path) else task[key]
    stored[MADE_IN] = str(config.folder.resolve())
    write_text(config.folder / MEASURING_FILE, f"format: {FORMAT}\n{as_yaml(stored)}")
    return with_measuring(config)


def with_measuring(config: RunConfig) -> RunConfig:
    """Return the settings of a run with the changes that `set_measuring` has stored."""
    stored = _stored(config)
    if not stored:
        return config
    path = str(config.folder / MEASURING_FILE)
    known = {name: value for name, value in stored.items() if name in measuring_settings(config)}
    changed = build(_values(config), path, type(config.task), known)
    return config.model_copy(update={"task": changed.task})


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
