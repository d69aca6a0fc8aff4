"""Captions from metadata.jsonl and metadata.csv, in the imagefolder layout of Hugging Face."""

from __future__ import annotations

import csv
import os
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any

from mmtune.data.manifest import MAX_LINE, outside, parse_line
from mmtune.data.rows import SYNONYMS, Finding
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


def metadata_of(folder: Path) -> tuple[dict[str, dict[str, Any]], list[Finding]]:
    """Read all metadata files of a folder and its subfolders.

    Returns:
        Rows by the image's path, relative to `folder`; and findings.
    """
    rows: dict[str, dict[str, Any]] = {}
    findings = []
    for path in _metadata_files(folder):
        if path.is_symlink() and leads_out(folder, path):
            findings.append(outside(path, path.name))
            continue
        for item in read_metadata(path):
            if isinstance(item, Finding):
                findings.append(item)
                continue
            place = os.path.normpath(path.parent.relative_to(folder) / item["image"])
            if place in rows:
                found = f"{path}: {item['image']} is named twice"
                where = f"{path.name} {place}"
                findings.append(Finding("duplicate-id", where, found, "name each file once"))
            if isinstance(item.get("mask"), str):
                at = os.path.normpath(path.parent.relative_to(folder) / item["mask"])
                item = {**item, "mask": Path(at).as_posix()}
            rows.setdefault(place, {**item, "image": Path(place).as_posix()})
    return rows, findings


def read_metadata(path: Path) -> Iterator[dict[str, Any] | Finding]:
    """Read a metadata.jsonl or metadata.csv file.

    Columns with the names of a row's fields (subject, weight, split, group) are kept. The first of
    `CAPTION_COLUMNS` that has text is the caption. All other columns are left out.

    Yields:
        Rows, with `image` relative to the file's folder, and a finding for each line that can't
        be read. Lines that name no image file are skipped.
    """
    reader = _csv_lines if path.suffix == ".csv" else _json_lines
    own = set(ImageRow.model_fields) - {"content", "id", "image", "caption"}
    try:
        for number, values in reader(path):
            where = f"{path.name} line {number}"
            if isinstance(values, str):
                cure = 'write one JSON object on the line: {"file_name": "a.png", "text": "…"}'
                yield Finding("not-json", where, f"{path}, line {number}: {values}", cure)
                continue
            file = values.get(FILE_COLUMN)
            if not isinstance(file, str) or not file:
                found = f"{path}, line {number}: the key {FILE_COLUMN!r} is missing"
                cure = f"give the image's file name under the key {FILE_COLUMN!r}"
                yield Finding("missing-key", where, found, cure)
            elif PurePosixPath(file).suffix.lower() in IMAGE_SUFFIXES + FOREIGN_SUFFIXES:
                row = {key: value for key, value in values.items() if key in own and value != ""}
                texts = (values.get(key) for key in CAPTION_COLUMNS)
                caption = next((c for c in texts if isinstance(c, str) and c.strip()), None)
                yield {"image": file, **row} | ({"caption": caption} if caption else {})
    except (OSError, ValueError, csv.Error) as error:
        yield Finding(
            "not-json",
            path.name,
            f"{path} can't be read: {reason_of(error)}",
            "save it as UTF-8",
        )


def _json_lines(path: Path) -> Iterator[tuple[int, dict[str, Any] | str]]:
    with opened(path) as file:
        for number, line in enumerate(lines_up_to(file, MAX_LINE), start=1):
            line = line.removeprefix(b"\xef\xbb\xbf") if number == 1 else line
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
        folders[:] = sorted(n for n in folders if not n.startswith((".", "__MACOSX")))
        found += [Path(parent, name) for name in METADATA if name in names]
    return found
