"""Lists the images of a folder without a manifest as rows."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mmtune.data.ledger import Guess, Used
from mmtune.data.manifest import scan_files
from mmtune.data.rows import Finding
from mmtune.data.split_folders import SPLIT_NAMES
from mmtune.data.text_beside import without_words
from mmtune.image.corpus.caption_metadata import metadata_of
from mmtune.image.corpus.caption_sources import (
    Repeats,
    caption_from_name,
    caption_places,
    choose_caption,
    parse_repeats,
)
from mmtune.image.pictures.suffixes import FOREIGN_SUFFIXES, IMAGE_SUFFIXES

MASK = ".mask"  # "apple.mask.png" belongs to "apple.jpg"


def scan(folder: Path) -> Iterator[dict[str, Any] | Finding | Used | Guess]:
    """List the images of a folder as rows.

    The first of these places that has a caption gives it: the metadata.jsonl or metadata.csv of a
    folder above the image; the .txt or .caption file with the image's name; the image's name; the
    name of a folder like "10_acme icon". The number of such a folder, divided by the smallest of
    them, is the row's weight.

    Yields:
        Rows as mappings; a finding for each part of the metadata that can't be read, and for each
        caption file that isn't used; the other files that are used, and what is guessed.
    """
    metadata, findings, read = metadata_of(folder)
    yield from findings
    yield from read
    words: set[Path] = set()  # caption files that are used
    spare: dict[Path, str] = {}  # caption files of images that have another caption
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
            yield from _guessed_split(relative, known, name)
            row |= {**_split(relative), **known}
        if relative in masks:
            row.setdefault("mask", masks[relative].as_posix())
        path = folder / relative
        places = caption_places(path)
        caption = choose_caption(row.get("caption"), path, folder, name, group, places)
        if isinstance(caption, Finding):
            yield caption
            yield without_words(folder / relative, name)
            continue
        beside = [place for place in places if place.is_file()]
        if row.get("caption"):
            spare |= dict.fromkeys(beside, f"the metadata has a caption for {relative}")
        elif beside:
            words.add(beside[0])
            spare |= dict.fromkeys(beside[1:], f"{beside[0].name} is read for {relative}")
        elif isinstance(caption, str) and caption:
            own = caption_from_name(relative.stem)
            source = "the image's name" if own else f"the name of the folder {relative.parent}"
            yield Guess("caption", caption, source, first=name)
        yield {**row, "caption": caption} if caption else row
    for path in sorted(words):
        yield Used(path)
    for path, reason in spare.items():
        if path not in words:
            cure = "remove the caption that is wrong"
            row_id = path.relative_to(folder).as_posix()
            yield Finding("unused-text", row_id, reason, cure, "warning", file=str(path))
    taken = {name for name, _ in files}
    # Files that metadata names and that don't exist: opening them gives the finding.
    for place, known in metadata.items():
        stem = Path(place).with_suffix("").as_posix()
        name = known["image"] if stem in taken else stem
        yield from _guessed_split(Path(place), known, name)
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


def _split(path: Path) -> dict[str, str]:
    # For a file that metadata names, one such folder is enough (`folder_splits` needs two).
    named = SPLIT_NAMES.get(path.parts[0].lower()) if len(path.parts) > 1 else None
    return {"split": named} if named else {}


def _guessed_split(path: Path, known: dict[str, Any], row: str) -> Iterator[Guess]:
    for split in () if "split" in known else _split(path).values():
        yield Guess("split", split, f"the name of the folder {path.parts[0]}", first=row)


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
