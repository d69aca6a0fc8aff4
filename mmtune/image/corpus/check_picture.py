"""Checks of images and captions."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

from PIL import Image

from mmtune.data.rows import Finding, Inspection, Row
from mmtune.image.corpus.check_caption import check_captions
from mmtune.image.corpus.folders import FOREIGN_SUFFIXES
from mmtune.image.corpus.limits import read_limits
from mmtune.image.image_row import ImageRow
from mmtune.image.pictures.alike import look_of, near_copies
from mmtune.image.pictures.pixels import (
    CONVERT,
    ImageFault,
    decoded,
    open_mask,
    probe,
    upright_size,
)
from mmtune.system.hashing import hash_file, hash_json

UPSCALED = 1.5  # times that an image may be enlarged before that is told


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
            look = b"" if any(f.kind == "blank" for f in findings) else look_of(image)
        content = hash_file(row.path)
        if row.mask is not None:
            findings += _judge_mask(row)
            content = hash_json([content, hash_file(Path(row.mask))])
    except ImageFault as fault:
        return Inspection("", [Finding(fault.kind, row.id, fault.found, fault.cure)])
    return Inspection(content, findings, {"width": float(width), "height": float(height)}, look)


def check_rows(
    rows: Sequence[Row],
    seen: Sequence[Inspection] = (),
    base: str | None = None,
    resolution: int | None = None,
    trigger: str = "",
) -> list[Finding]:
    """Findings that need all rows or the base: copies, captions, sizes.

    Args:
        rows: all rows.
        seen: what `inspect` gave for each of them.
        base: whose text encoders and resolution they are compared with; None: not compared.
        resolution: side in pixels of the squares to train on; None: the base's.
        trigger: the phrase that training puts before the captions.

    Raises:
        BaseModelError: the base can't be read.
    """
    findings = near_copies(rows, [each.marks for each in seen]) if seen else []
    if base is not None:
        limits = read_limits(base)
        findings += check_captions(rows, limits.room, trigger)
        resolution = resolution or limits.resolution
    else:
        findings += check_captions(rows)
    if resolution:
        for row, each in zip(rows, seen, strict=False):
            findings += _size(row, each, resolution)
    words, count = Counter(row.reference for row in rows).most_common(1)[0] if rows else ("", 0)
    if len(rows) >= 10 and count * 2 > len(rows):
        findings.append(
            Finding(
                "same-caption",
                "all rows",
                f"{count} of {len(rows)} images have the caption {words[:60]!r}",
                "say in each caption what its image shows: otherwise the adapter ignores the "
                "prompt",
                "warning",
            )
        )
    return findings


def _size(row: Row, seen: Inspection, resolution: int) -> Iterator[Finding]:
    short = min(seen.facts.get(side, 0.0) for side in ("width", "height"))
    if short and resolution > UPSCALED * short:
        width, height = (int(seen.facts[side]) for side in ("width", "height"))
        yield Finding(
            "upscaled",
            row.id,
            f"{row.path} has {width}x{height} pixels and is scaled up {resolution / short:.1f} "
            f"times for training at {resolution}",
            "use a larger original, or a smaller task.resolution: the blur would be learned",
            "warning",
        )


def _judge_mask(row: ImageRow) -> Iterator[Finding]:
    mask, size = open_mask(Path(str(row.mask))), upright_size(row.path)
    if mask.size != size:
        yield Finding(
            "mask-size",
            row.id,
            f"{row.mask} has {mask.width}x{mask.height} pixels and its image {size[0]}x{size[1]}",
            "save the mask in its image's size",
        )
        return
    side, (wide, high) = min(size), size
    left, top = (wide - side) // 2, (high - side) // 2
    if mask.getbbox() is None:
        yield Finding(
            "mask-black",
            row.id,
            f"{row.mask} is black everywhere: nothing of its image would be trained on",
            "paint white what counts, or remove the mask",
        )
    elif mask.crop((left, top, left + side, top + side)).getbbox() is None:
        yield Finding(
            "mask-cut",
            row.id,
            f"the white of {row.mask} lies outside of the square that is cut from the image",
            "cut the image yourself, or train in its shape: --buckets true",
            "warning",
        )


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
