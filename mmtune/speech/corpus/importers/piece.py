"""`Piece`, which importers yield, the import's settings, and small helpers of all importers."""

from __future__ import annotations

import codecs
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, field_validator

from mmtune.config import Section
from mmtune.data.importing import LeftOut
from mmtune.data.ledger import Guess, Used
from mmtune.data.rows import Split
from mmtune.data.split_folders import SPLIT_NAMES
from mmtune.errors import DataError
from mmtune.metrics.text.language_code import Language
from mmtune.speech.sound.info import MAX_CHANNELS
from mmtune.speech.sound.read import Channel

__all__ = [
    "Found",
    "Guess",
    "ImportOptions",
    "LeftOut",
    "Piece",
    "Used",
    "filled",
    "split_of",
    "stated",
    "unless_unreadable",
]

# Cells that say that nothing is known (what pandas reads as missing, and what corpora write).
UNSTATED = frozenset(
    {"", "#n/a", "<na>", "<unk>", "?", "-", "--", "n/a", "nan", "none", "null", "nil", "unknown"}
    | {"unspecified", "not specified"}
)


def _known_encoding(name: str) -> str:
    try:
        "".encode(name)  # codecs such as hex and rot13 turn no text into bytes
        return codecs.lookup(name).name
    except (LookupError, UnicodeError):
        raise ValueError(f"unknown encoding {name!r}; known are utf-8, cp1252, latin-1 …") from None


class ImportOptions(Section):
    """Settings of `mmtune import` for speech."""

    language: Language | None = None  # for rows that name none
    channel: Annotated[int, Field(ge=0)] | Literal["mix"] | None = (
        None  # channel of files with several, for rows that name none
    )
    align: bool = False  # cut long recordings by the word times that `base` finds
    base: str | None = None  # the model for `align`, as for `load_base`
    recordings: str | None = None  # folder outside the source whose recordings may be read
    audio_dir: str | None = None  # folder of the recordings that a table names
    encoding: Annotated[str, AfterValidator(_known_encoding)] | None = None  # of a table's text
    text_column: Annotated[str, Field(min_length=1)] | None = None  # of a table, by its name
    speaker_column: Annotated[str, Field(min_length=1)] | None = None
    # Channels of the speakers of a call by case-folded name; the command has "agent=0,customer=1".
    speakers: dict[str, Annotated[int, Field(ge=0, lt=MAX_CHANNELS)]] = Field(default_factory=dict)

    @field_validator("speakers", mode="before")
    @classmethod
    def _read_speakers(cls, value: Any) -> Any:
        if not isinstance(value, str):
            return value
        found: dict[str, int] = {}
        for part in value.split(",") if value.strip() else ():
            name, equals, number = (each.strip() for each in part.partition("="))
            if not (name and equals and number.isascii() and number.isdigit()):
                raise ValueError(
                    f"{part!r} names no speaker with a channel; write agent=0,customer=1"
                )
            if name in found:
                raise ValueError(f"{value!r} names the speaker {name!r} twice")
            found[name] = int(number)
        return found

    @field_validator("speakers")
    @classmethod
    def _fold_speakers(cls, value: dict[str, int]) -> dict[str, int]:
        folded = {name.strip().casefold(): channel for name, channel in value.items()}
        if len(set(folded.values())) < len(value) or "" in folded:
            raise ValueError(f"{value!r} names a speaker or a channel twice, or nobody")
        return folded

    @property
    def columns(self) -> dict[str, str]:
        """The columns of a table that the user names, by field."""
        given = {"text": self.text_column, "speaker": self.speaker_column}
        return {name: column for name, column in given.items() if column}

    @property
    def speaker_names(self) -> frozenset[str]:
        """The case-folded names of `speakers`."""
        return frozenset(self.speakers)

    def name_of(self, channel: int | None) -> str:
        """The name of a channel's speaker; "" if it isn't known."""
        return next((name for name, number in self.speakers.items() if number == channel), "")


@dataclass(frozen=True)
class Piece:
    """One utterance to write.

    Attributes:
        file: the recording, or its bytes if a table holds them.
        recording: the recording's name in the source; its pieces share it.
        text: the transcript; empty only if `nonspeech`.
        where: the place in the source that describes the piece, for messages.
        start: start within the file, in seconds.
        end: end within the file, in seconds; None: the file's end.
        channel: as in `SpeechRow`.
        id: the source's id; "" makes one from the recording and the start.
        row: other fields of a `SpeechRow`: speaker, language, split, prompt, terms, duration_s …
        group: facts for the row's `group`.
        people: names of the people behind speakers' names: {"agent": "Ann Lee"}.
        table: the file whose lines describe the piece; empty if there is none.
        items: how many lines, rows or cues of it the piece uses; 0 if another piece counts them.
        guessed: fields of `row` that the source doesn't state, each with what it was taken from.
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
    people: Mapping[str, str] = field(default_factory=dict)
    table: str = ""
    items: int = 1
    guessed: Mapping[str, str] = field(default_factory=dict)


Found = Iterator[Piece | LeftOut | Used | Guess]


def split_of(name: str) -> Split | None:
    """Return the split that the name of a file or folder means: train-00000-of-00002, dev …"""
    word = re.split(r"[^a-z]", name.casefold(), maxsplit=1)[0]
    return SPLIT_NAMES.get(word)


def unless_unreadable(found: Found, path: Path, alone: bool) -> Found:
    """Yield what is found in one of several files; one that can't be read is left out.

    Args:
        found: from its reader.
        path: the file, or the folder of a dataset.
        alone: whether it is the only one.

    Raises:
        DataError: it can't be read, and there is no other one.
    """
    try:
        yield from found
    except DataError as error:
        if alone:
            raise
        yield LeftOut(path.name, error.found, error.cure, "unreadable-table", file=str(path))


def stated(value: Any) -> str | None:
    """Return a cell as text; None if it is empty or says that nothing is known ("N/A", "-")."""
    text = "" if value is None else str(value).strip()
    return None if text.casefold() in UNSTATED else text


def filled(**values: Any) -> dict[str, Any]:
    """Drop the values that are None or empty."""
    return {key: value for key, value in values.items() if value not in (None, "", ())}
