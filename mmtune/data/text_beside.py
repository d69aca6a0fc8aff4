"""Read the text beside a media file: the transcript or caption in the .txt of its name."""

from __future__ import annotations

import os
from pathlib import Path

from mmtune.data.rows import Finding
from mmtune.system.inside import leads_out
from mmtune.system.pointers import pointer_in

MAX_TEXT = 64_000  # bytes in one .txt


def text_beside(path: Path, suffix: str = ".txt") -> Path:
    """Return the place of the text of a media file's name: of the whole name, if there is one.

    Beside call.wav and call.flac, `mmtune transcribe` writes call.wav.txt and call.flac.txt.

    Args:
        path: the media file.
        suffix: ends the name of the text file; it may be written in capitals, as on Windows.
    """
    written = (suffix, suffix.upper(), f".{suffix[1:].title()}")
    whole = [path.with_name(f"{path.name}{each}") for each in written]
    places = [path.with_suffix(each) for each in written]
    return next((place for place in [*whole, *places] if os.path.lexists(place)), places[0])


def read_words(beside: Path, folder: Path, row: str) -> str | bytes | Finding | None:
    """Read the text of a media file's name.

    Args:
        beside: its place, from `text_beside`; the file needn't exist.
        folder: the dataset's folder; a link that leads out of it isn't followed.
        row: id of the row, for the finding.

    Returns:
        Its text; its bytes if they aren't UTF-8; None if there is no such file; a finding if it is
        a link that leads out of the folder, or a pointer of Git LFS.
    """
    try:
        if beside.is_symlink() and leads_out(folder, beside):
            return outside(beside, row)
        if not beside.is_file():
            return None
        with beside.open("rb") as file:
            data = file.read(MAX_TEXT + 1)
    except OSError:
        return None
    if (pointer := pointer_in(data)) is not None:
        found = f"{beside} {pointer.found}"
        return Finding("lfs-pointer", row, found, pointer.cure, file=str(beside))
    if len(data) > MAX_TEXT:
        return data + b"\xff"  # too long for a transcript: invalid bytes make `check` refuse it
    try:
        return " ".join(data.decode("utf-8-sig").split())
    except UnicodeDecodeError:
        return data


def without_words(path: Path, row: str) -> Finding:
    """The note for a media file whose words can't be read, which has a finding of its own."""
    found = f"{path} isn't used, because its text file can't be read"
    cure = "correct the text file"
    return Finding("unused-media", row, found, cure, "note", file=str(path))


def outside(path: Path, row: str) -> Finding:
    """The finding for a file of words that is a link out of the dataset's folder."""
    return Finding(
        "outside",
        row,
        f"{path} is a link that leads out of the folder, or to no file",
        "copy the file into the folder, in place of the link",
        file=str(path),
    )
