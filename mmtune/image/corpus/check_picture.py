"""Checks of image rows: files, masks, sizes, near-copies and captions."""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

from PIL import ImageColor

from mmtune.data.rows import Finding, Inspection, Row
from mmtune.image.corpus.check_caption import check_captions
from mmtune.image.corpus.limits import read_limits
from mmtune.image.image_row import ImageRow
from mmtune.image.pictures.alike import LOOK, look_of, near_copies
from mmtune.image.pictures.picture import Picture
from mmtune.image.pictures.pixels import (
    EXPORT_SRGB,
    ImageFault,
    decoded,
    open_mask,
    stored_size,
    upright_size,
)
from mmtune.image.pictures.suffixes import FOREIGN_SUFFIXES, convert_cure, readable_suffixes
from mmtune.system.hashing import hash_file, hash_json
from mmtune.system.stored import is_file

MAX_UPSCALING = 1.5  # factor of enlargement above which a finding is made
MAX_BLANK = 4  # levels of 255 by which all visible colours may differ from the background


def inspect(row: Row) -> Inspection:
    """Open and fully decode one image, and its mask.

    A file that can't be used gives a finding and never an error.

    Returns:
        The hash of the content, findings, the facts `width` and `height` in pixels, and as marks
        what `look_of` tells; empty for blank images.
    """
    if not isinstance(row, ImageRow):
        raise TypeError(f"an image row is needed, not {type(row).__name__}")
    suffix = row.path.suffix.lower()
    if suffix in FOREIGN_SUFFIXES and suffix not in readable_suffixes() and is_file(row.path):
        found = f"{row.path}: mmtune doesn't read {row.path.suffix} files"
        return Inspection("", [Finding("undecodable", row.id, found, convert_cure(suffix))])
    try:
        width, height = stored_size(row.path)
        with decoded(row.path, reduced=True) as picture:
            findings = list(_picture_findings(row, picture))
            look = look_of(picture)
            if not look:
                findings.append(_blank_finding(row, picture))
            reading = picture.reading
        hashes = {row.media: (content := hash_file(row.path))}
        if reading:  # what was cached of it has other pixels
            content = hash_json([content, reading])
        if row.mask is not None:
            findings += _mask_findings(row)
            hashes["mask"] = hash_file(Path(row.mask))
            content = hash_json([content, hashes["mask"]])
    except ImageFault as fault:
        return Inspection("", [Finding(fault.kind, row.id, fault.found, fault.cure)])
    facts = {"width": float(width), "height": float(height)}
    return Inspection(content, findings, facts, look, hashes)


def check_rows(
    rows: Sequence[Row],
    seen: Sequence[Inspection] = (),
    base: str | None = None,
    resolution: int | None = None,
    trigger: str = "",
    background: str = "#ffffff",
) -> list[Finding]:
    """Find near-copies, bad captions and small images; this needs all rows, or the base.

    Args:
        rows: all rows.
        seen: the result of `inspect` for each row; empty: copies and sizes aren't checked.
        base: base model; captions are compared with the limit of its text encoders, and sizes with
            its resolution. None: neither is compared, unless `resolution` is given.
        resolution: side in pixels of the squares to train on; None: the base's.
        trigger: the phrase that training puts before captions.
        background: colour behind transparent parts.

    Raises:
        BaseModelError: the base can't be read.
    """
    findings = near_copies(rows, [each.marks[:LOOK] for each in seen]) if seen else []
    for row, each in zip(rows, seen, strict=False):
        findings += _unseen_findings(row, each.marks[LOOK:], background)
    if base is not None:
        limits = read_limits(base)
        findings += check_captions(rows, limits.text, trigger)
        resolution = resolution or limits.resolution
    else:
        findings += check_captions(rows)
    if resolution:
        for row, each in zip(rows, seen, strict=False):
            findings += _upscaling_findings(row, each, resolution)
    words, count = Counter(row.reference for row in rows).most_common(1)[0] if rows else ("", 0)
    if len(rows) >= 10 and count * 2 > len(rows):
        findings.append(
            Finding(
                "same-caption",
                "all rows",
                f"{count} of {len(rows)} images have the caption {words[:60]!r}",
                "describe in each caption what its image shows: otherwise the adapter learns to "
                "ignore the prompt",
                "warning",
            )
        )
    return findings


