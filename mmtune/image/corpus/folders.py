"""Lists the images of a folder without a manifest as rows."""

from __future__ import annotations

import shlex
import unicodedata
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mmtune.data.ledger import OWN, Guess, Used
from mmtune.data.manifest import scan_files
from mmtune.data.rows import Finding
from mmtune.data.split_folders import SPLIT_NAMES
from mmtune.data.text_beside import without_words
from mmtune.image.corpus.caption_files import CaptionFiles, first_filled
from mmtune.image.corpus.caption_metadata import metadata_of, table_finding
from mmtune.image.corpus.caption_sources import (
    Repeats,
    caption_from_name,
    file_beside,
    parse_repeats,
)
from mmtune.image.corpus.kohya_captions import kohya_captions
from mmtune.image.corpus.shared_names import shared_names
from mmtune.image.corpus.side_files import Pictures, sort_pictures, stored_finding
from mmtune.image.pictures.suffixes import (
    FOREIGN_SUFFIXES,
    VIDEO_SUFFIXES,
    convert_cure,
    readable_suffixes,
)

Told = Finding | Used | Guess


def scan(folder: Path) -> Iterator[dict[str, Any] | Told]:
    """List the images of a folder as rows.

    The first of these places that has a caption gives it: the metadata.jsonl or metadata.csv of a
    folder above the image; a JSON file of kohya's; the .txt, .caption or .json file with the
    image's name; the image's name; the name of a folder like "10_acme icon". The number of such a
    folder, divided by the smallest of them, is the row's weight.

    Yields:
        Rows as mappings; a finding for each part of the metadata that can't be read, and for each
        caption file or image that isn't used; the other files that are used, and what is guessed.
    """
    metadata, findings, read = metadata_of(folder)
    yield from findings
    yield from read
    names = CaptionFiles(folder)
    pictures = image_files(folder, names)
    yield from _other_files(folder, names, pictures, set(metadata))
    images = [path for _, path in pictures.rows]
    named = _by_spelling(metadata, images)
    by_kohya, told = kohya_captions(folder, names.files, images)
    yield from told
    repeats = {parent: _repeats(parent) for parent in {path.parent for path in images}}
    least = min((1 if each is None else each.times for each in repeats.values()), default=1)
    if any((1 if each is None else each.times) != least for each in repeats.values()):
        yield _weights_finding(repeats, least)
    words = _Words(folder, names)
    unnamed: list[tuple[str, Path, dict[str, Any]]] = []  # rows whose caption isn't stated
    for name, relative in pictures.rows:
        row: dict[str, Any] = {"id": name, "image": relative.as_posix()}
        group = repeats[relative.parent]
        if group is not None and group.times != least:
            row["weight"] = round(group.times / least, 4)
        if (known := metadata.pop(named.get(relative, ""), None)) is not None:
            yield from _guessed_split(relative, known, name)
            row |= {**_split(relative), **known, "image": relative.as_posix()}
        if relative in pictures.masks:
            row.setdefault("mask", pictures.masks[relative].as_posix())
        if row.get("caption"):
            words.leave(relative, f"the metadata has a caption for {relative}")
        elif texts := by_kohya.get(relative):
            words.leave(relative, f"a JSON file has a caption for {relative}")
            row |= _captions(texts)
        else:
            found = words.of(name, relative)
            if isinstance(found, Finding):
                yield found
                yield without_words(folder / relative, name)
                continue
            if found is None:
                unnamed.append((name, relative, row))
                continue
            row |= _captions(found)
        yield row
    yield from _rows_by_name(folder, unnamed, repeats)
    yield from words.told()
    yield from _unmet(metadata, {name for name, _ in pictures.rows})


class _Words:
    """The caption files beside images: which are read, and why the others aren't.

    Args:
        folder: the dataset's folder.
        names: its files.
    """

    def __init__(self, folder: Path, names: CaptionFiles) -> None:
        self._folder, self._names = folder, names
        self._used: set[Path] = set()
        self._spare: dict[Path, str] = {}

    def leave(self, image: Path, why: str) -> None:
        """Note that an image has its caption from elsewhere."""
        self._leave(self._names.of(self._folder / image), why)

    def of(self, row: str, image: Path) -> list[str] | Finding | None:
        """The captions of an image, none if its caption file is empty.

        Returns:
            The captions; a finding if they can't be read; None: there is no caption file.
        """
        places = self._names.of(self._folder / image)
        texts: list[str] = []
        used = None
        for place, found in first_filled(places, self._folder, row):
            if isinstance(found, Finding):
                return found
            if found:
                texts, used = found, place
        others = [p for p in places if p.suffix.lower() != ".json"]
        if used is None:
            used = next((place for place in others if place not in self._used), None)
        if used is None:
            return None
        self._used.add(used)
        rest = [place for place in others if place not in self._used]
        self._leave(rest, f"{used.name} is read for {image}")
        return texts

    def told(self) -> Iterator[Told]:
        """The files that are used, and findings for the others."""
        for path in sorted(self._used):
            yield Used(path)
        for path, reason in self._spare.items():
            if path not in self._used:
                cure = "remove the caption that is wrong"
                name = path.relative_to(self._folder).as_posix()
                yield Finding("unused-text", name, reason, cure, "warning", file=str(path))

    def _leave(self, places: list[Path], why: str) -> None:
        self._spare |= {place: why for place in places if place.suffix.lower() != ".json"}


