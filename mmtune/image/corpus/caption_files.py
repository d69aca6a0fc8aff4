"""Caption files beside images: found by name in any spelling, read in any known encoding."""

from __future__ import annotations

import json
import os
import unicodedata
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePath
from typing import Any

from mmtune.data.ledger import is_litter
from mmtune.data.rows import Finding
from mmtune.data.text_beside import read_words
from mmtune.image.pictures.suffixes import FOREIGN_SUFFIXES, IMAGE_SUFFIXES
from mmtune.system.encodings import encoding_of
from mmtune.system.stored import read_bytes

CAPTION_SUFFIXES = (".txt", ".caption", ".json")  # kohya's scripts write the second
MAX_JSON = 1_000_000  # bytes of the JSON beside an image
CAPTION_KEYS = ("caption", "captions", "text")
TAG_KEY = "tags"


class CaptionFiles:
    """The names of a folder's files, by which an image's caption files are found.

    The suffixes are known in any case, and accented letters in the composed and the decomposed
    form: macOS writes the second.

    Args:
        folder: the dataset's folder.
    """

    def __init__(self, folder: Path) -> None:
        self.files: list[Path] = []  # all files, relative to the folder
        self._places: dict[tuple[str, str], list[Path]] = {}
        for parent, folders, names in os.walk(folder):
            folders[:] = sorted(n for n in folders if not is_litter(n))
            for name in sorted(n for n in names if not is_litter(n)):
                path = Path(parent, name)
                self.files.append(path.relative_to(folder))
                self._places.setdefault((parent, plain_name(name)), []).append(path)

    def of(self, image: Path) -> list[Path]:
        """The caption files of an image, best first: of its whole name, then without its suffix."""
        return [
            place
            for suffix in CAPTION_SUFFIXES
            for name in (image.name, image.stem)
            for place in self._spelled(image.parent, f"{name}{suffix}")
        ]

    def _spelled(self, folder: Path, name: str) -> list[Path]:
        places = self._places.get((str(folder), plain_name(name)), [])
        return sorted(places, key=lambda place: place.name != name)


def plain_name(name: str) -> str:
    """A file's name in one spelling: composed letters, and its suffixes in small letters."""
    whole = PurePath(unicodedata.normalize("NFC", name))
    stem, inner = whole.stem, PurePath(whole.stem).suffix
    if inner.lower() in IMAGE_SUFFIXES + FOREIGN_SUFFIXES:
        stem = stem.removesuffix(inner) + inner.lower()
    return stem + whole.suffix.lower()


def read_captions(place: Path, folder: Path, row: str) -> list[str] | Finding:
    """Read a caption file.

    Args:
        place: a .txt, .caption or .json file.
        folder: the dataset's folder; a link that leads out of it isn't followed.
        row: id of the image's row, for the finding.

    Returns:
        Its captions, none if it holds no text; or a finding if it can't be read.
    """
    if place.suffix.lower() == ".json":
        return _read_json(place, folder, row)
    words = read_words(place, folder, row)
    if isinstance(words, Finding):
        return words
    if isinstance(words, bytes) or (words and "\0" in words):
        words = _decoded(place)
        if words is None:
            return Finding(
                "encoding",
                row,
                f"{place} is not UTF-8 text, or is too long for a caption",
                f"save it as UTF-8: iconv -f cp1252 -t utf-8 {place.name}, if it is Windows text",
                file=str(place),
            )
    return [words] if words else []


def captions_in(values: Mapping[str, Any]) -> list[str]:
    """The captions of a JSON object, as kohya's scripts join them: caption, then tags.

    Args:
        values: with "caption", "captions" or "text", a text or a list of texts; and "tags", a text
            or a list of words.
    """
    listed = next((found for key in CAPTION_KEYS if (found := texts_of(values.get(key)))), [])
    tags = ", ".join(texts_of(values.get(TAG_KEY)))
    if tags:
        return [f"{caption}, {tags}" for caption in listed] or [tags]
    return listed


def texts_of(value: object) -> list[str]:
    """The texts of a value that is a text or a list of texts; without those that are empty."""
    values = value if isinstance(value, list) else [value]
    texts = [" ".join(each.split()) for each in values if isinstance(each, str)]
    return list(dict.fromkeys(text for text in texts if text))


def _decoded(place: Path) -> str | None:
    from mmtune.data.text_beside import MAX_TEXT

    try:
        data = read_bytes(place, most=MAX_TEXT)
        encoding, _ = encoding_of(data)
        text = " ".join(data.decode(encoding).split())
    except Exception:  # too long, or no text of this encoding
        return None
    return None if "\0" in text else text


def _read_json(place: Path, folder: Path, row: str) -> list[str] | Finding:
    linked = read_words(place, folder, row) if place.is_symlink() else None
    if isinstance(linked, Finding):
        return linked
    try:
        values = json.loads(read_bytes(place, most=MAX_JSON))  # it detects UTF-8, 16 and 32
    except Exception:  # not JSON: it may be anything, and the ledger names it
        return []
    return captions_in(values) if isinstance(values, dict) else []


def first_filled(
    places: list[Path], folder: Path, row: str
) -> Iterator[tuple[Path, list[str] | Finding]]:
    """Read an image's caption files up to the first that has text, or that can't be read."""
    for place in places:
        found = read_captions(place, folder, row)
        yield place, found
        if found:
            return
