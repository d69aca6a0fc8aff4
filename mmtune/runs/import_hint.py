"""Name the `mmtune import` line for data in a format that only an import reads."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from mmtune.data.ledger import OWN
from mmtune.errors import MmtuneError, NothingToUse
from mmtune.runs.modalities import MODALITIES
from mmtune.system.stored import exists

if TYPE_CHECKING:
    from mmtune.modality import Modality


@contextmanager
def importable(source: Path, modality: Modality | None) -> Iterator[None]:
    """Give an error that no row was found the cure of an import, if an import reads the source.

    Args:
        source: the file or folder that is read as a manifest or as a folder of files.
        modality: of the rows; None: any.

    Raises:
        NothingToUse: with the line that imports the source as its cure.
    """
    try:
        yield
    except NothingToUse as error:
        cure = import_cure(source, modality)
        if not cure:
            raise
        what = described(source)
        found = f"{source} {what}" if what else error.found
        raise NothingToUse(found, f"{cure}. Otherwise: {error.cure}") from error


def import_cure(source: Path, modality: Modality | None = None) -> str:
    """The commands that import a source and check the result; empty if no import reads it."""
    candidates = [each for _, each in MODALITIES.usable()] if modality is None else [modality]
    if not exists(source):
        return ""
    if not any(_recognises(each, source) for each in candidates):
        return ""
    to = shlex.quote(str(_free_folder(source)))
    return (
        "this data is in a format that an import reads: "
        f"mmtune import {shlex.quote(str(source))} --to {to}; then use {to}"
    )


def described(source: Path) -> str:
    """What data of another format is, after its name; empty: it isn't known by its files."""
    if exists(source / "dataset_dict.json") or exists(source / "dataset_info.json"):
        return "is a Hugging Face data set, written by save_to_disk"
    if source.suffix.lower() == ".parquet":
        return "is a parquet file"
    if source.is_dir() and any(source.glob("*.parquet")):
        return "holds parquet files"
    return ""


def _recognises(modality: Modality, source: Path) -> bool:
    try:
        return modality.recognise(source)
    except (MmtuneError, OSError, ValueError):
        return False


def _free_folder(source: Path) -> Path:
    """A folder beside the source that doesn't exist, or that holds an earlier import."""
    whole = source if source.name not in {"", "..", "."} else source.resolve()
    stem = whole.stem if whole.is_file() else whole.name
    number = 1
    while True:
        to = whole.with_name(f"{stem}-imported{'' if number == 1 else f'-{number}'}")
        if not exists(to) or exists(to / OWN[0]):
            return to
        number += 1
