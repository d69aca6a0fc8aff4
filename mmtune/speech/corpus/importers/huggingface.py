"""Import Hugging Face datasets: folders of `save_to_disk`, and parquet files.

`datasets` reads the tables. It doesn't decode the audio (`Audio(decode=False)`), because its
decoder needs torchcodec, and a damaged file would end the import.
"""

from __future__ import annotations

import re
from dataclasses import replace
from functools import partial
from pathlib import Path

from mmtune.data.manifest import scan_files
from mmtune.errors import DataError
from mmtune.speech.corpus.importers.parquet import _datasets, _rows, read_parquet
from mmtune.speech.corpus.importers.piece import (
    Found,
    ImportOptions,
    Piece,
    Used,
    split_of,
    unless_unreadable,
)
from mmtune.speech.corpus.importers.table import named_by, pieces
from mmtune.system.pointers import require_content
from mmtune.system.stored import opened

INFO = "dataset_info.json"  # with the types of the columns
SAVED = ("dataset_dict.json", INFO, "state.json")
MAX_INFO = 2**20  # bytes at the end of a file that may hold these types


def is_saved(folder: Path) -> bool:
    """Whether `save_to_disk` of `datasets` has written the folder."""
    return any((folder / name).is_file() for name in SAVED)


def parquet_in(source: Path) -> list[Path]:
    """Return the parquet files of a dataset, in the folder and its subfolders."""
    if source.is_file():
        return [source]
    return sorted(source / relative for _, relative in scan_files(source, (".parquet",)))


def holds_pictures_only(source: Path) -> bool:
    """Whether a dataset has a column of images and none of sound.

    `datasets` writes the types of the columns as JSON into dataset_info.json of `save_to_disk`, and
    into the end of a parquet file.
    """
    if source.is_dir():
        told = sorted([*source.glob(INFO), *source.glob(f"*/{INFO}")])  # of one split, or of each
        found = told or parquet_in(source)
    else:
        found = [source] if source.suffix.lower() == ".parquet" else []
    for path in found[:1]:
        try:
            with opened(path) as file:
                file.seek(max(0, path.stat().st_size - MAX_INFO))
                written = re.sub(rb"\s", b"", file.read(MAX_INFO))
        except OSError:
            return False
        return b'"_type":"Image"' in written and b'"_type":"Audio"' not in written
    return False


def licensed(found: Found, licence: str) -> Found:
    """Give each piece that names no licence that of its dataset; "" stands for none."""
    for item in found:
        if licence and isinstance(item, Piece) and "licence" not in item.row:
            yield replace(item, row={**item.row, "licence": licence})
        else:
            yield item


def import_huggingface(source: Path, options: ImportOptions) -> Found:
    """Read a dataset of `save_to_disk`, or parquet files; their names give the splits.

    Raises:
        MissingExtra: the package `datasets` isn't installed.
    """
    if source.is_dir() and is_saved(source):
        datasets = _datasets()
        for path in sorted(source.rglob("*.arrow")):
            require_content(path)
        try:
            found = datasets.load_from_disk(str(source))
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise DataError(f"{source} can't be read: {error}", "save the dataset again") from None
        splits = found if isinstance(found, dict) else {str(found.split or ""): found}
        for name, dataset in splits.items():
            split = split_of(name)
            fixed = {"split": split} if split else {}
            label = name or source.name
            read = partial(_rows, dataset, label)
            lines = pieces(read, source / name, source, options, fixed)
            pieces_found = named_by(lines, f"the name of the split {name}")
            yield from licensed(pieces_found, str(getattr(dataset.info, "license", None) or ""))
            for each in (source / name, source):
                yield from (Used(each / file) for file in SAVED if (each / file).is_file())
            for file in dataset.cache_files:
                yield Used(Path(file["filename"]))
        return
    paths = parquet_in(source)
    for path in paths:
        named = path.name if split_of(path.stem) else path.parent.name
        split = split_of(named)
        fixed = {"split": split} if split else {}
        lines = pieces(partial(read_parquet, path), path, path.parent, options, fixed)
        found = named_by(lines, f"the name of {named}")
        yield from unless_unreadable(found, path, alone=len(paths) == 1)
