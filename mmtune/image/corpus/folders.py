"""Folders of images without a manifest: captions from files beside images, metadata and names."""

from __future__ import annotations

import csv
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from mmtune.data.manifest import MAX_LINE, outside, parse_line, scan_files, words_beside
from mmtune.data.rows import SYNONYMS, Finding
from mmtune.image.image_row import ImageRow
from mmtune.system.inside import leads_out
from mmtune.system.stored import lines_up_to, opened, opened_text, reason_of, short_lines

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".gif", ".bmp", ".tif", ".tiff", ".avif")
# mmtune can't read these. They are listed all the same, so that no image is skipped in silence.
FOREIGN_SUFFIXES = (".heic", ".heif", ".svg", ".psd", ".eps", ".jxl", ".dng", ".cr2", ".nef")
MASK = ".mask"  # "apple.mask.png" belongs to "apple.jpg"
CAPTION_SUFFIXES = (".txt", ".caption")  # kohya's scripts write the second

# Hugging Face's imagefolder layout: these files name each image with its caption.
METADATA = ("metadata.jsonl", "metadata.csv")
FILE_COLUMN = "file_name"
CAPTION_COLUMNS = (
    "text",
    "caption",
    "prompt",
    *sorted(next(s for s in SYNONYMS if "caption" in s)),
)
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

# A counter at the end numbers images of one thing: "_01", " (2)", "-003". "route-66" has none.
_COUNTER = re.compile(r"(?:[_ ]+\d+|\s*\(\d+\)|-0\d+|[_ -]copy)$", re.IGNORECASE)
# Names that cameras and programs give say nothing about the content.
_NO_NAME = re.compile(
    r"(?:img|dsc[nf]?|pxl|p|image|photo|picture|pic|screen ?shot|scan|untitled|download|file)?"
    r"[\d\W_]*|[0-9a-f]{8}[0-9a-f-]*",
    re.IGNORECASE,
)
# "10_acme icon", but neither a leading zero, as in ordered folders ("01_icons"), nor a year.
_REPEATS = re.compile(r"([1-9]\d{0,2})_+([^_\s].*)", re.DOTALL)


@dataclass(frozen=True)
class Repeats:
    """A folder's name in kohya's layout, "10_acme icon".

    Attributes:
        times: how often an epoch repeats each image of the folder.
        words: caption of images that have none of their own.
    """

    times: int
    words: str


def scan(folder: Path) -> Iterator[dict[str, Any] | Finding]:
    """List the images of a folder as rows.

    The first of these places that has a caption gives it: the metadata.jsonl or metadata.csv of a
    folder above the image; the .txt or .caption file with the image's name; the image's name; the
    name of a folder like "10_acme icon". The number of such a folder, divided by the smallest of
    them, is the row's weight.

    Yields:
        Rows as mappings, and a finding for each part of the metadata that can't be read.
    """
    metadata, findings = metadata_of(folder)
    yield from findings
    files, masks = image_files(folder)
    repeats = {parent: _repeats(parent) for parent in {path.parent for _, path in files}}
    times = {1 if each is None else each.times for each in repeats.values()}
    if len(times) > 1:
        yield _weights_finding(repeats, min(times))
    for name, relative in files:
        row: dict[str, Any] = {"id": name, "image": relative.as_posix()}
        group = repeats[relative.parent]
        if group is not None and group.times != min(times):
            row["weight"] = round(group.times / min(times), 4)
        if (known := metadata.pop(str(relative), None)) is not None:
            row |= {**_split(relative), **known}
        if relative in masks:
            row.setdefault("mask", masks[relative].as_posix())
        caption = row.get("caption") or caption_beside(folder / relative, folder, name)
        if isinstance(caption, Finding):
            yield caption
            continue
        if caption is None:
            caption = caption_from_name(relative.stem) or (group.words if group else "")
        yield {**row, "caption": caption} if caption else row
    taken = {name for name, _ in files}
    # Files that metadata names and that don't exist: opening them gives the finding.
    for place, known in metadata.items():
        stem = Path(place).with_suffix("").as_posix()
        name = known["image"] if stem in taken else stem
        yield {"id": name, **_split(Path(place)), **known}


def image_files(folder: Path) -> tuple[list[tuple[str, Path]], dict[Path, Path]]:
    """List the images of a folder, and their masks.

    Returns:
        Id and path (relative to `folder`) of each image that is no mask; and the masks' paths by
        the image's path.
    """
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


def caption_beside(path: Path, folder: Path, row: str) -> str | bytes | Finding | None:
    """Read the .txt or .caption file that has an image's name.

    Args:
        path: the image.
        folder: the dataset's folder; a link that leads out of it isn't followed.
        row: id of the image's row, for the finding.

    Returns:
        Its text; its bytes if they aren't UTF-8; None if there is no such file; a finding if it is
        a link that leads out of the folder.
    """
    words = (words_beside(path, folder, row, suffix) for suffix in CAPTION_SUFFIXES)
    return next((each for each in words if each is not None), None)


def caption_from_name(stem: str) -> str:
    """Read the caption that a file's name holds: "red-apple_01" gives "red apple".

    The result is used for training without review, so all words are kept and only a counter at
    the end is removed. `mmtune caption` (`mmtune.image.corpus.propose_captions.proposal_from_name`)
    also leaves out numbers, sizes, versions and hashes inside the name.

    Args:
        stem: the file's name without suffix.

    Returns:
        The caption; "" for names that say nothing, such as "IMG_2041", "00017", "3f9ac04e77d1".
    """
    if _NO_NAME.fullmatch(stem):
        return ""
    while (shorter := _COUNTER.sub("", stem)) != stem:
        stem = shorter
    return " ".join(re.split(r"[-_\s]+", stem)).strip()


def parse_repeats(name: str) -> Repeats | None:
    """Parse a folder's name as kohya's sd-scripts do: "10_acme icon" repeats its images 10 times.

    Returns:
        None for other names, and for names that just start with a number: "01_icons",
        "2024_summer".
    """
    match = _REPEATS.fullmatch(name.strip())
    if match is None or not (words := " ".join(match[2].replace("_", " ").split())):
        return None
    return Repeats(int(match[1]), words)


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


def _split(path: Path) -> dict[str, str]:
    # As Hugging Face's loader does, only for folders with metadata: elsewhere "test" is a name.
    named = SPLITS.get(path.parts[0].lower()) if len(path.parts) > 1 else None
    return {"split": named} if named else {}


def _repeats(parent: Path) -> Repeats | None:
    return parse_repeats(parent.parts[-1]) if parent.parts else None


def _weights_finding(repeats: dict[Path, Repeats | None], least: int) -> Finding:
    named = sorted((p.as_posix(), r.times) for p, r in repeats.items() if r is not None)
    some = ", ".join(f"{name!r} {times}" for name, times in named[:4])
    rest = " and others" if len(named) > 4 else ""
    return Finding(
        "folder-weights",
        named[0][0],
        f"the folder names look like kohya's repeats: {some}{rest}; the number of its folder, "
        f"divided by {least}, becomes a row's weight in the loss",
        "rename the folders if these numbers aren't repeats",
        "warning",
    )
