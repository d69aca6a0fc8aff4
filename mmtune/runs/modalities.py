"""Which modalities there are, looked up by name or by the content of a dataset."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from itertools import islice
from pathlib import Path
from typing import Any

from mmtune.config import leaves
from mmtune.data.manifest import (
    BY_SPLIT,
    WHOLE,
    keys_of,
    lines_of,
    refuse_media_file,
    require_own_manifests,
)
from mmtune.data.rows import Row
from mmtune.errors import DataError, NothingToUse
from mmtune.modality import Modality
from mmtune.system.plugins import Registry

# Names only: a modality is imported when it is used, so that `mmtune --help` stays instant.
MODALITIES: Registry[Modality] = Registry(
    "modality",
    "mmtune.modalities",
    {"speech": "mmtune.speech:MODALITY", "image": "mmtune.image:MODALITY"},
)


def modality_names() -> list[str]:
    """Names of the modalities that `find_modality` takes."""
    return list(MODALITIES)


def find_modality(name: str, source: str = "") -> Modality:
    """The modality called `name`.

    Raises:
        ConfigError: no such modality.
        PluginError: the package that adds it can't be used.
    """
    return MODALITIES.find(name, source)


def guess_modality(source: Path) -> Modality:
    """Recognise the modality of a manifest by its keys, or of a folder by its files.

    Raises:
        DataError: no modality fits, several fit, or a manifest of the folder is a link that leads
            out of it.
    """
    if not source.exists():
        raise DataError(f"{source}: no such file or folder", "give a .jsonl manifest or a folder")
    found = []
    for _, modality in MODALITIES.usable():
        refuse_media_file(source, modality.row)
    for _, modality in MODALITIES.usable():
        manifests = [source] if source.is_file() else [source / n for n in (WHOLE, *BY_SPLIT)]
        manifests = [path for path in manifests if path.is_file()]
        if source.is_dir():
            require_own_manifests(source)
        lines = (line for path in manifests for _, line in lines_of(path, modality.row))
        if manifests:
            fits = any(_fits(keys_of(line), modality.row) for line in islice(lines, 100))
        else:
            fits = any(isinstance(raw, dict) for raw in modality.scan(source))
        if fits:
            found.append(modality)
    if len(found) == 1:
        return found[0]
    what = "may be " + " or ".join(m.name for m in found) if found else "holds no known media"
    if not found and source.is_dir():
        media = [each.row.media for _, each in MODALITIES.usable() if each.row.media]
        raise NothingToUse(
            f"{source} {what}",
            f"give a folder of {' files or of '.join(media)} files, or write {source / WHOLE} with "
            "one row per line",
        )
    kind = DataError if found else NothingToUse
    raise kind(f"{source} {what}", "give --modality " + "|".join(modality_names()))


def _fits(keys: Iterable[str], row: type[Row]) -> bool:
    """Whether a line with these keys is a row: it names the file, or has what a row needs."""
    if row.media:
        return row.media in keys
    needed = {name for name, field in row.model_fields.items() if field.is_required()}
    return needed - {"id"} <= set(keys)


def formats_in_words() -> str:
    """Every modality's export formats, each with what it is, for a help text."""
    parts = []
    for name, modality in MODALITIES.usable():
        known = [f"{key} ({each.summary})" for key, each in modality.formats.usable()]
        parts += [f"{name}: {', '.join(known)}"] if known else []
    return "; ".join(parts)


def setting_names(modality: str, source: str = "") -> list[str]:
    """Dotted names of a modality's own settings, such as "task.language".

    Raises:
        ConfigError: no such modality.
    """
    return [f"task.{name}" for name in leaves(find_modality(modality, source).options)]


def play(
    modality: str, values: Mapping[str, Any], find: Callable[[str], Path | None]
) -> tuple[str, bytes]:
    """A row's item as a browser can show or play it: media type and content.

    Args:
        values: of the row, as a comparison keeps them.
        find: gives the file of a name that the row holds; None: a page may not show it.

    Raises:
        DataError: it can't be read, or a page may not show it.
        ValueError: the values are no row of the modality.
    """
    known = find_modality(modality)
    row = known.row.model_validate(values)
    found = {}
    for name, written in row.files.items():
        file = find(written)
        if file is None:
            raise DataError(
                f"{row.id}: {written} is missing, or lies outside the run's folder and data folder",
                "copy it into the data folder that the run's config.yaml names (data.path)",
            )
        found[name] = str(file)
    return known.playable(row.model_copy(update=found))
