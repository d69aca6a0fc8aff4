"""Captions from metadata.jsonl and metadata.csv, in the imagefolder layout of Hugging Face."""

from __future__ import annotations

import codecs
import csv
import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import Any

from mmtune.data.ledger import Used, is_litter
from mmtune.data.manifest import MAX_LINE, parse_line
from mmtune.data.rows import SYNONYMS, Finding
from mmtune.data.text_beside import outside
from mmtune.image.image_row import ImageRow
from mmtune.image.pictures.suffixes import FOREIGN_SUFFIXES, IMAGE_SUFFIXES
from mmtune.system.inside import leads_out
from mmtune.system.stored import lines_up_to, opened, opened_text, reason_of, short_lines

# Hugging Face's imagefolder layout: these files name each image with its caption.
METADATA = ("metadata.jsonl", "metadata.csv")
FILE_COLUMN = "file_name"
CAPTION_COLUMNS = (
    "text",
    "caption",
    "prompt",
    *sorted(next(s for s in SYNONYMS if "caption" in s)),
)


def metadata_of(folder: Path) -> tuple[dict[str, dict[str, Any]], list[Finding], list[Used]]:
    """Read all metadata files of a folder and its subfolders.

    Returns:
        Rows by the image's path, relative to `folder`; findings, one for each line that gives no
        row; and the files that were read, with their lines.
    """
    rows: dict[str, dict[str, Any]] = {}
    findings = []
    read = []
    for path in _metadata_files(folder):
        if path.is_symlink() and leads_out(folder, path):
            findings.append(outside(path, path.name))
            continue
        found = used = 0
        for number, item in read_metadata(path):
            found += number > 0
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
        if found:
            read.append(Used(path, found, used))
    return rows, findings, read


def read_metadata(path: Path) -> Iterator[tuple[int, dict[str, Any] | Finding]]:
    """Read a metadata.jsonl or metadata.csv file.

    Columns with the names of a row's fields (subject, weight, split, group) are kept. The first of
    `CAPTION_COLUMNS` that has text is the caption. All other columns are left out.

    Yields:
        The number of a line with its row, whose `image` is relative to the file's folder, or with
        a finding. The number is 0 if the whole file can't be read.
    """
    reader = _csv_lines if path.suffix == ".csv" else _json_lines
    own = set(ImageRow.model_fields) - {"content", "id", "image", "caption"}
    try:
        for number, values in reader(path):
            where = f"{path.name} line {number}"
            if isinstance(values, str):
                cure = 'write one JSON object on the line: {"file_name": "a.png", "text": "…"}'
                found = f"{path}, line {number}: {values}"
                yield number, _at(path, number, Finding("not-json", where, found, cure))
                continue
            file = values.get(FILE_COLUMN)
            if not isinstance(file, str) or not file:
                found = f"{path}, line {number}: the key {FILE_COLUMN!r} is missing"
                cure = f"give the image's file name under the key {FILE_COLUMN!r}"
                yield number, _at(path, number, Finding("missing-key", where, found, cure))
            elif PurePosixPath(file).suffix.lower() in IMAGE_SUFFIXES + FOREIGN_SUFFIXES:
                row = {key: value for key, value in values.items() if key in own and value != ""}
                texts = (values.get(key) for key in CAPTION_COLUMNS)
                caption = next((c for c in texts if isinstance(c, str) and c.strip()), None)
                yield number, {"image": file, **row} | ({"caption": caption} if caption else {})
            else:
                found = f"{path}, line {number}: {file!r} is no image"
                other = Finding("no-image", where, found, "no action is needed", "note")
                yield number, _at(path, number, other)
    except (OSError, ValueError, csv.Error) as error:
        found = f"{path} can't be read: {reason_of(error)}"
        yield 0, Finding("not-json", path.name, found, "save it as UTF-8", file=str(path))


def _at(path: Path, line: int, finding: Finding) -> Finding:
    return replace(finding, file=str(path), line=line)


def _json_lines(path: Path) -> Iterator[tuple[int, dict[str, Any] | str]]:
    with opened(path) as file:
        for number, line in enumerate(lines_up_to(file, MAX_LINE), start=1):
            line = line.removeprefix(codecs.BOM_UTF8) if number == 1 else line
            if not line.strip():
                continue
            try:
                yield number, parse_line(line)
            except (ValueError, RecursionError) as error:
                yield number, f"not a row: {error}"


def _csv_lines(path: Path) -> Iterator[tuple[int, dict[str, Any] | str]]:
    with opened_text(path) as file:
        for number, values in enumerate(csv.DictReader(short_lines(file, MAX_LINE)), start=2):
            row: dict[str, Any] = {k: v for k, v in values.items() if isinstance(k, str)}
            if (weight := row.get("weight")) is not None:
                try:
                    row["weight"] = float(weight)
                except (TypeError, ValueError):
                    del row["weight"]
            row.pop("group", None)  # a table can't hold the mapping that a group is
            yield number, row


def _metadata_files(folder: Path) -> list[Path]:
    found = []
    for parent, folders, names in os.walk(folder):
        folders[:] = sorted(n for n in folders if not is_litter(n))
        found += [Path(parent, name) for name in METADATA if name in names]
    return found