def _unmet(metadata: dict[str, dict[str, Any]], taken: set[str]) -> Iterator[dict[str, Any] | Told]:
    """Rows for files that metadata names and that don't exist: opening them gives the finding."""
    for place, known in metadata.items():
        stem = Path(place).with_suffix("").as_posix()
        name = known["image"] if stem in taken else stem
        yield from _guessed_split(Path(place), known, name)
        yield {"id": name, **_split(Path(place)), **known}


def image_files(folder: Path, names: CaptionFiles | None = None) -> Pictures:
    """List the images of a folder that are to be trained on, their masks, and the others.

    Args:
        folder: the dataset's folder.
        names: its files, if they are known.
    """
    names = names or CaptionFiles(folder)
    return sort_pictures(folder, list(scan_files(folder, readable_suffixes())), names.files)


def _other_files(
    folder: Path, names: CaptionFiles, pictures: Pictures, listed: set[str]
) -> Iterator[Told]:
    """The findings for images that aren't trained on, and for what other tools stored.

    Those that the metadata lists become rows, whatever they are.
    """
    yield from (each for path, each in pictures.aside.items() if str(path) not in listed)
    for mask in pictures.guessed:
        yield Guess("mask", mask.name, "its name and its grey", first=mask.as_posix())
    for mask in dict.fromkeys(pictures.masks.values()):
        yield Used(folder / mask)
    for own in OWN if listed else ():  # what an import of frames writes beside its metadata
        yield Used(folder / own)
    readable = readable_suffixes()
    for path in names.files:
        suffix = path.suffix.lower()
        if str(path) in listed:
            continue
        if suffix in FOREIGN_SUFFIXES and suffix not in readable:
            yield Finding(
                "unused-image",
                path.as_posix(),
                f"mmtune doesn't read {suffix} files",
                convert_cure(suffix),
                "warning",
                file=str(folder / path),
            )
        elif suffix in VIDEO_SUFFIXES and suffix not in readable:
            place = shlex.quote(str(folder / path))
            yield Finding(
                "unused-image",
                path.as_posix(),
                "mmtune trains on pictures, not on videos",
                f"import its scenes as pictures: mmtune import {place} --frames --to FOLDER",
                "warning",
                file=str(folder / path),
            )
        elif (stored := stored_finding(folder, path)) is not None:
            yield stored
        elif (table := table_finding(folder, path)) is not None:
            yield table


def _by_spelling(metadata: dict[str, dict[str, Any]], images: list[Path]) -> dict[Path, str]:
    """The place in the metadata of each image; accented letters may be composed or decomposed."""
    plain = {unicodedata.normalize("NFC", place): place for place in metadata}
    found = {}
    for image in images:
        place = str(image)
        known = place if place in metadata else plain.get(unicodedata.normalize("NFC", place))
        if known is not None:
            found[image] = known
    return found


def _captions(texts: list[str]) -> dict[str, Any]:
    if not texts:
        return {}
    return {"caption": texts[0]} | ({"captions": texts} if len(texts) > 1 else {})


def _rows_by_name(
    folder: Path,
    rows: list[tuple[str, Path, dict[str, Any]]],
    repeats: dict[Path, Repeats | None],
) -> Iterator[dict[str, Any] | Told]:
    """Complete the rows of images whose caption is their name, or that of their folder."""
    nameless: set[Path] = set()
    for shared in shared_names(folder, [relative for _, relative, _ in rows]):
        nameless.update(shared.images)
        yield shared.finding(folder)
    for name, relative, row in rows:
        beside = file_beside(folder / relative)
        own = "" if relative in nameless else caption_from_name(relative.stem, beside)
        group = repeats[relative.parent]
        caption = own or (group.words if group else "")
        if caption:
            source = "the image's name" if own else f"the name of the folder {relative.parent}"
            yield Guess("caption", caption, source, first=name)
        yield {**row, "caption": caption} if caption else row


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
