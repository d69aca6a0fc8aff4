"""Load the settings of a recipe or of a finished run, by name or file."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mmtune.config import RunConfig, Section, read_yaml
from mmtune.errors import ConfigError, did_you_mean, printable
from mmtune.runs.build import build, given_with
from mmtune.runs.method_settings import require_known, require_lora
from mmtune.runs.modalities import find_modality
from mmtune.runs.parent import inherited
from mmtune.settings.declare import settings_of
from mmtune.system.formats import without_format
from mmtune.system.moved import places_of
from mmtune.system.resources import recipes, resource
from mmtune.system.stored import exists

MAX_NAME = 200  # bytes; most file systems allow 255, and suffixes are added to the name


def load_recipe(name_or_path: str, overrides: Mapping[str, Any] | None = None) -> RunConfig:
    """Load the settings of a recipe by its name or YAML file, and apply overrides.

    Raises:
        ConfigError: no such recipe or file, or a setting is wrong.
    """
    path = Path(name_or_path)
    if path.suffix not in {".yaml", ".yml"}:
        if path.is_dir() and (path / "recipe.yaml").exists():
            path = path / "recipe.yaml"
        elif name_or_path in recipes():
            path = resource("recipes", name_or_path) / "recipe.yaml"
        else:
            raise ConfigError(
                f"no recipe {name_or_path!r}",
                f"{did_you_mean(name_or_path, recipes())} (or give a .yaml file)",
            )
    values = without_format(read_yaml(path), path)
    beside = path.parent / str(values.get("suite", ""))
    if beside.suffix in {".yaml", ".yml"} and beside.is_file():
        values["suite"] = str(beside)  # what `mmtune init` copies stays together
    return configure(values, str(path), overrides or {})


def configure(
    values: Mapping[str, Any], source: str, overrides: Mapping[str, Any] | None = None
) -> RunConfig:
    """Validate the settings of a run together with those of its modality (see `build`).

    With `init`, the settings that describe its adapter replace those that are given before it.

    Raises:
        ConfigError: the modality or a setting is unknown, missing or impossible.
        AdapterError: the adapter of `init` can't be read, or is for another modality.
    """
    modality = find_modality(str(values.get("modality", "")), source)
    given = overrides or {}
    config = build(values, source, modality.options, given)
    require_known(config.method, modality.methods, modality.name)
    _require_name(config.name)
    if config.init is not None:
        require_lora(config)
        beside = given_with("init", values, source, modality.options, given)
        more = inherited(config, modality, beside)
        config = build(values, source, modality.options, {**more, **given}) if more else config
    return config


def _require_name(name: str) -> None:
    """Refuse a run's name that isn't the name of one folder inside `out`."""
    if not name.strip():
        wrong = "it is empty"
    elif name in {".", ".."} or "/" in name or "\\" in name:
        wrong = "it is the name of one folder, not a path"
    elif not name.isprintable():
        wrong = "it has characters that can't be printed"
    elif len(name.encode()) > MAX_NAME:
        wrong = f"it has more than {MAX_NAME} bytes"
    else:
        return
    raise ConfigError(
        f"--name {printable(name)!r}: {wrong}",
        "give a short name, such as --name first-try; --out DIR chooses the folder around it",
    )


def load_run(run: Path) -> RunConfig:
    """Load the settings of a run folder; if the run was moved, its present place counts.

    A file that a setting names is also looked for where it is if it was moved with the run.

    Raises:
        ConfigError: config.yaml is missing or wrong.
    """
    run = run.resolve() if run.name in {"", ".."} else run  # `mmtune evaluate .`
    settings = run / "config.yaml"
    if not settings.is_file():
        raise ConfigError(
            f"{run} is not a run folder: config.yaml is missing", "give a run folder: runs/NAME"
        )
    # The folder may have any name by now, so the stored one isn't checked.
    values = without_format(read_yaml(settings), settings)
    loaded = load_recipe(str(settings), {"name": "run"})
    name = str(values.get("name") or run.name)
    return _relocated(loaded, name, run).model_copy(update={"out": run.parent, "name": run.name})


def _relocated(config: RunConfig, name: str, run: Path) -> RunConfig:
    """The settings with the present places of the files that they name."""

    def found(value: Any) -> Any:
        path = Path(value)
        # A starter's name or a hub's id is no path, and lies nowhere.
        places = (each for each in places_of(path, config.out, name, run) if exists(each))
        place = next(places, path)
        return value if place == path else place if isinstance(value, Path) else str(place)

    def changed(section: Any) -> Any:
        own = {each.name for each in settings_of(type(section)) if each.file}
        values = {key: getattr(section, key) for key in type(section).model_fields}
        return section.model_copy(
            update={
                key: changed(value) if isinstance(value, Section) else found(value)
                for key, value in values.items()
                if value is not None and (key in own or isinstance(value, Section))
            }
        )

    moved: RunConfig = changed(config)
    return moved.model_copy(update={"suite": config.suite})
