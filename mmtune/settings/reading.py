"""Settings as they are given: a YAML file's mapping, Python values, or text; by full name."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Union, get_args, get_origin

import yaml

from mmtune.errors import ConfigError
from mmtune.settings.naming import SHORT_NAMES, resolve, sections, translated
from mmtune.settings.yaml_text import load_yaml


@dataclass(frozen=True)
class Given:
    """A value that somebody gave, and the name that it was given by."""

    key: str
    value: Any

    def __str__(self) -> str:
        # Text as on the command line, all else as in Python.
        text = isinstance(self.value, str)
        return f"--{self.key} {self.value}" if text else f"{self.key} = {self.value!r}"


def collect(
    values: Mapping[str, Any], known: Mapping[str, Any], source: str = "", section: str = ""
) -> dict[str, Given]:
    """All values by the settings' full names.

    Args:
        values: by full or short name; a mapping holds the settings of a section.
        known: the types of all settings by full name.
        source: what an error should name first (a file).
        section: the one that `values` belong to.

    Raises:
        ConfigError: a name is unknown or ambiguous, or a setting is given twice.
    """
    found: dict[str, Given] = {}
    for name, value in values.items():
        key = f"{section}.{name}" if section else str(name)
        inside = key.replace("-", "_") in sections(known)
        if inside and (isinstance(value, Mapping) or (value is None and key not in SHORT_NAMES)):
            new = collect(value or {}, known, source, key.replace("-", "_"))
        else:
            new = {resolve(key, known, source): Given(key, translated(key, value))}
        for full, given in new.items():
            if full in found:
                where = f"{source}: " if source else ""
                raise ConfigError(
                    f"{where}{found[full].key} and {given.key} are one setting, {full}",
                    "give it once",
                )
            found[full] = given
    return found


def typed(value: Any, kind: Any, text: bool = False) -> Any:
    """A value for a setting of a type, to be validated: lists of words, paths as text.

    Args:
        value: a Python value; text means the items of a list ("a,b" or "[a, b]") where the
            setting is one.
        kind: the setting's type, as annotated.
        text: whether text is read for all types, as on the command line; see `parse`.

    Raises:
        ValueError: true or false is given for a number.
    """
    if text and isinstance(value, str):
        value = parse(value, kind)
    if callable(getattr(value, "tolist", None)):  # numpy's and torch's numbers and arrays
        value = value.tolist()
    kinds, truth = _kinds(kind), isinstance(value, bool)
    many = next((each for each in kinds if get_origin(each) in {tuple, list}), None)
    if many is not None:
        if isinstance(value, str):
            return _items(value, get_args(many)[0])
        return [value] if isinstance(value, int | float) and not truth else value
    if truth and kinds & {int, float} and not kinds & {bool, Any}:
        raise ValueError("it is a number, not true or false")
    return str(value) if isinstance(value, Path) and str in kinds else value


def parse(text: str, kind: Any) -> Any:
    """What the command line's `text` means for a setting of a type.

    Words and paths are taken as they stand (`2024`, `#ffffff`, `my #1 folder`); all else is YAML,
    and a list may be written without brackets (`a,b`).

    Args:
        kind: as annotated; an optional one takes "null", "~" and nothing for None.
    """
    kinds = _kinds(kind)
    if kinds <= {str, Path, NoneType}:
        return None if NoneType in kinds and text in {"", "~", "null"} else text
    if any(get_origin(each) in {tuple, list} for each in kinds):
        return text  # `typed` splits it
    return _yaml(text)


def merge(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """`base` with the values of `over`, mapping by mapping."""
    result = dict(base)
    for key, value in over.items():
        old = result.get(key)
        if isinstance(old, Mapping) and isinstance(value, Mapping):
            result[key] = merge(old, value)
        else:
            result[key] = value
    return result


def nest(dotted: str, value: Any) -> dict[str, Any]:
    """`{"a": {"b": value}}` from "a.b"."""
    for name in reversed(dotted.split(".")):
        value = {name: value}
    return dict(value)


def _items(text: str, kind: Any) -> Any:
    stripped = text.strip()
    if stripped in {"null", "~"}:
        return None
    if stripped.startswith(("[", "- ")):
        return _yaml(text)
    return [parse(part.strip(), kind) for part in text.split(",")] if stripped else []


def _yaml(text: str) -> Any:
    try:
        return load_yaml(text)
    except yaml.YAMLError:
        return text  # the type says what is wrong with it


def _kinds(kind: Any) -> set[Any]:
    # The alternatives of a type, without Annotated.
    if get_origin(kind) is Annotated:
        return _kinds(get_args(kind)[0])
    if get_origin(kind) in {Union, UnionType}:
        return set().union(*(_kinds(each) for each in get_args(kind)))
    return {kind}
