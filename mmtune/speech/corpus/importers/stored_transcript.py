"""Read the JSON that `mmtune transcribe` writes; openai/whisper's and WhisperX's have its shape."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mmtune.errors import MmtuneError
from mmtune.metrics.text.language_code import language_code
from mmtune.speech.speech_row import plain_words
from mmtune.system.inside import leads_out
from mmtune.system.stored import DAMAGE, read_bytes

MAX_BYTES = 64_000_000  # size of one transcript or subtitle file: some days of speech with times


@dataclass(frozen=True)
class StoredSegment:
    """A part of a transcript: start and end in seconds, its words, its channel's name."""

    start: float
    end: float
    text: str
    channel: str | None = None


@dataclass(frozen=True)
class StoredTranscript:
    """A transcript as it is in a file.

    Attributes:
        segments: no longer than a subtitle where the file has the times of unchanged words.
        channels: names of the channels in the order of their numbers; empty for one.
        language: Whisper's code; None if the file names none.
        changed: the whole text has other words than the segments.
    """

    segments: tuple[StoredSegment, ...]
    channels: tuple[str, ...] = ()
    language: str | None = None
    changed: bool = False


def is_transcript(path: Path, folder: Path | None = None) -> bool:
    """Tell whether a JSON file holds a transcript: an object with timed segments.

    Args:
        path: the file.
        folder: the folder in which it was found; a link that leads out of it isn't read. None: the
            user named the file.
    """
    if folder is not None and leads_out(folder, path):
        return False
    try:
        read_transcript(read_bytes(path, most=MAX_BYTES))
    except (OSError, ValueError, MmtuneError):
        return False
    return True


def read_transcript(data: bytes) -> StoredTranscript:
    """Read a transcript.

    Raises:
        ValueError: it is no JSON, or no transcript.
    """
    try:
        values = json.loads(data.decode("utf-8-sig"))
        segments = [part for each in values["segments"] for part in _parts(each)]
        named = values.get("channels") or ()
        channels = tuple(str(name) for name in named) if isinstance(named, Sequence) else ()
        whole, language = str(values.get("text", "")), str(values.get("language") or "")
    except DAMAGE as error:
        raise ValueError(f"it holds no transcript ({type(error).__name__}: {error})") from None
    lines = [_unnamed(line, channels) for line in whole.splitlines()]
    together = _words(" ".join(each.text for each in segments))
    changed = bool(whole.strip()) and _words(" ".join(lines)) != together
    return StoredTranscript(tuple(segments), channels, language_code(language), changed)


def _parts(segment: Mapping[str, Any]) -> list[StoredSegment]:
    start, end, text = float(segment["start"]), float(segment["end"]), str(segment["text"])
    if not 0 <= start < 1e7 or not 0 <= end < 1e7:
        raise ValueError(f"{start:g} to {end:g} s is no time")
    named = segment.get("channel", segment.get("speaker"))
    channel = None if named is None else str(named)
    words = segment.get("words") or ()
    if not words or "".join(str(word.get("text", "")) for word in words).strip() != text.strip():
        return [StoredSegment(start, end, text, channel)]  # a person corrected it
    from mmtune.speech.transcription.transcript import TranscriptSegment, cues
    from mmtune.speech.whisper.word_times import Word

    timed = tuple(
        Word(float(word["start"]), float(word["end"]), str(word["text"]), 0.0) for word in words
    )
    return [
        StoredSegment(each.start, each.end, each.text, channel)
        for each in cues([TranscriptSegment(start, end, text, channel, timed)])
    ]


def _unnamed(line: str, channels: Sequence[str]) -> str:
    return next((line.removeprefix(f"{n}:") for n in channels if line.startswith(f"{n}:")), line)


def _words(text: str) -> str:
    return plain_words(text).replace(" ", "")
