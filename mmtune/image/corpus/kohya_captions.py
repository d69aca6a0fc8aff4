"""Captions from the JSON of kohya's scripts: an object with a caption or tags for each image."""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Iterable, Mapping
from pathlib import Path, PurePosixPath
from typing import Any

from mmtune.data.ledger import Guess, Used
from mmtune.data.rows import Finding
from mmtune.image.corpus.caption_files import CAPTION_KEYS, TAG_KEY, captions_in, encoding_of
from mmtune.image.pictures.suffixes import FOREIGN_SUFFIXES, IMAGE_SUFFIXES
from mmtune.system.inside import leads_out
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
    known = list(images)
    beside = {path.with_suffix("") for path in known} | set(known)
    captions: dict[Path, list[str]] = {}
    told: list[Finding | Used | Guess] = []
    for path in files:
        if path.suffix.lower() != ".json" or path.with_suffix("") in beside:
            continue
        values = _read(folder, path)
        if isinstance(values, Finding):
            told.append(values)
        elif values:
            told.append(Used(folder / path))
            _match(folder, path, values, known, captions, told)
    return captions, told


def _read(folder: Path, path: Path) -> dict[str, Mapping[str, Any]] | Finding | None:
    place = folder / path
    try:
        if place.is_symlink() and leads_out(folder, place):
            raise ValueError("it is a link that leads out of the folder")
        data = read_bytes(place)
        values = json.loads(data.decode(encoding_of(data)[0]))
    except Exception as error:  # too large, of another encoding, no JSON, nested too deeply
        if not path.name.casefold().startswith(NAMES):
            return None
        found = f"{place} can't be read: {reason_of(error)}"
        cure = "correct it, save it as UTF-8, or remove it: otherwise its captions are lost"
        return Finding("unreadable-metadata", path.as_posix(), found, cure, file=str(place))
    if not isinstance(values, dict) or not values:
        return None
    if not all(isinstance(each, dict) for each in values.values()):
        return None
    return values if any(OWN_KEYS & each.keys() for each in values.values()) else None


def _match(
    folder: Path,
    path: Path,
    values: Mapping[str, Mapping[str, Any]],
    images: list[Path],
    captions: dict[Path, list[str]],
    told: list[Finding | Used | Guess],
) -> None:
    whole: dict[str, list[Path]] = {}
    ends: dict[str, list[Path]] = {}
    for image in images:
        for form in (image, image.with_suffix("")):
            whole.setdefault(_plain(str(form)), []).append(image)
            ends.setdefault(_plain(form.name), []).append(image)
    lost, by_end = [], []
    for key, entry in values.items():
        place = PurePosixPath(key.replace("\\", "/"))
        found = whole.get(_plain((path.parent / place).as_posix())) or whole.get(_plain(key))
        if not found and len(named := ends.get(_plain(place.name), [])) == 1:
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
