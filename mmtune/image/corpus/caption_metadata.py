"""Captions from metadata.jsonl, .csv or .tsv, in the imagefolder layout of Hugging Face.

A file in UTF-8, or in UTF-16 or UTF-32 with a byte order mark, is read; so are tables that Excel
writes with semicolons or tabs. Another file can't be read, and ends the check: its captions would
be lost.
"""

from __future__ import annotations

import codecs
import csv
import io
import itertools
import os
from collections.abc import Collection, Iterator
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import Any

from mmtune.data.ledger import SHEETS, Guess, Used, is_litter
from mmtune.data.manifest import MAX_LINE, parse_line
from mmtune.data.row_rights import consent_in
from mmtune.data.rows import SYNONYMS, Finding
from mmtune.data.text_beside import outside
from mmtune.image.corpus.caption_files import texts_of
from mmtune.image.image_row import ImageRow
from mmtune.image.pictures.suffixes import FOREIGN_SUFFIXES, IMAGE_SUFFIXES
from mmtune.system.encodings import HEAD, SEPARATORS, encoding_of
from mmtune.system.inside import leads_out
from mmtune.system.pointers import pointer_at
from mmtune.system.stored import lines_up_to, opened, reason_of, short_lines

# Hugging Face's imagefolder layout: these files name each image with its caption.
METADATA = ("metadata.jsonl", "metadata.csv", "metadata.tsv")  # in any case
UNREAD = tuple(f"metadata{suffix}" for suffix in (".parquet", *SHEETS))
FILE_COLUMN, TEXT_COLUMN = "file_name", "text"
COLUMNS = f"the columns {FILE_COLUMN} and {TEXT_COLUMN}"
CAPTION_COLUMNS = (
    TEXT_COLUMN,
    "caption",
    "prompt",
    *sorted(next(s for s in SYNONYMS if "caption" in s)),
)


def metadata_of(
    folder: Path,
) -> tuple[dict[str, dict[str, Any]], list[Finding], list[Used | Guess]]:
    """Read all metadata files of a folder and its subfolders.

    Returns:
        Rows by the image's path, relative to `folder`; findings, one for each line that gives no
        row; and the files that were read, with their lines, and what is guessed of them.
    """
    rows: dict[str, dict[str, Any]] = {}
    findings = []
    read: list[Used | Guess] = []
    for path in _files_named(folder, UNREAD):
        found = f"{path} can't be read: {path.suffix} files aren't"
        cure = "save it as metadata.csv, or remove it: otherwise its captions are lost"
        findings.append(Finding("unreadable-metadata", path.name, found, cure, file=str(path)))
    for path in _files_named(folder, METADATA):
        if path.is_symlink() and leads_out(folder, path):
            findings.append(outside(path, path.name))
            continue
        lines = used = 0
        for number, item in read_metadata(path):
            lines += number > 0
            if isinstance(item, Guess):
                read.append(item)
                continue
            if isinstance(item, Finding):
                findings.append(item)
                continue
            place = os.path.normpath(path.parent.relative_to(folder) / item["image"])
            if place in rows:
                twice = f"{path}, line {number}: {item['image']} is named twice"
                where = f"{path.name} {place}"
                again = Finding("duplicate-id", where, twice, "name each file once")
                findings.append(_at(path, number, again))
                continue
            if isinstance(item.get("mask"), str):
                at = os.path.normpath(path.parent.relative_to(folder) / item["mask"])
                item = {**item, "mask": Path(at).as_posix()}
            rows[place] = {**item, "image": Path(place).as_posix()}
            used += 1
        if lines:
            read.append(Used(path, lines, used))
        wrong = [f for f in findings if f.file == str(path) and f.severity == "error"]
        if lines and not used and wrong:
            findings.append(
                Finding(
                    "unreadable-metadata",
                    path.name,
                    f"{path} can't be read: none of its {lines} lines names an image",
                    f"{_line_cure(path)}, or remove it: otherwise its captions are lost",
                    file=str(path),
                )
            )
    return rows, findings, read


