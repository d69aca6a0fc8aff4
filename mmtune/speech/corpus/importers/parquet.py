"""Read parquet files row by row with `datasets`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from mmtune.errors import DataError, MissingExtra
from mmtune.system.pointers import require_content


def read_parquet(path: Path) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Yield the rows of a parquet file, each with its place; audio is {"bytes", "path"}.

    Raises:
        DataError: it isn't a parquet file, or is a pointer of Git LFS.
        MissingExtra: the package `datasets` isn't installed.
    """
    require_content(path)
    datasets = _datasets()
    try:
        stream = datasets.load_dataset(
            "parquet", data_files=[str(path)], split="train", streaming=True
        )
        yield from _rows(stream, path.name)
    except (OSError, ValueError, KeyError, TypeError, MemoryError) as error:
        # MemoryError: a damaged file states sizes that no file has.
        raise DataError(f"{path} can't be read: {error}", "write the parquet file again") from None


def _rows(dataset: Any, name: str) -> Iterator[tuple[str, Mapping[str, Any]]]:
    datasets = _datasets()
    labels = {}  # columns of classes: their cells are numbers, and the features hold the names
    for column, feature in (dataset.features or {}).items():
        if isinstance(feature, datasets.Audio):
            dataset = dataset.cast_column(column, datasets.Audio(decode=False))
        elif isinstance(feature, datasets.ClassLabel):
            labels[column] = list(feature.names)
    for number, row in enumerate(dataset):
        named = {
            column: names[row[column]]
            for column, names in labels.items()
            if isinstance(row.get(column), int) and 0 <= row[column] < len(names)
        }
        yield f"{name} row {number}", {**row, **named}


def _datasets() -> Any:
    try:
        import datasets
    except ImportError:
        raise MissingExtra("datasets", "datasets", "reading a Hugging Face dataset") from None
    datasets.disable_progress_bars()
    # It would tell Hugging Face of each file that is read, also of a local one.
    datasets.config.HF_UPDATE_DOWNLOAD_COUNTS = False
    return datasets
