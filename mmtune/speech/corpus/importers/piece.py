"""What an importer yields: pieces of recordings with their words, and what it left out."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field

from mmtune.config import Section
from mmtune.data.importing import LeftOut
from mmtune.data.rows import Split
from mmtune.speech.sound.read import Channel

__all__ = [
    "Found",
    "ImportOptions",
    "LeftOut",
    "Piece",
    "filled",
    "language_of",
    "split_of",
]

SPLITS: dict[str, Split] = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("validation", "valid", "val", "dev", "eval"), "validation"),
    **dict.fromkeys(("test", "testing"), "test"),
}


class ImportOptions(Section):
    """Settings of `mmtune import` that speech has."""

    language: str | None = None  # Whisper's code, of rows that name none
    channel: Annotated[int, Field(ge=0)] | Literal["mix"] | None = (
        None  # of files with several, where a row names none
    )
    align: bool = False  # cut long recordings by the words that `base` hears
    base: str | None = None  # as for `load_base`


@dataclass(frozen=True)
class Piece:
    """One utterance to be written.

    Attributes:
        file: the recording; or its bytes, where they lie in a table.
        recording: what it is called in the source; pieces of one recording share it.
        text: what is said; empty only if `nonspeech`.
        where: the place in the source that says so, for messages.
        start: seconds within the file.
        end: seconds; None: its end.
        channel: as in `SpeechRow`.
        id: as the source calls it; "" makes one of the recording and the start.
        row: other fields of a `SpeechRow`: speaker, language, split, prompt, terms, duration_s …
        group: facts for the row's `group`.
    """

    file: Path | bytes
    recording: str
    text: str
    where: str
    start: float = 0.0
    end: float | None = None
    channel: Channel | None = None
    nonspeech: bool = False
    id: str = ""
    row: Mapping[str, Any] = field(default_factory=dict)
    group: Mapping[str, str] = field(default_factory=dict)


Found = Iterator[Piece | LeftOut]


def split_of(name: str) -> Split | None:
    """The split that a file's or a folder's name means: train-00000-of-00002, dev …"""
    word = re.split(r"[^a-z]", name.casefold(), maxsplit=1)[0]
    return SPLITS.get(word)


def language_of(code: Any) -> str | None:
    """Whisper's code of a locale: "sv-SE" is "sv". None for what is no code."""
    word = re.split(r"[-_]", str(code or "").strip())[0].casefold()
    return word if word.isalpha() and 2 <= len(word) <= 3 else None


def filled(**values: Any) -> dict[str, Any]:
    """The values that are there."""
    return {key: value for key, value in values.items() if value not in (None, "", ())}
