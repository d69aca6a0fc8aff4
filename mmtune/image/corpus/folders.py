"""Folders of images as people have them: captions beside files, in metadata, in names."""

from __future__ import annotations

import csv
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from mmtune.data.manifest import parse_line, scan_files, words_beside
from mmtune.data.rows import SYNONYMS, Finding
from mmtune.image.image_row import ImageRow

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".gif", ".bmp", ".tif", ".tiff", ".avif")
# Not readable here; found in folders all the same, so that nobody's pictures vanish in silence.
FOREIGN_SUFFIXES = (".heic", ".heif", ".svg", ".psd", ".eps", ".jxl", ".dng", ".cr2", ".nef")
MASK = ".mask"  # "apple.mask.png" belongs to "apple.jpg"
CAPTION_SUFFIXES = (".txt", ".caption")  # kohya's scripts write the second

# Of Hugging Face's imagefolder: which file a caption belongs to is said in one of these.
METADATA = ("metadata.jsonl", "metadata.csv")
FILE_COLUMN = "file_name"
CAPTIONS = ("text", "caption", "prompt", *sorted(next(s for s in SYNONYMS if "caption" in s)))
SPLITS = {
    "train": "train",
    "training": "train",
    "validation": "validation",
    "valid": "validation",
    "val": "validation",
    "dev": "validation",
    "test": "test",
    "testing": "test",
}

# A number at the end counts pictures of one thing: "_01", " (2)", "-003"; "route-66" keeps its.
_COUNTER = re.compile(r"(?:[_ ]+\d+|\s*\(\d+\)|-0\d+|[_ -]copy)$", re.IGNORECASE)
# What cameras and programs call files says nothing of what is shown.
_NO_NAME = re.compile(
    r"(?:img|dsc[nf]?|pxl|p|image|photo|picture|pic|screen ?shot|scan|untitled|download|file)?"
    r"[\d\W_]*|[0-9a-f]{8}[0-9a-f-]*",
    re.IGNORECASE,
)
# "10_acme icon". No zero in front, as ordered folders have ("01_icons"), and no year.
_REPEATS = re.compile(r"([1-9]\d{0,2})_+([^_\s].*)", re.DOTALL)


@dataclass(frozen=True)
class Repeats:
    """What a folder's name says in kohya's layout: how often its images count, and their words."""

    times: int
    words: str


def scan(folder: Path) -> Iterator[dict[str, Any] | Finding]:
    """Rows of a folder, with what can't be read of its metadata.

    An image's caption is, the first that there is: in the metadata.jsonl or metadata.csv of a
    folder above it; in the .txt or .caption of its name; in its name; in the name of a folder like
    "10_acme icon", whose number is also the row's weight, divided by the least of such numbers.
    """
    metadata, findings = metadata_of(folder)
    yield from findings
    files, masks = image_files(folder)
    repeats = {parent: _repeats(parent) for parent in {path.parent for _, path in files}}
    times = {1 if each is None else each.times for each in repeats.values()}
    if len(times) > 1:
        yield _told(repeats, min(times))
    for name, relative in files:
        row: dict[str, Any] = {"id": name, "image": relative.as_posix()}
        group = repeats[relative.parent]
        if group is not None and group.times != min(times):
            row["weight"] = round(group.times / min(times), 4)
        if (known := metadata.pop(str(relative), None)) is not None:
            row |= {**_split(relative), **known}
        if relative in masks:
            row.setdefault("mask", masks[relative].as_posix())
        caption = row.get("caption") or caption_beside(folder / relative)
        if caption is None:
            caption = caption_from_name(relative.stem) or (group.words if group else "")
        yield {**row, "caption": caption} if caption else row
    taken = {name for name, _ in files}
    for place, known in metadata.items():  # files that aren't there: found when they are opened
        stem = Path(place).with_suffix("").as_posix()
        name = known["image"] if stem in taken else stem
        yield {"id": name, **_split(Path(place)), **known}


def image_files(folder: Path) -> tuple[list[tuple[str, Path]], dict[Path, Path]]:
    """The images of a folder with their ids, without masks; and the masks, by image."""
    files = list(scan_files(folder, IMAGE_SUFFIXES + FOREIGN_SUFFIXES))
    images: dict[str, list[Path]] = {}
    for _, path in files:
        images.setdefault(path.with_suffix("").as_posix(), []).append(path)
    masks = {
        image: path
        for _, path in files
        if path.stem.endswith(MASK)
        for image in images.get(path.with_name(path.stem.removesuffix(MASK)).as_posix(), [])
    }
    taken = set(masks.values())
    return [(name, path) for name, path in files if path not in taken], masks


