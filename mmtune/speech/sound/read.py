"""Read audio files: check the header first, decode in blocks, never decode more than claimed.

libsndfile decodes what it can (`sndfile`), and FFmpeg decodes the rest (`pyav`). All code that
needs the sound of a row calls `read_row`, which honours the row's span and channel.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from mmtune.speech.sound import pyav as audio_av
from mmtune.speech.sound import sndfile as audio_sndfile
from mmtune.speech.sound.channels import Channels, measure
from mmtune.speech.sound.info import (
    CONVERT,
    CUT_TEXT,
    MAX_CHANNELS,
    MAX_RATE,
    SAMPLE_RATE,
    AudioFault,
    AudioInfo,
    require_file,
)
from mmtune.speech.speech_row import SpeechRow
from mmtune.system.hashing import hash_file, hash_json
from mmtune.system.stored import is_file

__all__ = [
    "CONVERT",
    "MAX_CHANNELS",
    "MAX_RATE",
    "SAMPLE_RATE",
    "AudioFault",
    "AudioInfo",
    "Channel",
    "Span",
    "channels_of",
    "choose_channel",
    "content_of",
    "decode",
    "locate",
    "probe",
    "read_audio",
    "read_channels",
    "read_row",
    "require_file",
    "row_seconds",
    "span_of",
    "whole_hash",
]

Channel = int | Literal["mix"]
MAX_SECONDS = 4 * 3600.0
SLACK = 0.2  # seconds that may be priming and padding of an encoder
ROUNDED = 0.1  # seconds by which a span may end after its file, because times are rounded


@dataclass(frozen=True)
class Span:
    """A part of a file: start and end in seconds (None: the file's end), channel from 0."""

    start: float = 0.0
    end: float | None = None
    channel: Channel | None = None


def read_audio(
    path: Path,
    *,
    start: float = 0.0,
    end: float | None = None,
    channel: Channel | None = None,
    max_seconds: float = MAX_SECONDS,
) -> NDArray[np.float32]:
    """Read a file, or a span of it, as Whisper needs it: mono, 16 kHz.

    Args:
        path: WAV, AIFF, FLAC, Ogg, Opus, MP3; M4A, MP4, WebM, AAC, AMR, WMA and others by FFmpeg.
        start: seconds.
        end: seconds; None is the end of the file.
        channel: from 0, or "mix" for the mean of all channels. None works for files whose
            channels are copies, one source in stereo, or silent except one.
        max_seconds: refuse longer spans, and files that are longer than they claim.

    Returns:
        [samples] float32, mono, 16 kHz, nominally in [-1, 1].

    Raises:
        AudioFault: the file is missing, undecodable, truncated, not finite or too large; it has no
            such span or channel; its channels differ and none is named.
    """
    info, first, last = _locate(path, Span(start, end, channel), max_seconds)
    chosen = channel
    if info.channels > 1 and channel is None:
        chosen = choose_channel(path, measure(decode(path, info, first, last), info.rate), info)
    blocks = [_mono(block, chosen) for block in decode(path, info, first, last)]
    mono = np.concatenate(blocks) if blocks else np.zeros(0, np.float32)
    return _resample(mono, info.rate)


def read_channels(
    path: Path, *, start: float = 0.0, end: float | None = None, max_seconds: float = MAX_SECONDS
) -> NDArray[np.float32]:
    """Read each channel of a file, or of a span of it, separately.

    Returns:
        [channels, samples] float32, 16 kHz.

    Raises:
        AudioFault: as for `read_audio`, except for channels.
    """
    info, first, last = _locate(path, Span(start, end), max_seconds)
    blocks = list(decode(path, info, first, last))
    joined = np.concatenate(blocks) if blocks else np.zeros((0, info.channels), np.float32)
    return np.ascontiguousarray(_resample(joined, info.rate).T)


def read_row(row: SpeechRow, *, max_seconds: float = MAX_SECONDS) -> NDArray[np.float32]:
    """Read the span and channel of a speech row: [samples] float32, mono, 16 kHz.

    Raises:
        AudioFault: as for `read_audio`.
    """
    span = span_of(row)
    return read_audio(
        row.path, start=span.start, end=span.end, channel=span.channel, max_seconds=max_seconds
    )


def channels_of(row: SpeechRow, *, max_seconds: float = MAX_SECONDS) -> Channels:
    """Tell from the samples of a row's span how the channels of its file relate.

    Raises:
        AudioFault: as for `read_audio`.
    """
    info, first, last = _locate(row.path, span_of(row), max_seconds)
    return measure(decode(row.path, info, first, last), info.rate)


def row_seconds(row: SpeechRow) -> float:
    """Return the length of a row's span in seconds, from its file's header.

    Raises:
        AudioFault: the file can't be read, or has no such span.
    """
    span, path = span_of(row), row.path
    info = _probed(path, path.stat().st_mtime_ns if is_file(path) else 0)
    first, last = locate(path, info, span)
    return (last - first) / info.rate


def span_of(row: SpeechRow) -> Span:
    """Return the part of its file that a row stands for."""
    return Span(row.start, row.end, row.channel)


def content_of(row: SpeechRow) -> str:
    """Hash what a row's sound depends on: the file's bytes, and its span and channel if named.

    Raises:
        OSError: the file can't be read.
    """
    whole = whole_hash(row.path)
    span = span_of(row)
    if span == Span():
        return whole
    return hash_json({"file": whole, "span": [span.start, span.end, span.channel]})


def choose_channel(path: Path, found: Channels, info: AudioInfo) -> Channel:
    """Choose the channel of a file with several channels whose row names none.

    Raises:
        AudioFault: the channels are different recordings.
    """
    if found.wanted is None:
        raise AudioFault(
            "channels",
            f"{path} has {info.channels} channels that are not the same "
            f"(correlation {found.correlation:.2f}): the sides of a call?",
            "name the channel that the transcript belongs to: "
            + " or ".join(f'"channel": {i}' for i in range(info.channels))
            + ' (one row each), or "channel": "mix" for the mean of all',
        )
    return found.wanted


def probe(path: Path) -> AudioInfo:
    """Read and check a file's header without decoding the file.

    Raises:
        AudioFault: the file is missing, not a regular file, empty, undecodable, without audio,
            truncated or a size bomb.
    """
    require_file(path)
    info = audio_sndfile.probe(path)
    try:
        demuxer = audio_av.demuxer_of(path)
    except OSError:
        demuxer = ""
    if demuxer == "mp3":
        return _probe_mp3(path, info)
    if info is not None:
        return _recount(path, info) if demuxer == "flac" else info
    if not demuxer:
        raise AudioFault("undecodable", f"{path} can't be read as audio", CONVERT)
    audio_sndfile.require_whole(path)
    return audio_av.probe(path, demuxer)


def _probe_mp3(path: Path, info: AudioInfo | None) -> AudioInfo:
    # Its length is the sum of its packets. What it states is right, too short or not there.
    counted, frames = audio_av.probe(path, "mp3"), audio_sndfile.stated_frames(path)
    if frames is None:
        return counted
    stated = frames / counted.rate
    if counted.seconds < stated - SLACK:
        raise AudioFault(
            "truncated",
            f"{path} claims {stated:.2f} s but holds only {counted.seconds:.2f} s",
            CUT_TEXT,
        )
    if counted.seconds > stated + SLACK:
        return replace(counted, note=_too_short(stated, counted))
    return counted if info is None else info


def _recount(path: Path, info: AudioInfo) -> AudioInfo:
    # libsndfile ends a FLAC where its header says.
    try:
        counted = audio_av.probe(path, "flac")
    except AudioFault:
        return info  # the damage is found, and named better, when the file is decoded
    if counted.seconds > info.seconds + SLACK:
        return replace(counted, note=_too_short(info.seconds, counted))
    return info


def _too_short(stated: float, counted: AudioInfo) -> str:
    return f"its header states {stated:.2f} s, but it holds {counted.seconds:.2f} s"


def decode(
    path: Path, info: AudioInfo, first: int = 0, last: int | None = None
) -> Iterator[NDArray[np.float32]]:
    """Decode a probed file block by block, with one block in memory at a time.

    Args:
        path: the file.
        info: from `probe`.
        first: the first frame wanted.
        last: the frame after the last one wanted; None is the file's end.

    Yields:
        [frames, channels] float32, at the file's own rate.

    Raises:
        AudioFault: fewer or more frames than `info` claims, damaged data, NaN or Inf samples.
    """
    last = info.frames if last is None else last
    if first < last or last == info.frames:
        decoder = audio_av.decode if info.demuxer else audio_sndfile.decode
        yield from decoder(path, info, first, last)


def locate(path: Path, info: AudioInfo, span: Span) -> tuple[int, int]:
    """Convert a span of a probed file to frames (first, after the last).

    A span that rounding moved just beyond the file's end is cut there.

    Raises:
        AudioFault: the span starts or ends after the file does, or the channel doesn't exist.
    """
    if isinstance(span.channel, int) and not 0 <= span.channel < info.channels:
        raise AudioFault(
            "no-channel",
            f"{path} has {info.channels} channel{'s' if info.channels > 1 else ''}, but channel "
            f"{span.channel} is named",
            f"use channel 0 to {info.channels - 1}, or remove 'channel' from the row",
        )
    first = round(span.start * info.rate)
    last = info.frames if span.end is None else round(span.end * info.rate)
    asked = f"{span.start:g} s to {'its end' if span.end is None else f'{span.end:g} s'}"
    if span.start < 0 or (span.end is not None and last <= first):
        raise AudioFault("no-span", f"{path}: {asked} is no span", "make end greater than start")
    if (first and first >= info.frames) or last > info.frames + ROUNDED * info.rate:
        raise AudioFault(
            "no-span",
            f"{path} is {info.seconds:.2f} s long, but {asked} is requested",
            "correct start and end, or check that it is the right file",
        )
    return first, min(last, info.frames)


def _locate(path: Path, span: Span, max_seconds: float) -> tuple[AudioInfo, int, int]:
    info = probe(path)
    first, last = locate(path, info, span)
    seconds = (last - first) / info.rate
    if seconds > max_seconds:
        part = "" if (first, last) == (0, info.frames) else f", from {span.start:g} s,"
        raise AudioFault(
            "too-long",
            f"{path}{part} is {seconds:.1f} s long; the limit here is {max_seconds:.0f} s",
            "cut it into shorter files, or set start and end",
        )
    return info, first, last


def _mono(block: NDArray[np.float32], channel: Channel | None) -> NDArray[np.float32]:
    if isinstance(channel, int):
        return np.ascontiguousarray(block[:, channel])
    mono: NDArray[np.float32] = block.mean(axis=1)
    return mono


def _resample(samples: NDArray[np.float32], rate: int) -> NDArray[np.float32]:
    if rate == SAMPLE_RATE or not len(samples):
        return samples
    import soxr

    resampled: NDArray[np.float32] = soxr.resample(samples, rate, SAMPLE_RATE)
    return resampled


@lru_cache(maxsize=65_536)
def _probed(path: Path, _modified: int) -> AudioInfo:
    return probe(path)


def whole_hash(path: Path) -> str:
    """Hash a file's bytes; those of an unchanged file are read once.

    Raises:
        OSError: the file can't be read.
    """
    status = path.stat()
    return _hashed(path, status.st_mtime_ns, status.st_size)


@lru_cache(maxsize=4096)
def _hashed(path: Path, _modified: int, _size: int) -> str:
    # Cached, because a call of an hour may have a hundred rows.
    return hash_file(path)
