"""The rows that a run used, kept in its folder, so that its adapter is tested on others alone."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mmtune.data.manifest import root_of
from mmtune.data.row_keys import Entry, KnownKeys, binding_keys, entry_of
from mmtune.data.rows import Row
from mmtune.errors import DataError
from mmtune.system.files import write_text
from mmtune.system.formats import FORMAT, without_format
from mmtune.system.stored import damaged, read_json_lines, read_json_object

if TYPE_CHECKING:
    from mmtune.data.dataset import Dataset

DATA = "data.json"  # in a run's folder: what the check of its data found
ROWS = "rows.jsonl"  # in a run's folder: the split and the keys of each row
KIND = "mmtune rows of a run"  # "kind" in the first line
NAMES = 5  # ids that a note gives


def record_rows(folder: Path, dataset: Dataset, shared: Collection[str] = ()) -> None:
    """Write the split and the keys of each row of a run.

    Args:
        folder: of the run.
        dataset: what the run trains on, chooses by and tests on.
        shared: kinds of keys that splits may share; they say nothing of a row.
    """
    root = root_of(dataset.source)
    lines: list[dict[str, Any]] = [{"format": FORMAT, "kind": KIND}]
    lines += (entry_of(row, root, shared).to_dict() for row in dataset.rows)
    text = "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines)
    write_text(folder / ROWS, text, private=True)  # its ids may be names


def read_recorded_rows(folder: Path) -> list[Entry] | None:
    """Read the rows of a run; None: an earlier version wrote the run, without them.

    Raises:
        ConfigError: the file is damaged, or a newer mmtune wrote it.
    """
    path, cure = folder / ROWS, "restore it from a backup; without it, trained rows may be tested"
    try:
        lines = list(read_json_lines(path, cure))
    except FileNotFoundError:
        return None
    with damaged(path, cure):
        if not lines or lines[0].get("kind") != KIND:
            raise ValueError("its first line isn't that of a run's rows")
        without_format(lines[0], path)
        entries = [Entry.from_dict(values) for values in lines[1:]]
        if None in entries:
            raise ValueError("a line has no split or no keys")
    return [entry for entry in entries if entry is not None]


def without_trained(
    folder: Path, dataset: Dataset, shared: Collection[str] = ()
) -> tuple[Dataset, list[str]]:
    """Leave out the test rows of a dataset that a run trained on or chose its adapter by.

    A row counts as trained on if the run trained on the same content, on an earlier form of the
    row (by its id or its file's place), or on its speaker, sentence, recording or subject.

    Args:
        folder: of the run.
        dataset: to be measured.
        shared: kinds of keys that splits may share.

    Returns:
        The dataset without these rows; and what the user should know.

    Raises:
        DataError: all test rows were trained on.
        ConfigError: the run's record of its rows is damaged.
    """
    entries, changed = read_recorded_rows(folder), _changed(folder, dataset)
    if entries is None:
        return dataset, list(_of_earlier(dataset, changed, shared))
    test = dataset.split("test")
    trained = list(_used(entries, test, root_of(dataset.source), shared))
    if not trained:
        note = f"the data has changed since the run was trained ({changed}); no test row is one of "
        return dataset, [note + "its training rows"] if changed else []
    first = _first(trained)
    if len(trained) == len(test):
        raise DataError(
            f"{dataset.source}: the run in {folder} was trained on each of the {len(test)} test "
            f"rows, or on their speakers or sentences ({first})",
            "measure on rows that it wasn't trained on: add others to the data, with split = test",
        )
    ids = {row.id for row in trained}
    left = replace(
        dataset,
        rows=tuple(row for row in dataset.rows if row.id not in ids),
        withheld=(*dataset.withheld, *(row.id for row in trained)),
    )
    return left, [
        f"{len(trained)} of {len(test)} test rows are left out, because the run was trained on "
        f"them, or on their speakers or sentences: {first}"
    ]


def _of_earlier(dataset: Dataset, changed: str, shared: Collection[str]) -> Iterator[str]:
    """Notes on a run of an earlier mmtune, whose figures stay as they were."""
    if changed:
        yield (
            f"the data has changed since the run was trained ({changed}), and the run was made by "
            "an earlier mmtune, which didn't record its rows: trained rows may be in the test"
        )
        return
    root, test = root_of(dataset.source), dataset.split("test")
    known = [entry_of(row, root, shared) for row in dataset.rows]
    if leaking := list(_used(known, test, root, shared)):
        yield (
            f"{len(leaking)} of {len(test)} test rows share a speaker, sentence, recording or "
            f"subject with training rows: {_first(leaking)}. The run was made by an earlier "
            "mmtune; a new run leaves such rows out"
        )


def _first(rows: Sequence[Row]) -> str:
    return ", ".join(row.id for row in rows[:NAMES]) + (" …" if len(rows) > NAMES else "")


def _used(
    entries: list[Entry], rows: tuple[Row, ...], root: Path, shared: Collection[str]
) -> Iterator[Row]:
    known = KnownKeys()
    known.add(entries)
    for row in rows:
        bound = (known.side_of(key) for key in binding_keys(row, shared))
        if known.own_side(row, root) in ("train", "validation") or "train" in bound:
            yield row


def recorded_fingerprint(folder: Path) -> str:
    """The fingerprint of the data that a run trained on; "" if the run has no record of it.

    Raises:
        ConfigError: the record is damaged, or a newer mmtune wrote it.
    """
    path, cure = folder / DATA, "restore it from a backup, or delete it"
    if not path.is_file():
        return ""
    with damaged(path, cure):
        return str(without_format(read_json_object(path, cure), path)["fingerprint"])


def _changed(folder: Path, dataset: Dataset) -> str:
    """The fingerprints then and now, if they differ; "" also if the run has no record of it."""
    old = recorded_fingerprint(folder)
    if old in ("", dataset.fingerprint):
        return ""
    return f"fingerprint {old[:12]} then, {dataset.fingerprint[:12]} now"
