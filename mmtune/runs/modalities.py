"""Which modalities there are, looked up by name or by the content of a dataset."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from itertools import islice
from pathlib import Path
from typing import Any

from mmtune.config import leaves
from mmtune.data.manifest import BY_SPLIT, WHOLE, keys_of, lines_of
from mmtune.data.rows import Finding
from mmtune.errors import ConfigError, DataError, did_you_mean
from mmtune.modality import Modality

# Names only: a modality is imported when it is used, so that `mmtune --help` stays instant.
BUILT_IN: dict[str, str] = {"speech": "mmtune.speech", "image": "mmtune.image"}


def modality_names() -> list[str]:
    """Names of the modalities that `find_modality` takes."""
    return list(BUILT_IN)


def find_modality(name: str, source: str = "") -> Modality:
    """The modality called `name` (its module's `MODALITY`).

    Raises:
        ConfigError: no such modality.
    """
    if name not in BUILT_IN:
        where = f"{source}: " if source else ""
        raise ConfigError(f"{where}unknown modality {name!r}", did_you_mean(name, BUILT_IN))
    modality: Modality = importlib.import_module(BUILT_IN[name]).MODALITY
    return modality


def guess_modality(source: Path) -> Modality:
    """Recognise the modality of a manifest by its keys, or of a folder by its files.

    Raises:
        DataError: no modality fits, or several fit.
    """
    if not source.exists():
        raise DataError(f"{source}: no such file or folder", "give a .jsonl manifest or a folder")
    found = []
    for name in modality_names():
        modality = find_modality(name)
        manifests = [source] if source.is_file() else [source / n for n in (WHOLE, *BY_SPLIT)]
        manifests = [path for path in manifests if path.is_file()]
        lines = (line for path in manifests for _, line in lines_of(path, modality.row))
        if manifests:
            fits = any(modality.row.media in keys_of(line) for line in islice(lines, 100))
        else:
            fits = any(not isinstance(raw, Finding) for raw in modality.scan(source))
        if fits:
            found.append(modality)
    if len(found) == 1:
        return found[0]
    what = "may be " + " or ".join(m.name for m in found) if found else "holds no known media"
    raise DataError(f"{source} {what}", "give --modality " + "|".join(modality_names()))


def setting_names(modality: str, source: str = "") -> list[str]:
    """Dotted names of a modality's own settings, such as "task.language".

    Raises:
        ConfigError: no such modality.
    """
    return [f"task.{name}" for name in leaves(find_modality(modality, source).options)]


def play(modality: str, values: Mapping[str, Any]) -> tuple[str, bytes]:
    """A row's item as a browser can show or play it: media type and content.

    Args:
        values: of the row, as a comparison keeps them.

    Raises:
        DataError: it can't be read.
        ValueError: the values are no row of the modality.
    """
    known = find_modality(modality)
    return known.playable(known.row.model_validate(values))
