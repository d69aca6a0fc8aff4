"""Examples on a page: recordings, texts and images, as far as the run's policy allows.

The items of a dataset belong to other people. The setting `report.content` decides how much of them
a page may show: all, only what models generated, or none.
"""

from __future__ import annotations

import base64
import difflib
import io
import mimetypes
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path
from typing import Any, Literal

from mmtune.config import Content
from mmtune.errors import MmtuneError

MAX_FILE_BYTES = 8 * 2**20  # a larger file is not embedded
LARGEST_SIDE = 1024  # pixels; larger images are reduced to this side
SMALL_SIDE = 320  # pixels; side of an image among examples
LOSSLESS = 256  # pixels; images up to this side are embedded as PNG, larger ones as JPEG
MAX_EXAMPLES = 40  # examples on a page
MAX_OPEN = 6  # examples of a kind that are visible at once
HYPOTHESES = ("base", "adapter", "control")
TEXT_COLUMNS = {*HYPOTHESES, "id", "reference", "prompt", "text", "caption"}
KIND, ROW, MADE = "kind", "row", "made"  # keys of an example that aren't shown as columns

Difference = Literal["same", "wrong", "missing"]


@dataclass(frozen=True)
class Cell:
    """One value of an example.

    Attributes:
        name: name of the column.
        kind: how the value is shown.
        words: runs of words, each with its difference from the reference.
        data: data URI of a sound or image.
    """

    name: str
    kind: Literal["text", "picture", "sound"]
    words: list[tuple[str, Difference]] = field(default_factory=list)
    data: str = ""


@dataclass(frozen=True)
class Examples:
    """The examples of one kind, in the order of the comparison."""

    kind: str
    rows: list[list[Cell]]
    texts: bool  # whether any text is compared with a reference
    more: list[list[Cell]] = field(default_factory=list)  # rows beyond `MAX_OPEN`


Play = Callable[[str, Mapping[str, Any]], tuple[str, bytes]]
"""A function that gives a row's item in a format that browsers play, with its media type.

Its arguments are the modality's name and the row's values."""


def show(
    examples: Sequence[Mapping[str, Any]],
    modality: str,
    folder: Path | None,
    content: Content,
    play: Play | None = None,
) -> list[Examples]:
    """Select the examples that the policy allows, by kind; at most `MAX_EXAMPLES` in all.

    Args:
        examples: the examples of a comparison.
        modality: the modality's name.
        folder: the run folder, in which files are looked for.
        content: the policy.
        play: reads the items of rows; None: recordings are left out.
    """
    found = []
    for kind, some in groupby(
        examples[:MAX_EXAMPLES], key=lambda example: str(example.get(KIND, ""))
    ):
        rows = [cells for e in some if (cells := list(_cells(e, modality, folder, content, play)))]
        if rows:
            texts = any(c.name in HYPOTHESES and c.words for cells in rows for c in cells)
            found.append(Examples(kind, rows[:MAX_OPEN], texts, rows[MAX_OPEN:]))
    return found


def _cells(
    example: Mapping[str, Any],
    modality: str,
    folder: Path | None,
    content: Content,
    play: Play | None,
) -> Iterator[Cell]:
    if content == "none":
        return
    for name, value in example.items():
        if name in (KIND, MADE) or (content == "generated" and name not in example.get(MADE, ())):
            continue
        if name == ROW:
            if play is not None:
                yield _recording(value, modality, play)
        elif value is not None:
            yield _cell(name, value, example, folder)


def _recording(row: Mapping[str, Any], modality: str, play: Play) -> Cell:
    """Embed only the row's part of its recording, because a row may be part of a long call."""
    try:
        media, data = play(modality, row)
    except (MmtuneError, OSError, ValueError):
        return Cell("recording", "text", [("the file can no longer be read", "same")])
    if len(data) > MAX_FILE_BYTES:
        return Cell("recording", "text", [("too large to include in this page", "same")])
    kind: Literal["picture", "sound"] = "picture" if media.startswith("image/") else "sound"
    return Cell("recording", kind, data=_uri(media, data))