def metadata_of(folder: Path) -> tuple[dict[str, dict[str, Any]], list[Finding]]:
    """Rows that the metadata files of a folder and of those in it name, by the image's path."""
    rows: dict[str, dict[str, Any]] = {}
    findings = []
    for path in _metadata_files(folder):
        for item in read_metadata(path):
            if isinstance(item, Finding):
                findings.append(item)
                continue
            place = os.path.normpath(path.parent.relative_to(folder) / item["image"])
            if place in rows:
                found = f"{path} names {item['image']} a second time"
                where = f"{path.name} {place}"
                findings.append(Finding("duplicate-id", where, found, "name each file once"))
            if isinstance(item.get("mask"), str):
                at = os.path.normpath(path.parent.relative_to(folder) / item["mask"])
                item = {**item, "mask": Path(at).as_posix()}
            rows.setdefault(place, {**item, "image": Path(place).as_posix()})
    return rows, findings


def caption_beside(path: Path) -> str | bytes | None:
    """The words in the .txt or .caption of an image's name; None without one."""
    words = (words_beside(path, suffix) for suffix in CAPTION_SUFFIXES)
    return next((each for each in words if each is not None), None)


def caption_from_name(stem: str) -> str:
    """The caption that a file's name holds: "red-apple_01" gives "red apple".

    Empty for names that say nothing: "IMG_2041", "00017", "3f9ac04e77d1".
    """
    if _NO_NAME.fullmatch(stem):
        return ""
    while (shorter := _COUNTER.sub("", stem)) != stem:
        stem = shorter
    return " ".join(re.split(r"[-_\s]+", stem)).strip()


def parse_repeats(name: str) -> Repeats | None:
    """What kohya's training scripts read in a folder's name: "10_acme icon" counts ten times.

    None for other names; also for those that only begin with a number: "01_icons", "2024_summer".
    """
    match = _REPEATS.fullmatch(name.strip())
    if match is None or not (words := " ".join(match[2].replace("_", " ").split())):
        return None
    return Repeats(int(match[1]), words)


def read_metadata(path: Path) -> Iterator[dict[str, Any] | Finding]:
    """Rows of a metadata.jsonl or metadata.csv, with `image` relative to its folder.

    Columns that a row has by the same name (subject, weight, split, group) are taken as they
    are, the first of `CAPTIONS` as the caption, and others are left out. Rows of other media give
    nothing; a line that can't be read gives a finding.
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
                yield Finding("missing-key", where, found, "name the image's file in it")
            elif PurePosixPath(file).suffix.lower() in IMAGE_SUFFIXES + FOREIGN_SUFFIXES:
                row = {key: value for key, value in values.items() if key in own and value != ""}
                said = (values.get(key) for key in CAPTIONS)
                caption = next((c for c in said if isinstance(c, str) and c.strip()), None)
                yield {"image": file, **row} | ({"caption": caption} if caption else {})
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        yield Finding(
            "not-json",
            path.name,
            f"{path} can't be read: {error}",
            "save it as UTF-8",
        )


def _json_lines(path: Path) -> Iterator[tuple[int, dict[str, Any] | str]]:
    with path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            line = line.removeprefix(b"\xef\xbb\xbf") if number == 1 else line
            if not line.strip():
                continue
            try:
                yield number, parse_line(line)
            except (ValueError, RecursionError) as error:
                yield number, f"not a row: {error}"


def _csv_lines(path: Path) -> Iterator[tuple[int, dict[str, Any] | str]]:
    with path.open(encoding="utf-8-sig", newline="") as file:
        for number, values in enumerate(csv.DictReader(file), start=2):
            row: dict[str, Any] = {k: v for k, v in values.items() if isinstance(k, str)}
            if (weight := row.get("weight")) is not None:
                try:
                    row["weight"] = float(weight)
                except (TypeError, ValueError):
                    del row["weight"]
            row.pop("group", None)  # a mapping has no place in a table
            yield number, row


def _metadata_files(folder: Path) -> list[Path]:
    found = []
    for parent, folders, names in os.walk(folder):
        folders[:] = sorted(n for n in folders if not n.startswith((".", "__MACOSX")))
        found += [Path(parent, name) for name in METADATA if name in names]
    return found


def _split(path: Path) -> dict[str, str]:
    # As Hugging Face's loader reads folders, where there is metadata: otherwise "test" is a name.
    named = SPLITS.get(path.parts[0].lower()) if len(path.parts) > 1 else None
    return {"split": named} if named else {}


def _repeats(parent: Path) -> Repeats | None:
    return parse_repeats(parent.parts[-1]) if parent.parts else None


def _told(repeats: dict[Path, Repeats | None], least: int) -> Finding:
    named = sorted((p.as_posix(), r.times) for p, r in repeats.items() if r is not None)
    some = ", ".join(f"{name!r} {times}" for name, times in named[:4])
    rest = " and others" if len(named) > 4 else ""
    return Finding(
        "folder-weights",
        named[0][0],
        f"folders are named as kohya's scripts name repeats: {some}{rest}; a row's weight in the "
        f"loss is its folder's number divided by {least}",
        "rename the folders if the numbers mean something else",
        "warning",
    )
