"""Read texts by id, as any speech recognizer writes them: lines, JSON lines, tables, folders.

Two such files are paired by what names their rows: an id, a recording, or the order of the lines.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from mmtune.data.manifest import WHOLE, scan_files
from mmtune.errors import DataError, did_you_mean, shortened
from mmtune.speech.corpus.check_recording import SPEECH_SUFFIXES
from mmtune.speech.corpus.importers.columns import NAMES
from mmtune.speech.corpus.importers.table import TABLES, read_table
from mmtune.system.stored import read_text, reason_of

TEXT = NAMES["text"]
# Names of the text's column, the first that a file has; a file of NeMo holds text and pred_text.
REFERENCES = ("reference", "ref", "target", *TEXT)
HYPOTHESES = (
    *("hypothesis", "hyp", "pred_text", "prediction", "predicted_text", "pred", "recognized"),
    *("asr", "output", *TEXT),
)
# A name may be that of a person, so it comes last.
IDS = tuple(sorted((*NAMES["id"], "segment_id", "utt"), key="name".__eq__))
FILES = NAMES["audio"]
WAYS = ("id", "file", "the file's own name")  # what names a row, the most exact first


@dataclass(frozen=True)
class TextRow:
    """One text.

    Attributes:
        where: its place in the file, for messages.
        text: what was spoken or recognized; empty for nothing.
        names: what names it, by `WAYS`; empty for a line of a text file.
        fields: the other values of its row, by lower-case name.
    """

    where: str
    text: str
    names: Mapping[str, str] = field(default_factory=dict)
    fields: Mapping[str, Any] = field(default_factory=dict)


def read_texts(
    path: Path,
    columns: Sequence[str],
    *,
    column: str | None = None,
    encoding: str | None = None,
) -> list[TextRow]:
    """Read the texts of a file or folder.

    Args:
        path: a .txt file with one text a line; JSON lines, CSV, TSV or parquet with a text in each
            row; a JSON list of objects; a folder with manifest.jsonl or with .txt files.
        columns: names of the text's column, the best first.
        column: the column's name, if it is none of these.
        encoding: of text files, CSV and TSV; None: UTF-8, or that of a byte order mark.

    Raises:
        DataError: the file is missing, can't be read, has no such column, or a row is wrong.
    """
    if not path.exists():
        raise DataError(f"no such file or folder: {path}", "correct the path")
    if path.is_dir():
        if (path / WHOLE).is_file():
            return read_texts(path / WHOLE, columns, column=column, encoding=encoding)
        return _folder(path, encoding)
    suffix = path.suffix.lower()
    if suffix in (*TABLES, ".parquet"):
        rows = [
            _row(where.removeprefix(f"{path.name} "), values, columns, column, path)
            for where, values in read_table(path, encoding)
        ]
    else:
        rows = list(_plain_lines(path, encoding))
    if not rows:
        raise DataError(f"{path} holds no text", "check that it is the right file")
    return rows


def pair(
    references: Sequence[TextRow], hypotheses: Sequence[TextRow], first: Path, second: Path
) -> tuple[list[tuple[TextRow, TextRow]], list[str]]:
    """Pair each reference with its hypothesis.

    Args:
        references, hypotheses: from `read_texts`.
        first, second: the files that they come from, for messages.

    Returns:
        The pairs in the references' order, and notes on how they were found.

    Raises:
        DataError: a reference has no hypothesis, two rows have one name, or lines that have no
            name differ in number.
    """
    ways = [
        (own, other, sum(name in known for name in named))
        for own in WAYS
        for other in WAYS
        if (named := _named(references, own)) and (known := _named(hypotheses, other))
    ]
    own, other, found = max(ways, key=lambda way: way[2], default=("", "", 0))
    if not found:
        return _by_order(references, hypotheses, first, second)
    _require_unique(references, own, first)
    _require_unique(hypotheses, other, second)
    by_name = {row.names[other]: row for row in hypotheses if other in row.names}
    lost = [row for row in references if row.names.get(own, "") not in by_name]
    if lost:
        raise DataError(
            f"{second} has no text for {len(lost)} of {len(references)} rows of {first}, the "
            f"first: {lost[0].where}, {shortened(lost[0].names.get(own, 'without a name'))!r}",
            "add these rows, with an empty text where nothing was recognized; or remove them from "
            "the references",
        )
    wanted = {row.names[own] for row in references}
    notes = [] if own == other == "id" else [f"rows are paired by {_in_words(own, other)}"]
    if more := sum(name not in wanted for name in by_name):
        notes.append(f"{more} rows of {second} have no reference, and don't count")
    return [(row, by_name[row.names[own]]) for row in references], notes


def _by_order(
    references: Sequence[TextRow], hypotheses: Sequence[TextRow], first: Path, second: Path
) -> tuple[list[tuple[TextRow, TextRow]], list[str]]:
    nameless = [not any(row.names for row in rows) for rows in (references, hypotheses)]
    if not any(nameless):
        examples = (next(iter(rows[0].names.values()), "") for rows in (references, hypotheses))
        one, two = (repr(shortened(each)) for each in examples)
        raise DataError(
            f"no row of {second} has a name of {first}: {one} there, {two} here",
            "give both files the same ids, in a column 'id'",
        )
    if len(references) != len(hypotheses):
        raise DataError(
            f"{first} has {len(references)} texts, and {second} has {len(hypotheses)}: lines "
            "without ids are paired by their order",
            "write one line for each reference, empty where nothing was recognized; or use a file "
            "with ids",
        )
    notes = [] if all(nameless) else ["rows are paired by their order: one file has no ids"]
    return list(zip(references, hypotheses, strict=True)), notes


def _named(rows: Sequence[TextRow], name: str) -> set[str]:
    return {row.names[name] for row in rows if name in row.names}


def _require_unique(rows: Sequence[TextRow], name: str, path: Path) -> None:
    first: dict[str, str] = {}
    for row in rows:
        if name in row.names and row.names[name] in first:
            raise DataError(
                f"{path}: {row.where} and {first[row.names[name]]} both have the {name} "
                f"{shortened(row.names[name])!r}",
                "give each row an id of its own, in a column 'id'",
            )
        if name in row.names:
            first[row.names[name]] = row.where


def _in_words(own: str, other: str) -> str:
    return own if own == other else f"{own} of the reference and {other} of the transcript"


def _plain_lines(path: Path, encoding: str | None) -> Iterator[TextRow]:
    lines = _text_of(path, encoding).split("\n")
    if lines[-1] == "":  # what follows the last line's end
        lines.pop()
    for number, line in enumerate(lines, start=1):
        yield TextRow(f"line {number}", " ".join(line.split()))


def _folder(folder: Path, encoding: str | None) -> list[TextRow]:
    rows = []
    for name, place in scan_files(folder, (".txt",)):
        text = " ".join(_text_of(folder / place, encoding).split())
        rows.append(TextRow(place.as_posix(), text, _names(None, name)))
    if not rows:
        raise DataError(
            f"{folder} holds neither {WHOLE} nor .txt files",
            "name a folder with one .txt file for each recording, or a table of texts",
        )
    return rows


def _text_of(path: Path, encoding: str | None) -> str:
    try:
        return read_text(path, encoding or "utf-8-sig")
    except (OSError, UnicodeError, LookupError) as error:
        raise DataError(
            f"{path} can't be read: {reason_of(error)}",
            "save it as UTF-8 text, or name its encoding, such as --encoding cp1252",
        ) from None


def _row(
    where: str,
    values: Mapping[str, Any],
    columns: Sequence[str],
    column: str | None,
    path: Path,
) -> TextRow:
    if set(values) == {""}:
        raise DataError(f"{path}, {where}: {values['']}", "correct the line")
    lower = {str(key).strip().casefold(): value for key, value in values.items()}
    wanted = [column.casefold()] if column is not None else columns
    name = next((name for name in wanted if name in lower), None)
    cure = "name the text's column 'text'"
    if columns is HYPOTHESES:  # only transcripts have a setting for it
        cure = "name the text's column: --column NAME"
    if name is None:
        known = ", ".join(map(repr, list(lower)[:12]))
        hint = did_you_mean(column, lower) if column else cure
        what = repr(column) if column else f"for the text ({', '.join(columns[:4])} …)"
        raise DataError(f"{path}, {where}: no column {what}; it has {known}", hint)
    value = lower[name]
    if value is not None and not isinstance(value, str | int | float):
        raise DataError(
            f"{path}, {where}: {name} holds a JSON {type(value).__name__}, not a text",
            cure,
        )
    text = "" if value is None else " ".join(str(value).split())
    own = next((lower[key] for key in IDS if _stated(lower.get(key))), None)
    file = next((lower[key] for key in FILES if _stated(lower.get(key))), None)
    fields = {key: each for key, each in lower.items() if key != name}
    return TextRow(where, text, _names(own, file), fields)


def _stated(value: Any) -> bool:
    return isinstance(value, str | int) and not isinstance(value, bool) and bool(str(value).strip())


def _names(own: Any, file: Any) -> dict[str, str]:
    names = {} if own is None else {"id": str(own).strip()}
    path = PurePosixPath(str(own if file is None else file).strip().replace("\\", "/"))
    if path.suffix.lower() in SPEECH_SUFFIXES:
        path = path.with_suffix("")
    if path.name and (own is not None or file is not None):
        names |= {"file": path.as_posix(), "the file's own name": path.name}
    return names
