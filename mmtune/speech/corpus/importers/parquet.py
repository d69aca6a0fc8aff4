"""Parquet files, row by row."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from mmtune.errors import DataError, MissingExtra


def read_parquet(path: Path) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """The rows of a parquet file, streamed; audio as {"bytes", "path"}.

    Raises:
        DataError: it is none.
        MissingExtra: `datasets` isn't installed.
    """
    datasets = _datasets()
    try:
        stream = datasets.load_dataset(
            "parquet", data_files=[str(path)], split="train", streaming=True
        )
        yield from _rows(stream, path.name)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(f"{path} can't be read: {error}", "write it again") from None


def _rows(dataset: Any, name: str) -> Iterator[tuple[str, Mapping[str, Any]]]:
    datasets = _datasets()
    for column, feature in (dataset.features or {}).items():
        if isinstance(feature, datasets.Audio):
            dataset = dataset.cast_column(column, datasets.Audio(decode=False))
    for number, row in enumerate(dataset):
        yield f"{name} row {number}", row


def _datasets() -> Any:
    try:
        import datasets
    except ImportError:
        raise MissingExtra("datasets", "datasets", "reading a Hugging Face dataset") from None
    datasets.disable_progress_bars()
    return datasets