def _cell(name: str, value: Any, example: Mapping[str, Any], folder: Path | None) -> Cell:
    file = _file(name, value, folder)
    if file is not None:
        data = embed(file, SMALL_SIDE)
        if data:
            return Cell(name, "picture" if data.startswith("data:image/") else "sound", data=data)
        return Cell(name, "text", [(file.name, "same")])
    if isinstance(value, float):
        value = f"{value:.3f}"
    elif isinstance(value, list | tuple):
        value = ", ".join(map(str, value))
    reference = example.get("reference")
    if name in HYPOTHESES and isinstance(reference, str):
        return Cell(name, "text", differences(str(value), reference))
    return Cell(name, "text", [(str(value), "same")])


def _file(name: str, value: Any, folder: Path | None) -> Path | None:
    """Find the file that an example's value names: a path, or a path's text read from JSON.

    Texts of models and transcripts can't be trusted, so they may name only files in the run folder.
    """
    if isinstance(value, Path):
        return value
    if not isinstance(value, str) or not mimetypes.guess_type(value)[0]:
        return None
    try:
        if folder is not None and (found := inside(folder, value)) is not None:
            return found
        path = Path(value)
        return path if name not in TEXT_COLUMNS and path.is_file() else None
    except (OSError, ValueError):  # too long for a path, or with a zero byte
        return None


def inside(run: Path, text: str | Path) -> Path | None:
    """Find the file in a run folder that a comparison names, even if the run was moved."""
    path = Path(text)
    places = [path]
    if run.name in path.parts:
        places.append(run.joinpath(*path.parts[path.parts.index(run.name) + 1 :]))
    for each in places:
        if each.is_file() and each.resolve().is_relative_to(run.resolve()):
            return each
    return None


def embed(file: Path, side: int = LARGEST_SIDE, *, lossless: bool = False) -> str:
    """Encode a file as a data URI; empty if it is missing, too large, or no image or sound.

    Images are encoded again, because their metadata may hold places, names and prompts.

    Args:
        file: the file.
        side: largest length of an image's longer side, in pixels.
        lossless: encode an image without loss, whatever its size.
    """
    kind = mimetypes.guess_type(file.name)[0] or ""
    # An SVG may hold scripts. They don't run in an <img>, but the image may be opened by itself.
    if not kind.startswith(("image/", "audio/")) or kind == "image/svg+xml":
        return ""
    if not file.is_file():
        return ""
    if kind.startswith("image/"):
        return picture(file, side, lossless=lossless)
    return "" if file.stat().st_size > MAX_FILE_BYTES else _uri(kind, file.read_bytes())


def picture(file: Path, side: int = LARGEST_SIDE, *, lossless: bool = False) -> str:
    """Encode an image's pixels as a data URI without metadata; empty if it can't be opened."""
    from PIL import Image, ImageOps

    try:
        with Image.open(file) as opened:
            turned = ImageOps.exif_transpose(opened)  # the rotation is lost with the metadata
            clear = turned.convert("RGBA")
            image = Image.new("RGB", clear.size, "white")
            image.paste(clear, mask=clear.getchannel("A"))
    except (OSError, ValueError, Image.DecompressionBombError):
        return ""
    image.thumbnail((side, side))
    buffer = io.BytesIO()
    if lossless or max(image.size) <= LOSSLESS:
        image.save(buffer, "PNG")
        return _uri("image/png", buffer.getvalue())
    image.save(buffer, "JPEG", quality=88)
    return _uri("image/jpeg", buffer.getvalue())


def _uri(kind: str, data: bytes) -> str:
    return f"data:{kind};base64,{base64.b64encode(data).decode()}"


def differences(text: str, reference: str) -> list[tuple[str, Difference]]:
    """Divide `text` into runs of words that are the same as in `reference`, wrong, or missing.

    Case and punctuation don't count, as in the metrics. If wrong words replace others, only the
    wrong words are given.
    """

    def plain(words: Sequence[str]) -> list[str]:
        return ["".join(c for c in w.lower() if c.isalnum()) for w in words]

    words, wanted = text.split(), reference.split()
    matcher = difflib.SequenceMatcher(None, plain(words), plain(wanted), autojunk=False)
    found: list[tuple[str, Difference]] = []
    for tag, a, b, c, d in matcher.get_opcodes():
        if b > a:
            found.append((" ".join(words[a:b]), "same" if tag == "equal" else "wrong"))
        else:
            found.append((" ".join(wanted[c:d]), "missing"))
    return found


def departures(text: str, reference: str) -> list[tuple[str, bool]]:
    """Divide `text` into runs of words, and mark those that differ from `reference`."""
    return [(run, how == "wrong") for run, how in differences(text, reference) if how != "missing"]
