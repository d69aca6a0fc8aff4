"""Captions from the JSON of kohya's scripts: an object with a caption or tags for each image.

A list of such objects that name their files (`file_name`) is read, too.
"""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Iterable, Mapping
from pathlib import Path, PurePosixPath
from typing import Any

from mmtune.data.ledger import Guess, Used
from mmtune.data.rows import Finding
from mmtune.image.corpus.caption_files import CAPTION_KEYS, TAG_KEY, captions_in
from mmtune.image.corpus.caption_metadata import FILE_COLUMN
from mmtune.image.pictures.suffixes import FOREIGN_SUFFIXES, IMAGE_SUFFIXES
from mmtune.system.inside import leads_out
from mmtune.system.pointers import pointer_at, require_content
from mmtune.system.stored import read_bytes, reason_of

OWN_KEYS = {*CAPTION_KEYS, TAG_KEY, "train_resolution"}
# Names of files that hold captions; if they can't be read, the captions are lost.
NAMES = ("meta", "caption", "dataset.json", "tags.json")
SHOWN = 3  # names in a finding


def kohya_captions(
    folder: Path, files: Iterable[Path], images: Iterable[Path]
) -> tuple[dict[Path, list[str]], list[Finding | Used | Guess]]:
    """Read the captions of all JSON files of a folder that are laid out as kohya's.

    Args:
        folder: the dataset's folder.
        files: all of its files, relative to it.
        images: its images, relative to it. The JSON beside an image is not read here.

    Returns:
        The captions by the image's path; the files that were read, and findings.
    """
    index = _Index(images)
    captions: dict[Path, list[str]] = {}
    told: list[Finding | Used | Guess] = []
    for path in files:
        if path.suffix.lower() != ".json" or index.is_beside(path):
            continue
        values = _read(folder, path)
        if isinstance(values, Finding):
            told.append(values)
        elif values:
            told.append(Used(folder / path))
            _match(folder, path, values, index, captions, told)
    return captions, told


class _Index:
    """Images by their path and by the end of it, with and without their suffix."""

    def __init__(self, images: Iterable[Path]) -> None:
        self._whole: dict[str, list[Path]] = {}
        self._ends: dict[str, list[Path]] = {}
        self._stems: set[Path] = set()
        for image in images:
            self._stems |= {image, image.with_suffix("")}
            for form in (image, image.with_suffix("")):
                self._whole.setdefault(_plain(str(form)), []).append(image)
                self._ends.setdefault(_plain(form.name), []).append(image)

    def is_beside(self, path: Path) -> bool:
        """Whether a file has the name of an image, with another suffix or one more."""
        return path.with_suffix("") in self._stems

    def at(self, place: str) -> list[Path]:
        """The images at a place."""
        return self._whole.get(_plain(place), [])

    def named(self, name: str) -> list[Path]:
        """The images of a name, wherever they are."""
        return self._ends.get(_plain(name), [])


def _read(folder: Path, path: Path) -> dict[str, Mapping[str, Any]] | Finding | None:
    place = folder / path
    try:
        if place.is_symlink() and leads_out(folder, place):
            raise ValueError("it is a link that leads out of the folder")
        require_content(place)
        values = json.loads(read_bytes(place))  # in UTF-8, UTF-16 or UTF-32, which it detects
    except Exception as error:  # too large, of another encoding, no JSON, nested too deeply
        if not path.name.casefold().startswith(NAMES):
            return None
        found = f"{place} can't be read: {reason_of(error)}"
        cure = "correct it, save it as UTF-8, or remove it: otherwise its captions are lost"
        if (pointer := pointer_at(place)) is not None:
            found, cure = f"{place} {pointer.found}: its captions are lost", pointer.cure
        return Finding("unreadable-metadata", path.as_posix(), found, cure, file=str(place))
    if isinstance(values, list):  # as in metadata.jsonl, but one list
        values = {
            each[FILE_COLUMN]: each
            for each in values
            if isinstance(each, dict) and isinstance(each.get(FILE_COLUMN), str)
        }
    if not isinstance(values, dict) or not values:
        return None
    if not all(isinstance(each, dict) for each in values.values()):
        return None
    return values if any(OWN_KEYS & each.keys() for each in values.values()) else None


def _match(
    folder: Path,
    path: Path,
    values: Mapping[str, Mapping[str, Any]],
    index: _Index,
    captions: dict[Path, list[str]],
    told: list[Finding | Used | Guess],
) -> None:
    lost, by_end = [], []
    for key, entry in values.items():
        place = PurePosixPath(key.replace("\\", "/"))
        found = index.at((path.parent / place).as_posix()) or index.at(key)
        if not found and len(named := index.named(place.name)) == 1:
            found = named
            by_end.append(key)
        texts = captions_in(entry)
        if not found:
            lost.append(key)
        elif texts:
            for image in found:
                captions.setdefault(image, texts)
    if by_end:
        source = f"{path.as_posix()} names images by paths that aren't here"
        told.append(Guess("image", "the image of the same name", source, len(by_end), by_end[0]))
    if lost:
        shown = ", ".join(repr(key) for key in lost[:SHOWN])
        told.append(
            Finding(
                "missing",
                path.as_posix(),
                f"{len(lost)} of {len(values)} entries of {folder / path} name no image that is "
                f"here, or several: {shown}" + (" …" if len(lost) > SHOWN else ""),
                "name the images by their paths from this file, or remove these entries",
                "warning",
            )
        )


def _plain(name: str) -> str:
    text = unicodedata.normalize("NFC", name.replace("\\", "/"))
    suffix = PurePosixPath(text).suffix
    known = suffix.lower() in IMAGE_SUFFIXES + FOREIGN_SUFFIXES
    return text.removesuffix(suffix) + suffix.lower() if known else text
