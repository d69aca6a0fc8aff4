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
from mmtune.pages.sources import Sources
from mmtune.system.pictures import opened_picture

MAX_FILE_BYTES = 8 * 2**20  # a larger file is not embedded
LARGEST_SIDE = 1024  # pixels; larger images are reduced to this side
SMALL_SIDE = 320  # pixels; side of an image among examples
LOSSLESS = 256  # pixels; images up to this side are embedded as PNG, larger ones as JPEG
MAX_EXAMPLES = 40  # examples on a page
MAX_OPEN = 3  # examples of a kind that are visible at once
HYPOTHESES = ("base", "adapter", "control")
TEXT_COLUMNS = {*HYPOTHESES, "id", "reference", "prompt", "text", "caption"}
GONE = "the file can no longer be read here"
KIND, ROW, MADE = "kind", "row", "made"  # keys of an example that aren't shown as columns

POLICIES: tuple[Content, ...] = ("all", "generated", "none")  # each shows less than the one before

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
    kind: Literal["text", "picture", "sound", "gone"]  # gone: a file that isn't here
    words: list[tuple[str, Difference]] = field(default_factory=list)
    data: str = ""


@dataclass(frozen=True)
class Examples:
    """The examples of one kind, in the order of the comparison."""

    kind: str
    rows: list[list[Cell]]
    texts: bool  # whether any text is compared with a reference
    more: list[list[Cell]] = field(default_factory=list)  # rows beyond `MAX_OPEN`


Find = Callable[[str], Path | None]
"""A function that gives the file of a name without links; None if a page may not show it."""

Play = Callable[[str, Mapping[str, Any], Find], tuple[str, bytes]]
"""A function that gives a row's item in a format that browsers play, with its media type.

Its arguments are the modality's name, the row's values, and a function that finds its files."""


def stricter(first: Content, second: Content) -> Content:
    """The policy that shows less."""
    return max(first, second, key=POLICIES.index)


def show(
    examples: Sequence[Mapping[str, Any]],
    modality: str,
    sources: Sources,
    content: Content,
    play: Play | None = None,
) -> list[Examples]:
    """Select the examples that the policy allows, by kind; at most `MAX_EXAMPLES` in all.

    Args:
        examples: the examples of a comparison.
        modality: the modality's name.
        sources: the folders whose files the page may show.
        content: the policy.
        play: reads the items of rows; None: recordings are left out.
    """
    found = []
    for kind, some in groupby(
        examples[:MAX_EXAMPLES], key=lambda example: str(example.get(KIND, ""))
    ):
        rows = [cells for e in some if (cells := list(_cells(e, modality, sources, content, play)))]
        if rows:
            texts = any(c.name in HYPOTHESES and c.words for cells in rows for c in cells)
            found.append(Examples(kind, rows[:MAX_OPEN], texts, rows[MAX_OPEN:]))
    return found


def _cells(
    example: Mapping[str, Any],
    modality: str,
    sources: Sources,
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
                yield _recording(value, modality, sources, play)
        elif value is not None:
            yield _cell(name, value, example, sources)


def _recording(row: Mapping[str, Any], modality: str, sources: Sources, play: Play) -> Cell:
    """Embed only the row's part of its recording, because a row may be part of a long call."""
    try:
        media, data = play(modality, row, sources.find)
    except (MmtuneError, OSError, ValueError):
        return Cell("recording", "gone", [(GONE, "same")])
    if len(data) > MAX_FILE_BYTES:
        return Cell("recording", "text", [("too large to include in this page", "same")])
    kind: Literal["picture", "sound"] = "picture" if media.startswith("image/") else "sound"
    return Cell("recording", kind, data=_uri(media, data))


def _cell(name: str, value: Any, example: Mapping[str, Any], sources: Sources) -> Cell:
    if _names_file(value):
        # Texts of models and transcripts can't be trusted, so they name files of the run alone.
        find = sources.in_run if name in TEXT_COLUMNS else sources.find
        file = find(value)
        if file is not None and (data := embed(file, SMALL_SIDE)):
            return Cell(name, "picture" if data.startswith("data:image/") else "sound", data=data)
        if file is not None:
            return Cell(name, "text", [(Path(value).name, "same")])
        if name not in TEXT_COLUMNS and (isinstance(value, Path) or Path(value).is_absolute()):
            return Cell(name, "gone", [(GONE, "same")])
    if isinstance(value, float):
        value = f"{value:.3f}"
    elif isinstance(value, list | tuple):
        value = ", ".join(map(str, value))
    reference = example.get("reference")
    if name in HYPOTHESES and isinstance(reference, str):
        return Cell(name, "text", differences(str(value), reference))
    return Cell(name, "text", [(str(value), "same")])


def _names_file(value: Any) -> bool:
    """Whether an example's value may name a file: a path, or a path's text read from JSON."""
    if isinstance(value, Path):
        return True
    return isinstance(value, str) and mimetypes.guess_type(value)[0] is not None


def embed(file: Path, side: int = LARGEST_SIDE, *, lossless: bool = False) -> str:
    """Encode a file as a data URI; empty if it is missing, too large, or no image or sound.

    The content decides what a file is. Images are encoded again, because their metadata may hold
    places, names and prompts.

    Args:
        file: the file, from `Sources`.
        side: largest length of an image's longer side, in pixels.
        lossless: encode an image without loss, whatever its size.
    """
    try:
        if not file.is_file():
            return ""
        with file.open("rb") as opened:
            kind = _sound_type(opened.read(12))
        if not kind:
            return picture(file, side, lossless=lossless)
        return "" if file.stat().st_size > MAX_FILE_BYTES else _uri(kind, file.read_bytes())
    except OSError:
        return ""


def _sound_type(head: bytes) -> str:
    """The media type of a sound that browsers play, by the file's first bytes; "" for others."""
    if head[:4] == b"RIFF" and head[8:12] == b"WAVE":
        return "audio/wav"
    if head[4:8] == b"ftyp":
        # Pictures in AVIF begin in the same way; their brand tells them apart.
        return "" if head[8:12] in (b"avif", b"avis", b"mif1", b"msf1") else "audio/mp4"
    if head[:3] == b"ID3" or (head[:1] == b"\xff" and head[1:2] in (b"\xfb", b"\xf3", b"\xf2")):
        return "audio/mpeg"
    known = {b"fLaC": "audio/flac", b"OggS": "audio/ogg", b"\x1a\x45\xdf\xa3": "audio/webm"}
    return known.get(head[:4], "")


def picture(file: Path, side: int = LARGEST_SIDE, *, lossless: bool = False) -> str:
    """Encode an image's pixels as a data URI without metadata; empty if it can't be opened."""
    from PIL import Image, ImageOps

    try:
        with opened_picture(file) as opened:
            turned = ImageOps.exif_transpose(opened)  # the rotation is lost with the metadata
            clear = turned.convert("RGBA")
            image = Image.new("RGB", clear.size, "white")
            image.paste(clear, mask=clear.getchannel("A"))
    except Exception:  # each format's decoder raises its own kinds for a damaged file
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
