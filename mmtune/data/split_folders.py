"""Splits that folders are named after: `train/`, `validation/` and `test/` in a folder of files."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import PurePath
from typing import Any

from mmtune.data.ledger import Guess, Ledger
from mmtune.data.rows import Split

SPLIT_FOLDERS: dict[str, Split] = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("validation", "valid", "val", "dev"), "validation"),
    **dict.fromkeys(("test", "testing"), "test"),
}


def folder_splits(raws: Iterable[dict[str, Any]], media: str, ledger: Ledger) -> Iterator[str]:
    """The split of each row of a folder without a manifest, by its first folder; "" for none.

    The names count only if all rows are in such folders, of which one is for train and one isn't:
    elsewhere "test" may be the name of a thing.

    Args:
        raws: the rows as mappings.
        media: the key of the row's file.
        ledger: notes the split as a guess, unless the row states it.
    """
    rows = list(raws)
    places = [PurePath(str(row.get(media, ""))).parts for row in rows]
    found = [SPLIT_FOLDERS.get(parts[0].lower(), "") if parts[1:] else "" for parts in places]
    named = set(found)
    if "" in named or "train" not in named or len(named) == 1:
        yield from [""] * len(rows)
        return
    for row, split, parts in zip(rows, found, places, strict=True):
        if "split" not in row:
            first = str(row.get("id"))
            ledger.guess(Guess("split", split, f"the name of the folder {parts[0]}", first=first))
        yield split
