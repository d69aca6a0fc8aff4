"""Read rows from JSON: an object on each line, objects in several lines, or one list of objects."""

from __future__ import annotations

import codecs
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from mmtune.data.manifest import MAX_LINE, parse_line, unique_keys
from mmtune.errors import DataError
from mmtune.speech.corpus.importers.delimited import Line
from mmtune.system.stored import MAX_TEXT, lines_up_to, opened, read_bytes, reason_of


def read_json(table: Path) -> Iterator[Line]:
    """Yield the rows of a file of JSON, each with its place.

    Raises:
        DataError: the file can't be read.
    """
    try:
        values = _values(table)
        if values is None:
            yield from _lines(table)
            return
        for number, value in enumerate(values, start=1):
            where = f"{table.name} row {number}"
            if isinstance(value, dict):
                yield where, value
            else:
                yield where, {"": f"it is a JSON {type(value).__name__}, not an object"}
    except OSError as error:
        raise DataError(
            f"{table} can't be read: {reason_of(error)}", "check the file, or name another table"
        ) from None


def _values(table: Path) -> list[Any] | None:
    """The values of a file whose first line is no row; None if each line is to be read alone.

    Raises:
        DataError: it begins as a list that isn't whole, or is too large to be read at once.
    """
    with opened(table) as file:
        first = next((line for line in lines_up_to(file, MAX_LINE) if line.strip()), b"")
    first = first.removeprefix(codecs.BOM_UTF8).strip()
    listed = first.startswith(b"[")
    if not listed and (_is_row(first) or table.stat().st_size > MAX_TEXT):
        return None
    try:
        data = read_bytes(table).removeprefix(codecs.BOM_UTF8)
        values = _decoded(data.decode(json.detect_encoding(data)))
    except (ValueError, RecursionError) as error:
        if listed and not _is_json(first):
            cure = "write it again, or write one JSON object on each line"
            raise DataError(f"{table} is no list of rows: {error}", cure) from None
        return None
    return values[0] if len(values) == 1 and isinstance(values[0], list) else values


def _decoded(text: str) -> list[Any]:
    decoder = json.JSONDecoder(object_pairs_hook=unique_keys)
    values, at = [], 0
    while at < len(text):
        if text[at].isspace():
            at += 1
            continue
        value, at = decoder.raw_decode(text, at)
        values.append(value)
    return values


def _is_row(line: bytes) -> bool:
    try:
        parse_line(line)
    except (ValueError, RecursionError):
        return False
    return True


def _is_json(line: bytes) -> bool:
    try:
        json.loads(line)
    except (ValueError, RecursionError):
        return False
    return True


def _lines(table: Path) -> Iterator[Line]:
    with opened(table) as file:
        for number, line in enumerate(lines_up_to(file, MAX_LINE), start=1):
            where = f"{table.name} line {number}"
            if not line.strip():
                continue
            try:
                values: Mapping[str, Any] = parse_line(line.removeprefix(codecs.BOM_UTF8))
            except (ValueError, RecursionError) as error:
                values = {"": f"the line is no row: {error}"}
            yield where, values
