"""Splits that files and folders are named after: `train/`, `validation/` and `test/`."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import PurePath
from typing import Any

from mmtune.data.ledger import Guess, Ledger
from mmtune.data.rows import Finding, Split

SPLIT_NAMES: dict[str, Split] = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("validation", "valid", "val", "dev", "eval"), "validation"),
    **dict.fromkeys(("test", "testing"), "test"),
}


def folder_splits(
    raws: Iterable[dict[str, Any]], media: str, ledger: Ledger
) -> tuple[list[str], list[Finding]]:
    """The split of each row of a folder without a manifest, by its first folder; "" for none.

    The names count only if all rows are in such folders, of which one is for train and one isn't:
    elsewhere "test" may be the name of a thing.

    Args:
        raws: the rows as mappings.
        media: the key of the row's file.
        ledger: notes the split as a guess, unless the row states it.

    Returns:
        The splits, and a finding if files outside of such folders are why the names don't count.
    """
    rows = list(raws)
    files = [PurePath(str(row.get(media, ""))) for row in rows]
    found = [SPLIT_NAMES.get(file.parts[0].lower(), "") if file.parts[1:] else "" for file in files]
    named = set(found) - {""}
    if "train" not in named or len(named) == 1:
        return [""] * len(rows), []
    if outside := [file for file, split in zip(files, found, strict=True) if not split]:
        folders = {file.parts[0] for file, split in zip(files, found, strict=True) if split}
        return [""] * len(rows), [_not_counted(sorted(folders), outside)]
    for row, split, file in zip(rows, found, files, strict=True):
        if "split" not in row:
            first = str(row.get("id"))
            source = f"the name of the folder {file.parts[0]}"
            ledger.guess(Guess("split", split, source, first=first))
    return found, []


def _not_counted(folders: list[str], outside: list[PurePath]) -> Finding:
    names = f"{', '.join(folders[:-1])} and {folders[-1]}"
    files = "1 file lies" if len(outside) == 1 else f"{len(outside)} files lie"
    return Finding(
        "split-folders",
        "all rows",
        f"the folders {names} aren't used as splits, because {files} outside of them, the first: "
        f"{outside[0].as_posix()}",
        "move them into a split's folder, or write manifest.jsonl",
        "warning",
    )
