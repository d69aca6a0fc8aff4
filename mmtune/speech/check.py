"""Checks of recordings and transcripts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mmtune.data.manifest import scan_files, words_beside
from mmtune.data.rows import Finding, Inspection, Row
from mmtune.hashing import hash_file
from mmtune.speech.audio import CONVERT, AudioFault, decode, probe
from mmtune.speech.rows import SpeechRow

SPEECH_SUFFIXES = (".wav", ".flac", ".ogg", ".oga", ".opus", ".mp3", ".aiff", ".aif")
# Not readable here; found in folders all the same, so that nobody's recordings vanish in silence.
FOREIGN_SUFFIXES = (".m4a", ".aac", ".wma", ".amr", ".webm", ".mp4", ".3gp", ".caf")
MAX_SECONDS = 30.0  # Whisper's window: what lies beyond it is never heard
QUIET = 10 ** (-60 / 20)  # peak, full scale = 1


def scan(folder: Path) -> Iterator[dict[str, Any]]:
    """Rows of a folder: each recording with the transcript in its same-named .txt."""
    for name, relative in scan_files(folder, SPEECH_SUFFIXES + FOREIGN_SUFFIXES):
        row: dict[str, Any] = {"id": name, "audio": relative.as_posix()}
        words = words_beside(folder / relative)
        yield row if words is None else {**row, "text": words}


def inspect(row: Row) -> Inspection:
    """Open and fully decode one recording; never raises for a bad one.

    Facts: duration_s, sample_rate (Hz), channels, peak (full scale = 1).
    """
    if not isinstance(row, SpeechRow):
        raise TypeError(f"a speech row is needed, not {type(row).__name__}")
    if row.path.suffix.lower() in FOREIGN_SUFFIXES and row.path.is_file():
        found = f"{row.path} is in a format that isn't read here"
        return Inspection("", [Finding("undecodable", row.id, found, CONVERT)])
    try:
        info = probe(row.path)
        if info.seconds > MAX_SECONDS:
            raise AudioFault(
                "too-long",
                f"{row.path} is {info.seconds:.1f} s long; Whisper hears {MAX_SECONDS:.0f} s",
                "cut it at pauses, with the words of each piece",
            )
        if not info.frames:
            raise AudioFault(
                "zero-length", f"{row.path} holds no samples", "record it again, or remove the row"
            )
        peak = max(float(np.abs(block).max()) for block in decode(row.path, info))
        content = hash_file(row.path)
    except AudioFault as fault:
        return Inspection("", [Finding(fault.kind, row.id, fault.found, fault.cure)])
    facts = {
        "duration_s": round(info.seconds, 4),
        "sample_rate": float(info.rate),
        "channels": float(info.channels),
        "peak": round(peak, 5),
    }
    return Inspection(content, list(_judge(row, info.seconds, peak)), facts)


def check_rows(rows: Sequence[Row]) -> list[Finding]:
    """Findings that need all rows: one transcript for most of the recordings."""
    words, count = Counter(row.reference for row in rows).most_common(1)[0] if rows else ("", 0)
    if len(rows) < 10 or count * 2 <= len(rows):
        return []
    return [
        Finding(
            "same-text",
            "all rows",
            f"{count} of {len(rows)} recordings have the transcript {words[:60]!r}",
            "look whether the export repeated one transcript",
            "warning",
        )
    ]


def _judge(row: SpeechRow, seconds: float, peak: float) -> Iterator[Finding]:
    said = bool(row.text.strip())
    if peak <= QUIET and said:
        yield Finding(
            "silent",
            row.id,
            f"{row.path} is silent (peak {peak:.1e}), but its transcript is {row.text[:60]!r}",
            "record it again, or remove the row: it would teach the model to invent",
        )
    if peak > QUIET and not said:
        yield Finding(
            "empty-text",
            row.id,
            f"{row.path} has sound, but its transcript is empty",
            "write down what is said, or remove the row",
        )
    if row.duration_s is not None and abs(row.duration_s - seconds) > 0.1 + 0.02 * seconds:
        yield Finding(
            "duration",
            row.id,
            f"{row.path} lasts {seconds:.2f} s, but the row says {row.duration_s:.2f} s",
            "look whether it is the right file",
            "warning",
        )
