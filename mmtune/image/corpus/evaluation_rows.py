"""The rows that are held out of training for validation and comparison."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from mmtune.errors import DataError

if TYPE_CHECKING:
    from mmtune.data.dataset import Dataset
    from mmtune.data.rows import Row


MIN_ROWS = 4  # two to train on and two held out
MIN_TEST_ROWS = 4  # with fewer test rows, the validation rows are used too


def held_out_rows(dataset: Dataset) -> tuple[Row, ...]:
    """Choose the rows that judge a run: the test rows, and the validation rows if these are few.

    Raises:
        DataError: there are fewer than two such rows, or fewer than two training rows. One image
            alone doesn't define a style.
    """
    train, rows = dataset.split("train"), measured_rows(dataset.rows)
    if len(train) < 2 or len(rows) < 2:
        count = len(dataset.rows)
        cure = "add images (20 are a good start), or hold more of them out: --test 0.3"
        if count < MIN_ROWS:
            cure = f"add images: {MIN_ROWS} or more are needed, and 20 are a good start"
        raise DataError(
            f"{dataset.source}: {len(train)} images to train on and {len(rows)} held out; a style "
            "needs two or more of each",
            cure,
        )
    return rows


def measured_rows(rows: Sequence[Row]) -> tuple[Row, ...]:
    """The test rows, and the validation rows if these are few."""
    test = tuple(row for row in rows if row.split == "test")
    if len(test) >= MIN_TEST_ROWS:
        return test
    return (*test, *(row for row in rows if row.split == "validation"))


def evenly_spaced(rows: Sequence[Any], most: int) -> list[Any]:
    """At most `most` of them, from all over the list."""
    taken = min(most, len(rows))
    return [rows[i * len(rows) // taken] for i in range(taken)]
