"""Columns of a table that the user names, and those that nothing is taken from."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from mmtune.data.importing import UNUSED_COLUMNS
from mmtune.data.rows import Severity
from mmtune.errors import DataError
from mmtune.speech.corpus.importers import cells
from mmtune.speech.corpus.importers.columns import also_possible, columns, folded
from mmtune.speech.corpus.importers.piece import ImportOptions, LeftOut
from mmtune.speech.corpus.speaker_labels import ROLE
from mmtune.speech.speech_row import DESCRIPTIVE

MAX_LISTED = 40  # names of columns in a message


def require_columns(
    table: Path, head: Sequence[tuple[str, Mapping[str, Any]]], options: ImportOptions
) -> None:
    """Refuse a table whose first rows have no column of a name that the user gives.

    Raises:
        DataError: with the names of the table's columns.
    """
    rows = [values for _, values in head if not ("" in values and len(values) == 1)]
    for field, column in options.columns.items():
        if rows and not any(field in columns(values, options.columns) for values in rows):
            raise DataError(
                f"{table} has no column {column!r}; its columns are {listed(rows[0])}",
                f"name one of its columns: --{field}-column NAME",
            )


def unused_in(
    values: Mapping[str, Any], taken: Collection[str], options: ImportOptions
) -> Iterator[str]:
    """The columns of a row that hold something, and that nothing is taken from or said of."""
    known = folded(values)
    used = {*taken, *also_possible(values, options.columns)}
    used |= {known.get(key) or known.get(f"{key}s", "") for key in DESCRIPTIVE} - {""}
    used |= {known[name] for name in known if ROLE.fullmatch(name) or name in options.speakers}
    return (each for each in values if each not in used and not cells.is_empty(values[each]))


def unused_columns(table: Path, names: Mapping[str, str], speakers: bool) -> LeftOut:
    """The finding about columns that aren't used; a warning if one may name the speaker.

    Args:
        table: the file that holds them.
        names: the columns.
        speakers: whether another column names the speaker.
    """
    found = f"columns of {table.name} that are not used: {listed(names)}"
    cure = "no action is needed, unless a row's field is in one of them"
    if not speakers:
        found += "; no column is known to name the speaker"
        cure = (
            "if one of them names the speaker, import again with --speaker-column NAME; without "
            "speakers the same voice can be in training and test"
        )
    level: Severity = "note" if speakers else "warning"
    return LeftOut(table.name, found, cure, UNUSED_COLUMNS, level, file=str(table))


def listed(names: Iterable[str]) -> str:
    """Names of columns for a message."""
    known = [str(name) or "(a column without a name)" for name in names]
    rest = f" and {len(known) - MAX_LISTED} more" if len(known) > MAX_LISTED else ""
    return ", ".join(known[:MAX_LISTED]) + rest
