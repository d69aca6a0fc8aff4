"""What a page shows of the items themselves, and what a policy leaves out.

Recordings, transcripts, captions and training images are other people's. `report.content` says how
much of them a page may hold: all; what models made alone; or none.
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

LARGEST_FILE = 8 * 2**20  # bytes of one embedded file; a larger one is left out
LARGEST_SIDE = 1024  # pixels; larger pictures are reduced
SMALL_SIDE = 320  # of a picture among examples
LOSSLESS = 256  # pixels a side up to which a picture is small enough as PNG
MOST_EXAMPLES = 40
MOST_OPEN = 6  # examples of a kind that are seen at once
HYPOTHESES = ("base", "adapter", "control")
SPOKEN = {*HYPOTHESES, "id", "reference", "prompt", "text", "caption"}  # columns of words
KIND, ROW, MADE = "kind", "row", "made"  # keys of an example that are no columns of their own

Difference = Literal["same", "wrong", "missing"]


@dataclass(frozen=True)
class Cell:
    """One value of an example.

    Attributes:
        words: runs of words, each with how it differs from the reference; where there is one.
        data: the data URI of a sound or image.
    """

    name: str
    kind: Literal["text", "picture", "sound"]
    words: list[tuple[str, Difference]] = field(default_factory=list)
    data: str = ""


@dataclass(frozen=True)
class Examples:
    """Those of one kind, in the order of the comparison."""

    kind: str
    rows: list[list[Cell]]
    texts: bool  # whether any is compared with a reference
    more: list[list[Cell]] = field(default_factory=list)  # beyond `MOST_OPEN`


Play = Callable[[str, Mapping[str, Any]], tuple[str, bytes]]
"""A row's item as a browser can play it, from the modality's name and the row's values."""


def show(
    examples: Sequence[Mapping[str, Any]],
    modality: str,
    folder: Path | None,
    content: Content,
    play: Play | None = None,
) -> list[Examples]:
    """The examples that a policy lets through, by kind; at most `MOST_EXAMPLES` in all.

    Args:
        play: reads the items of rows; None: rows' own items are left out.
    """
    found = []
    for kind, some in groupby(
        examples[:MOST_EXAMPLES], key=lambda example: str(example.get(KIND, ""))
    ):
        rows = [cells for e in some if (cells := list(_cells(e, modality, folder, content, play)))]
        if rows:
            texts = any(c.name in HYPOTHESES and c.words for cells in rows for c in cells)
            found.append(Examples(kind, rows[:MOST_OPEN], texts, rows[MOST_OPEN:]))
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
                yield _played(value, modality, play)
        elif value is not None:
            yield _cell(name, value, example, folder)


def _played(row: Mapping[str, Any], modality: str, play: Play) -> Cell:
    """The row's own part of its recording: a row may be a few words of a long call."""
    try:
        media, data = play(modality, row)
    except (MmtuneError, OSError, ValueError):
        return Cell("recording", "text", [("it can't be read here any more", "same")])
    if len(data) > LARGEST_FILE:
        return Cell("recording", "text", [("too long to be held here", "same")])
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
    """The file that an example names, if it does: a path, or (read back from JSON) its text.

    What a model or a transcript says is data of others: it names a file only inside the run.
    """
    if isinstance(value, Path):
        return value
    if not isinstance(value, str) or not mimetypes.guess_type(value)[0]:
        return None
    try:
        if folder is not None and (found := inside(folder, value)) is not None:
            return found
        path = Path(value)
        return path if name not in SPOKEN and path.is_file() else None
    except (OSError, ValueError):  # too long for a name, or with a zero byte: no path after all
        return None


def inside(run: Path, text: str | Path) -> Path | None:
    """The file of a run's folder that a comparison names; the run may have been moved since."""
    path = Path(text)
    places = [path]
    if run.name in path.parts:
        places.append(run.joinpath(*path.parts[path.parts.index(run.name) + 1 :]))
    for each in places:
        if each.is_file() and each.resolve().is_relative_to(run.resolve()):
            return each
    return None


def embed(file: Path, side: int = LARGEST_SIDE, *, lossless: bool = False) -> str:
    """A file as a data URI; empty where it is missing, too large, or no image or sound.

    Pictures are written anew, for their metadata may hold places, names and prompts.

    Args:
        side: most pixels of a picture's longer side.
        lossless: of a picture, also where it is large.
    """
    kind = mimetypes.guess_type(file.name)[0] or ""
    # SVG may carry scripts: as an <img> they don't run, but the file may be opened by itself.
    if not kind.startswith(("image/", "audio/")) or kind == "image/svg+xml":
        return ""
    if not file.is_file():
        return ""
    if kind.startswith("image/"):
        return picture(file, side, lossless=lossless)
    return "" if file.stat().st_size > LARGEST_FILE else _uri(kind, file.read_bytes())


def picture(file: Path, side: int = LARGEST_SIDE, *, lossless: bool = False) -> str:
    """A picture's pixels as a data URI, without its metadata; empty where it can't be opened."""
    from PIL import Image, ImageOps

    try:
        with Image.open(file) as opened:
            turned = ImageOps.exif_transpose(opened)  # the metadata that says so is left behind
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
    """Runs of words of `text`: the same as in `reference`, wrong, or missing from `text`.

    Case and punctuation don't count, as in the metrics. Of words that others stand in for only the
    others are given.
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
    """Runs of the words of `text`, each with whether it departs from `reference`."""
    return [(run, how == "wrong") for run, how in differences(text, reference) if how != "missing"]
