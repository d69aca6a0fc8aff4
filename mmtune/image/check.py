"""Checks of images and captions."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from PIL import Image

from mmtune.data.manifest import scan_files, words_beside
from mmtune.data.rows import Finding, Inspection, Row
from mmtune.hashing import hash_file
from mmtune.image.pixels import CONVERT, ImageFault, decoded, probe
from mmtune.image.rows import ImageRow

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".gif", ".bmp", ".tif", ".tiff", ".avif")
# Not readable here; found in folders all the same, so that nobody's pictures vanish in silence.
FOREIGN_SUFFIXES = (".heic", ".heif", ".svg", ".psd", ".eps", ".jxl", ".dng", ".cr2", ".nef")

# A number at the end counts pictures of one thing: "_01", " (2)", "-003"; "route-66" keeps its.
_COUNTER = re.compile(r"(?:[_ ]+\d+|\s*\(\d+\)|-0\d+|[_ -]copy)$", re.IGNORECASE)
# What cameras and programs call files says nothing of what is shown.
_NO_NAME = re.compile(
    r"(?:img|dsc[nf]?|pxl|p|image|photo|picture|pic|screen ?shot|scan|untitled|download|file)?"
    r"[\d\W_]*|[0-9a-f]{8}[0-9a-f-]*",
    re.IGNORECASE,
)


def scan(folder: Path) -> Iterator[dict[str, Any]]:
    """Rows of a folder: each image with the caption in its same-named .txt, or in its name."""
    for name, relative in scan_files(folder, IMAGE_SUFFIXES + FOREIGN_SUFFIXES):
        words = words_beside(folder / relative)
        caption = caption_from_name(relative.stem) if words is None else words
        row: dict[str, Any] = {"id": name, "image": relative.as_posix()}
        yield {**row, "caption": caption} if caption else row


def caption_from_name(stem: str) -> str:
    """The caption that a file's name holds: "red-apple_01" gives "red apple".

    Empty for names that say nothing: "IMG_2041", "00017", "3f9ac04e77d1".
    """
    if _NO_NAME.fullmatch(stem):
        return ""
    while (shorter := _COUNTER.sub("", stem)) != stem:
        stem = shorter
    return " ".join(re.split(r"[-_\s]+", stem)).strip()


def inspect(row: Row) -> Inspection:
    """Open and fully decode one image; never raises for a bad one. Facts: width, height."""
    if not isinstance(row, ImageRow):
        raise TypeError(f"an image row is needed, not {type(row).__name__}")
    if row.path.suffix.lower() in FOREIGN_SUFFIXES and row.path.is_file():
        found = f"{row.path} is in a format that isn't read here"
        return Inspection("", [Finding("undecodable", row.id, found, CONVERT)])
    try:
        width, height = probe(row.path)
        with decoded(row.path, reduced=True) as image:
            findings = list(_judge(row, image))
        content = hash_file(row.path)
    except ImageFault as fault:
        return Inspection("", [Finding(fault.kind, row.id, fault.found, fault.cure)])
    return Inspection(content, findings, {"width": float(width), "height": float(height)})


def check_rows(rows: Sequence[Row]) -> list[Finding]:
    """Findings that need all rows: one caption for most of the images."""
    words, count = Counter(row.reference for row in rows).most_common(1)[0] if rows else ("", 0)
    if len(rows) < 10 or count * 2 <= len(rows):
        return []
    return [
        Finding(
            "same-caption",
            "all rows",
            f"{count} of {len(rows)} images have the caption {words[:60]!r}",
            "say in each caption what its image shows: otherwise the adapter ignores the prompt",
            "warning",
        )
    ]


def _judge(row: ImageRow, image: Image.Image) -> Iterator[Finding]:
    if not row.caption.strip():
        yield Finding(
            "empty-text",
            row.id,
            f"{row.path} has no caption",
            f"write it into {row.path.with_suffix('.txt').name}, or into the file's name: "
            "red-apple_01.png",
        )
    extrema = image.getextrema()
    bands = extrema if isinstance(extrema[0], tuple) else (extrema,)
    if all(low == high for low, high in bands):
        yield Finding(
            "blank",
            row.id,
            f"{row.path} has one colour only",
            "remove it if that is not what you want to teach",
            "warning",
        )
    # Telephones keep further views of one photograph in it (MPO): no animation.
    if image.format != "MPO" and getattr(image, "is_animated", False):
        yield Finding(
            "animated",
            row.id,
            f"{row.path} is an animation, of which the first frame is used",
            "save the frame that you want",
            "warning",
        )
