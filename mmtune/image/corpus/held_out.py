"""Which images and captions are held out for the comparison."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from mmtune.errors import DataError

if TYPE_CHECKING:
    from mmtune.data.dataset import Dataset
    from mmtune.data.rows import Row


MIN_TEST_ROWS = 4  # test rows


def held_out(dataset: Dataset) -> tuple[Row, ...]:
    """The rows that judge a run: the test rows, and if these are very few, validation's too.

    Raises:
        DataError: fewer than two of them, or of training rows: a style is that of several images.
    """
    train, test = dataset.split("train"), dataset.split("test")
    rows = test if len(test) >= MIN_TEST_ROWS else (*test, *dataset.split("validation"))
    if len(train) < 2 or len(rows) < 2:
        raise DataError(
            f"{dataset.source}: {len(train)} images to train on and {len(rows)} held out; a style "
            "needs two or more of each",
            "add images (20 are a good start), or give --test 0.3",
        )
    return rows


def evenly(rows: Sequence[Any], most: int) -> list[Any]:
    """At most `most` of them, from all over the list."""
    taken = min(most, len(rows))
    return [rows[i * len(rows) // taken] for i in range(taken)]
