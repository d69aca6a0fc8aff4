"""Checks of recordings and transcripts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mmtune.data.manifest import scan_files, words_beside
from mmtune.data.rows import Finding, Inspection, Row
from mmtune.speech.audio import (
    AudioFault,
    choose_channel,
    content_of,
    decode,
    locate,
    probe,
    span_of,
)
from mmtune.speech.channels import QUIET, ChannelMeter, Channels
from mmtune.speech.rows import SpeechRow

SPEECH_SUFFIXES = (
    *(".wav", ".flac", ".ogg", ".oga", ".opus", ".mp3", ".aiff", ".aif", ".caf"),
    *(".m4a", ".m4b", ".mp4", ".mov", ".3gp", ".webm", ".mkv", ".mka", ".aac", ".amr", ".wma"),
)
MAX_SECONDS = 30.0  # Whisper's window: what lies beyond it is never heard


def scan(folder: Path) -> Iterator[dict[str, Any]]:
    """Rows of a folder: each recording with the transcript in its same-named .txt."""
    for name, relative in scan_files(folder, SPEECH_SUFFIXES):
        row: dict[str, Any] = {"id": name, "audio": relative.as_posix()}
        words = words_beside(folder / relative)
        yield row if words is None else {**row, "text": words}


def inspect(row: Row) -> Inspection:
    """Open and fully decode one recording; never raises for a bad one.

    Facts: duration_s, sample_rate (Hz), channels, peak (full scale = 1).
    """
    if not isinstance(row, SpeechRow):
        raise TypeError(f"a speech row is needed, not {type(row).__name__}")
    peak, frames = 0.0, 0
    try:
        info = probe(row.path)
        span = span_of(row)
        first, last = locate(row.path, info, span)
        seconds = (last - first) / info.rate
        if seconds > MAX_SECONDS:
            raise AudioFault(
                "too-long",
                f"{row.path} is {seconds:.1f} s long; Whisper hears {MAX_SECONDS:.0f} s",
                "cut it at pauses, with the words of each piece: by files, or by start and end",
            )
        if first == last:
            raise AudioFault(
                "zero-length", f"{row.path} holds no samples", "record it again, or remove the row"
            )
        meter = ChannelMeter(info.rate)
        for block in decode(row.path, info, first, last):
            meter.add(block)
            heard = block[:, span.channel] if isinstance(span.channel, int) else block
            peak = max(peak, float(np.abs(heard).max()))
            frames += len(block)
        channels = meter.verdict()
        if span.channel is None:
            choose_channel(row.path, channels, info)
        content = content_of(row)
    except AudioFault as fault:
        return Inspection("", [Finding(fault.kind, row.id, fault.found, fault.cure)])
    seconds = frames / info.rate
    facts = {
        "duration_s": round(seconds, 4),
        "sample_rate": float(info.rate),
        "channels": float(info.channels),
        "peak": round(peak, 5),
    }
    findings = [*_judge(row, seconds, peak)]
    if span.channel is None:
        findings += _judge_channels(row, channels)
    return Inspection(content, findings, facts)


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
    if peak > QUIET and not said and not row.nonspeech:
        yield Finding(
            "empty-text",
            row.id,
            f"{row.path} has sound, but its transcript is empty",
            'write down what is said, or remove the row; if nothing is said: "nonspeech": true',
        )
    if row.duration_s is not None and abs(row.duration_s - seconds) > 0.1 + 0.02 * seconds:
        yield Finding(
            "duration",
            row.id,
            f"{row.path} lasts {seconds:.2f} s, but the row says {row.duration_s:.2f} s",
            "look whether it is the right file",
            "warning",
        )


def _judge_channels(row: SpeechRow, found: Channels) -> Iterator[Finding]:
    if found.kind == "stereo":
        yield Finding(
            "stereo",
            row.id,
            f"{row.path} is one source in stereo (correlation {found.correlation:.2f}); the mean "
            "of its channels is used",
            'say "channel": "mix" if that is right, or the number of one',
            "warning",
        )
    if found.kind == "one-sided":
        yield Finding(
            "one-sided",
            row.id,
            f"{row.path} has sound on channel {found.loudest} only, which is used",
            f'say "channel": {found.loudest} if that is right',
            "warning",
        )