def _upscaling_findings(row: Row, seen: Inspection, resolution: int) -> Iterator[Finding]:
    short = min(seen.facts.get(side, 0.0) for side in ("width", "height"))
    if short and resolution > MAX_UPSCALING * short:
        width, height = (int(seen.facts[side]) for side in ("width", "height"))
        yield Finding(
            "upscaled",
            row.id,
            f"{row.path} has {width}x{height} pixels; training at resolution {resolution} "
            f"enlarges it {resolution / short:.1f} times",
            "use a larger original or a smaller task.resolution: otherwise the adapter learns blur",
            "warning",
        )


def _mask_findings(row: ImageRow) -> Iterator[Finding]:
    mask, size = open_mask(Path(str(row.mask))), upright_size(row.path)
    if mask.size != size:
        yield Finding(
            "mask-size",
            row.id,
            f"{row.mask} has {mask.width}x{mask.height} pixels, but its image has "
            f"{size[0]}x{size[1]}",
            "save the mask in the size of its image",
        )
        return
    side, (wide, high) = min(size), size
    left, top = (wide - side) // 2, (high - side) // 2
    if mask.getbbox() is None:
        yield Finding(
            "mask-black",
            row.id,
            f"{row.mask} is black everywhere, so no part of its image would be trained on",
            "paint the parts to train on white, or remove the mask",
        )
    elif mask.crop((left, top, left + side, top + side)).getbbox() is None:
        yield Finding(
            "mask-cut",
            row.id,
            f"the white parts of {row.mask} lie outside the square that is cut from the image",
            "crop the image yourself, or train in its own shape: --buckets true",
            "warning",
        )


def _picture_findings(row: ImageRow, picture: Picture) -> Iterator[Finding]:
    if not row.caption.strip():
        yield Finding(
            "empty-text",
            row.id,
            f"{row.path} has no caption",
            f"write the caption into {row.path.with_suffix('.txt').name}, or name the file after "
            "what it shows, such as red-apple_01.png",
        )
    if fault := picture.colour_fault():
        yield Finding(
            "colours",
            row.id,
            f"{row.path}: {fault}; its colours may differ from those that you see elsewhere",
            EXPORT_SRGB,
            "warning",
        )
    image = picture.image
    # Phones store further views of one photograph in a file (MPO); that is no animation.
    if image.format != "MPO" and getattr(image, "is_animated", False):
        many = getattr(image, "n_frames", 2)
        pages = image.format in ("TIFF", "HEIF")
        yield Finding(
            "pages" if pages else "animated",
            row.id,
            f"{row.path} holds {many} images; only the first one is used"
            if pages
            else f"{row.path} is an animation; only its first frame is used",
            "save those that you want as PNG"
            if pages
            else "save the frame that you want as a PNG; of a GIF, take all scenes: mmtune import "
            f"{shlex.quote(str(row.path))} --frames --to FOLDER",
            "warning",
        )


def _blank_finding(row: ImageRow, picture: Picture) -> Finding:
    seen = picture.visible_range()
    found = "has one colour only" if seen else "is transparent everywhere"
    cure = "remove it, unless the adapter should learn this"
    return Finding("blank", row.id, f"{row.path} {found}", cure, "warning")


def _unseen_findings(row: Row, seen: bytes, background: str) -> Iterator[Finding]:
    """The finding for an image whose visible colours are all those of the background."""
    if not seen:
        return
    behind = ImageColor.getrgb(background)[:3] * 2
    if max(abs(a - b) for a, b in zip(seen, behind, strict=True)) > MAX_BLANK:
        return
    light = sum(behind) > 3 * 255
    yield Finding(
        "blank",
        row.id,
        f"{row.path} shows nothing on the background {background}: its visible parts have that "
        "colour, too",
        f"lay transparent parts on another colour: --background {'black' if light else 'white'}",
        "warning",
    )
