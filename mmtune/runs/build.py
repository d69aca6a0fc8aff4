"""Make the settings of a run of a recipe's, those that suit its base, and a user's own."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from pydantic import ValidationError

from mmtune.config import RunConfig, Section, leaves_with
from mmtune.errors import ConfigError, did_you_mean, shortened
from mmtune.runs.method_settings import fitting, require_settings, spelled_out
from mmtune.settings.reading import Given, collect, merge, nest, typed
from mmtune.system.base_name import join_base

CORRECT = "correct this value"


def build(
    values: Mapping[str, Any],
    source: str,
    options: type[Section],
    overrides: Mapping[str, Any],
) -> RunConfig:
    """Validate settings, with others on top.

    Args:
        values: settings by section, from the recipe and the YAML file. `bases` holds, by name of a
            base, settings that suit it better: a learning rate for a small model ruins a large one.
        source: what an error should name (the file).
        options: the type of the section `task`: what only the run's modality has.
        overrides: what is set on top, by full or short name: Python values (a mapping holds the
            settings of a section), or text, which is read as on the command line.

    Raises:
        ConfigError: a setting is unknown (with the nearest names), missing or impossible.
    """
    known = leaves_with(options)
    # A modality without settings of its own has an empty section.
    own = {k: v for k, v in values.items() if k != "bases" and (k != "task" or v)}
    first, last = collect(own, known, source), collect(overrides, known)
    base = (last.get("base") or first.get("base") or Given("base", None)).value
    suited = collect((values.get("bases") or {}).get(str(base)) or {}, known, source)
    first, suited = fitting(first, last), fitting(suited, last)
    merged: dict[str, Any] = {}
    for name, given in [*first.items(), *suited.items(), *last.items()]:
        on_top = last.get(name) is given
        try:
            value = typed(given.value, known[name], text=on_top)
        except ValueError as error:
            raise _wrong(name, given, "" if on_top else source, str(error)) from None
        merged = merge(merged, nest(name, value))
    merged.setdefault("name", merged.get("recipe"))
    if (described_by := merged.pop("base_config", None)) is not None:
        merged["base"] = join_base(str(merged.get("base")), str(described_by))
    try:
        task = options.model_validate(merged.get("task") or {})
    except ValidationError as error:
        raise _explain(error, source, known, last, "task.") from None
    try:
        config = RunConfig.model_validate({**merged, "task": task})
    except ValidationError as error:
        raise _explain(error, source, known, last, "") from None
    require_settings(config, {**first, **suited, **last}, source)
    return spelled_out(config)


def given_with(
    name: str,
    values: Mapping[str, Any],
    source: str,
    options: type[Section],
    overrides: Mapping[str, Any],
) -> set[str]:
    """The settings that are given where a setting is, or later: beside it, or in `overrides`.

    Args:
        name: the setting's full name.
        values, source, options, overrides: as for `build`.

    Raises:
        ConfigError: a setting is unknown or ambiguous.
    """
    known = leaves_with(options)
    last = collect(overrides, known)
    if name in last:
        return set(last)
    own = {k: v for k, v in values.items() if k != "bases" and (k != "task" or v)}
    return {*collect(own, known, source), *last}


def _explain(
    error: ValidationError,
    source: str,
    known: Collection[str],
    overrides: Mapping[str, Given],
    prefix: str,
) -> ConfigError:
    errors = [(_setting(e["loc"], known, prefix), e) for e in error.errors()]
    name, first = errors[0]
    if first["type"] == "missing":
        return ConfigError(
            f"{source}: setting {name!r} is missing", f"add it, or give --{name} VALUE"
        )
    # A setting of several types has an error for each of them.
    wrong = " or: ".join(e["msg"] for where, e in errors if where == name)
    if first["type"] == "literal_error" and isinstance(first["input"], str):
        choices = re.findall(r"'([^']*)'", str((first.get("ctx") or {}).get("expected", "")))
        cure = did_you_mean(first["input"], choices)
        given = overrides.get(name)
        return _wrong(
            name, given or Given(name, first["input"]), "" if given else source, wrong, cure
        )
    if name in overrides:
        return _wrong(name, overrides[name], "", wrong)
    return _wrong(name, Given(name, first["input"]), source, wrong)


def _wrong(name: str, given: Given, source: str, wrong: str, cure: str = CORRECT) -> ConfigError:
    found = shortened(f"{name} = {given.value!r}" if source else f"{given} ({name})")
    return ConfigError(f"{source}: {found}: {wrong}" if source else f"{found}: {wrong}", cure)


def _setting(place: Sequence[str | int], known: Collection[str], prefix: str) -> str:
    # Pydantic's place goes on below the setting: an index, or the type that was tried.
    parts = [str(part) for part in place]
    ends = (prefix + ".".join(parts[:n]) for n in range(len(parts), 0, -1))
    return next((name for name in ends if name in known), prefix + ".".join(parts))