def table_finding(folder: Path, path: Path) -> Finding | None:
    """The finding for a table beside images that isn't named as metadata; None: it is no such file.

    Args:
        folder: the dataset's folder.
        path: the file, relative to it.
    """
    suffix = path.suffix.lower()
    if suffix not in (".csv", ".tsv", *SHEETS) or path.name.casefold() in METADATA + UNREAD:
        return None
    if pointer_at(folder / path) is not None:
        return None
    beside = path.with_name(f"metadata{suffix if suffix in ('.csv', '.tsv') else '.csv'}")
    how = "rename it" if beside.suffix == suffix else "save it as"
    if (folder / beside).exists():
        how = "move its lines into"
    cure = f"if it holds captions, {how} {beside.name}, with {COLUMNS}"
    found, place = "this table isn't read", path.as_posix()
    return Finding("unused-table", place, found, cure, "warning", file=str(folder / path))


def read_metadata(path: Path) -> Iterator[tuple[int, dict[str, Any] | Finding | Guess]]:
    """Read a metadata.jsonl, metadata.csv or metadata.tsv file.

    Columns with the names of a row's fields (subject, weight, split, group, consent, licence,
    source) are kept, as are `license` and `consent_until`. The first of
    `CAPTION_COLUMNS` that has text is the caption; in JSON it may be a list of captions. All other
    columns are left out.

    Yields:
        The number of a line with its row, whose `image` is relative to the file's folder, or with
        a finding. The number is 0 for a finding or a guess about the whole file.
    """
    reader = _json_lines if path.suffix.lower() == ".jsonl" else _csv_lines
    own = set(ImageRow.model_fields) - {"content", "id", "image", "caption", "captions"}
    if (pointer := pointer_at(path)) is not None:
        found = f"{path} {pointer.found}: its captions are lost"
        yield 0, Finding("unreadable-metadata", path.name, found, pointer.cure, file=str(path))
        return
    try:
        for number, values in reader(path):
            if isinstance(values, Guess):
                yield 0, values
                continue
            if isinstance(values, Finding):
                yield 0, values
                return
            where = f"{path.name}, line {number}"
            if isinstance(values, str):
                cure = 'write one JSON object on the line: {"file_name": "a.png", "text": "…"}'
                found = f"{path}, line {number}: {values}"
                yield number, _at(path, number, Finding("not-json", where, found, cure))
                continue
            file = values.get(FILE_COLUMN)
            if not isinstance(file, str) or not file:
                lack = f"the key {FILE_COLUMN!r} is missing"
                if reader is _csv_lines:
                    lack = f"the column {FILE_COLUMN} is empty"
                found, cure = f"{path}, line {number}: {lack}", _line_cure(path)
                yield number, _at(path, number, Finding("missing-key", where, found, cure))
            elif PurePosixPath(file).suffix.lower() in IMAGE_SUFFIXES + FOREIGN_SUFFIXES:
                row = {key: value for key, value in values.items() if key in own and value != ""}
                consent = consent_in(values.get("consent"), values.get("consent_until"))
                licence = values.get("licence") or values.get("license")
                row |= {} if consent is None else {"consent": consent}
                row |= {"licence": licence} if licence else {}
                listed = (values.get(key) for key in CAPTION_COLUMNS)
                caption = next((c for c in listed if texts_of(c)), None)
                stated = {} if caption is None else {"caption": caption}
                if isinstance(caption, list):
                    texts = texts_of(caption)
                    stated = {"caption": texts[0]} | ({"captions": texts} if texts[1:] else {})
                yield number, {"image": file, **row, **stated}
            else:
                found = f"{path}, line {number}: {file!r} is no image"
                other = Finding("no-image", where, found, "no action is needed", "note")
                yield number, _at(path, number, other)
    except (OSError, ValueError, csv.Error) as error:
        found = f"{path} can't be read: {reason_of(error)}"
        cure = "save it as UTF-8, or remove it: otherwise its captions are lost"
        yield 0, Finding("unreadable-metadata", path.name, found, cure, file=str(path))


def _line_cure(path: Path) -> str:
    """How a line of a metadata file is to be written."""
    if path.suffix.lower() == ".jsonl":
        return 'write lines like {"file_name": "a.png", "text": "…"}'
    return f"write the image's file name into the column {FILE_COLUMN} of each line"


def _at(path: Path, line: int, finding: Finding) -> Finding:
    return replace(finding, file=str(path), line=line)


def _encoding(path: Path) -> tuple[str, list[Guess]]:
    """The encoding of a metadata file by its first bytes; and that it is a guess, if it is one."""
    with opened(path) as file:
        encoding, guessed = encoding_of(file.read(HEAD))
    source = f"every other byte of {path.name} is zero"
    return encoding, [Guess("encoding", encoding, source, first=path.name)] if guessed else []


def _json_lines(path: Path) -> Iterator[tuple[int, dict[str, Any] | str | Guess]]:
    encoding, guesses = _encoding(path)
    yield from ((0, guess) for guess in guesses)
    with opened(path) as file:
        # A line that isn't UTF-8 is left out alone; in UTF-16 no line after it can be read.
        lines = lines_up_to(file, MAX_LINE)
        if encoding != "utf-8-sig":
            text = io.TextIOWrapper(file, encoding=encoding, newline="")
            lines = (line.encode() for line in lines_up_to(text, MAX_LINE))
        for number, line in enumerate(lines, start=1):
            line = line.removeprefix(codecs.BOM_UTF8) if number == 1 else line
            if not line.strip():
                continue
            try:
                yield number, parse_line(line)
            except (ValueError, RecursionError) as error:
                yield number, f"not a row: {error}"


def _csv_lines(path: Path) -> Iterator[tuple[int, dict[str, Any] | str | Guess | Finding]]:
    encoding, guesses = _encoding(path)
    yield from ((0, guess) for guess in guesses)
    with io.TextIOWrapper(opened(path), encoding=encoding, newline="") as file:
        lines = short_lines(file, MAX_LINE)
        head = next(lines, "")
        separator = _separator(head)
        columns = next(csv.reader([head], delimiter=separator), [])
        if columns and FILE_COLUMN not in columns:
            named = ", ".join(each.strip()[:40] for each in columns[:10])
            found = f"{path} can't be read: no column is named {FILE_COLUMN}; it has: {named}"
            cure = (
                f"name {COLUMNS} in the first line, or remove it: otherwise its captions are lost"
            )
            yield 0, Finding("unreadable-metadata", path.name, found, cure, file=str(path))
            return
        if separator != "," and (separator, path.suffix.lower()) != ("\t", ".tsv"):
            source = f"the first line of {path.name}"
            yield 0, Guess("separator", separator, source, first=path.name)
        table = csv.DictReader(itertools.chain([head], lines), delimiter=separator)
        for number, values in enumerate(table, start=2):
            row: dict[str, Any] = {k: v for k, v in values.items() if isinstance(k, str)}
            if (weight := row.get("weight")) is not None:
                try:
                    row["weight"] = float(weight)
                except (TypeError, ValueError):
                    del row["weight"]
            row.pop("group", None)  # a table can't hold the mapping that a group is
            yield number, row


def _separator(head: str) -> str:
    """The separator with which the first line names the column of files.

    If no column has that name, it is the one that makes most columns; the comma by default.
    """
    columns = {each: next(csv.reader([head], delimiter=each), []) for each in SEPARATORS}
    named = (each for each, names in columns.items() if FILE_COLUMN in names)
    return next(named, max(columns, key=lambda each: len(columns[each])))


def _files_named(folder: Path, wanted: Collection[str]) -> list[Path]:
    found = []
    for parent, folders, names in os.walk(folder):
        folders[:] = sorted(n for n in folders if not is_litter(n))
        found += [Path(parent, name) for name in sorted(names) if name.casefold() in wanted]
    return found
