"""Decode with FFmpeg (PyAV) what libsndfile can't: M4A, MP4, WebM, AMR, AAC, WMA and others.

This module recognises the container by its first bytes and names it to FFmpeg. If FFmpeg guessed
the format itself, it would also open playlists, which may name any other file of the machine.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mmtune.speech.sound.info import (
    CONVERT,
    COPY_AGAIN,
    CUT_TEXT,
    AudioFault,
    AudioInfo,
    first_bytes,
    not_finite,
    require_size,
)

# Seconds by which a length may differ from the claimed one: priming, padding, rounded durations.
SEEK_MARGIN = 0.25
GAP = 0.1  # a longer gap between packets becomes silence, in seconds; calls lose packets
PREROLL = 1.0  # seconds decoded and dropped before a span, so that the codec settles
MAX_PACKETS = 20_000_000
INDEXED_CONTAINERS = (
    "mov",
    "matroska",
)  # containers with an index, in which FFmpeg can seek
# Codecs of WAV that libsndfile reads (mmreg.h's WAVE_FORMAT_…); others go to FFmpeg.
SNDFILE_CODECS = {0x0001, 0x0002, 0x0003, 0x0006, 0x0007, 0x0011, 0x0031, 0xFFFE}


def demuxer_of(path: Path) -> str:
    """Return FFmpeg's name of the container, by the file's first bytes; "" if unknown."""
    with path.open("rb") as file:
        head = first_bytes(file, 32)
    if head[4:8] in (b"ftyp", b"moov", b"mdat", b"wide"):
        return "mov"
    if head[:2] == b"\xff\xf1" or head[:2] == b"\xff\xf9":
        return "aac"
    if head[:1] == b"\xff" and head[1:2] >= b"\xe0" and head[1] & 0b110:  # MPEG audio, a layer
        return "mp3"
    if head[:4] == b"RIFF" and head[8:12] == b"WAVE":
        known = head[12:16] != b"fmt " or int.from_bytes(head[20:22], "little") in SNDFILE_CODECS
        return "" if known else "wav"
    magics = {
        b"\x1a\x45\xdf\xa3": "matroska",
        b"#!AMR": "amr",
        b"\x30\x26\xb2\x75\x8e\x66\xcf\x11": "asf",
        b"OggS": "ogg",  # Speex, which libsndfile doesn't know
        b"caff": "caf",
        b"fLaC": "flac",
        b"wvpk": "wv",
        b"FLV\x01": "flv",
    }
    return next((name for magic, name in magics.items() if head.startswith(magic)), "")


def probe(path: Path, demuxer: str) -> AudioInfo:
    """Read rate, channels and length of a file's audio track from its packets; decode one packet.

    Raises:
        AudioFault: the file is undecodable or truncated, has no audio track, or is a size bomb.
    """
    status = path.stat()
    return _probe(path, demuxer, status.st_mtime_ns, status.st_size)


@lru_cache(maxsize=4096)
def _probe(path: Path, demuxer: str, _modified: int, size: int) -> AudioInfo:
    av: Any = _av()
    info: AudioInfo | None = None
    end = whole = 0.0  # seconds at which the audio and the file end
    try:
        with _open(path, demuxer) as container:
            stream = _track(path, container)
            require_size(path, AudioInfo(0, stream.rate or 1, stream.channels or 1))
            origin = _origin(container)
            # Where the end isn't known, FFmpeg reports the last packet as cut off.
            endless = demuxer == "caf" and _endless_caf(path)
            for count, packet in enumerate(container.demux()):
                if count > MAX_PACKETS:
                    raise AudioFault(
                        "size-bomb", f"{path} has more than {MAX_PACKETS} packets", CONVERT
                    )
                if packet.pts is None or packet.size == 0:
                    continue
                after = float((packet.pts + (packet.duration or 0)) * packet.time_base) - origin
                whole = max(whole, after)
                if packet.stream.index != stream.index:
                    continue
                if packet.is_corrupt and not endless:
                    raise AudioFault(
                        "truncated", f"{path} ends unexpectedly after {end:.2f} s", COPY_AGAIN
                    )
                end = max(end, after)
                if info is None:
                    for frame in packet.decode():
                        info = AudioInfo(0, frame.sample_rate, frame.layout.nb_channels, demuxer)
                        require_size(path, info)
                        break
            claimed = 0.0
            if demuxer in (*INDEXED_CONTAINERS, "asf") and container.duration:
                claimed = container.duration / av.time_base
    except (av.FFmpegError, OSError, ValueError, OverflowError, UnicodeError) as error:
        raise AudioFault(
            "undecodable",
            f"{path} can't be read as audio: {_said(error)}",
            f"{COPY_AGAIN}, or {CONVERT}",
        ) from None
    if claimed - whole > SEEK_MARGIN + 0.01 * claimed:
        raise AudioFault(
            "truncated",
            f"{path} claims {claimed:.2f} s, but its data ends at {whole:.2f} s",
            COPY_AGAIN,
        )
    if info is None:
        raise AudioFault("undecodable", f"{path} has an audio track without any sound", CONVERT)
    if info.rate * max(end, 0.0) > 2**40:
        raise AudioFault("size-bomb", f"{path} claims {end:.0f} s", CONVERT)
    return AudioInfo(max(1, round(end * info.rate)), info.rate, info.channels, demuxer)


def _endless_caf(path: Path) -> bool:
    # A CAF's sound may have the size -1: to the end of the file (Core Audio Format, "data" chunk).
    with path.open("rb") as file:
        return b"data" + b"\xff" * 8 in file.read(4096)


def decode(path: Path, info: AudioInfo, first: int, last: int) -> Iterator[NDArray[np.float32]]:
    """Decode frames `first` to `last` of a probed file, with little of it in memory at a time.

    Silence fills gaps of the container that are longer than `GAP`, so times stay those that a
    player shows.

    Yields:
        [frames, channels] float32.

    Raises:
        AudioFault: damaged or missing data, NaN or Inf samples, another rate within the file.
    """
    slack = int(SEEK_MARGIN * info.rate)
    at = 0  # the next frame to come out of the decoder
    for place, samples in _frames(path, info, first):
        if place - at > GAP * info.rate or at == 0:
            # Limit the claimed position, because a damaged timestamp could fill the memory.
            silent = min(place, info.frames) - at
            for start in range(0, silent, info.rate):
                yield from _within(
                    at + start, _zeros(min(info.rate, silent - start), info), first, last
                )
            at += max(0, silent)
        if at > info.frames + slack:
            raise AudioFault(
                "size-bomb",
                f"{path} claims {info.seconds:.2f} s but continues after {at / info.rate:.2f} s",
                f"{COPY_AGAIN}, or {CONVERT}",
            )
        yield from _within(at, samples, first, last)
        at += len(samples)
        if at >= last and last < info.frames:
            return
    if at < min(last, info.frames - slack):
        raise AudioFault(
            "truncated",
            f"{path} claims {info.seconds:.2f} s but holds only {at / info.rate:.2f} s",
            CUT_TEXT,
        )


def _frames(path: Path, info: AudioInfo, first: int) -> Iterator[tuple[int, NDArray[np.float32]]]:
    # Yields pairs of a position in frames and samples [frames, channels]; starts before `first`.
    av: Any = _av()
    at = 0.0
    try:
        with _open(path, info.demuxer) as container:
            stream = _track(path, container)
            stream.codec_context.thread_count = 1
            origin = _origin(container)
            if info.demuxer in INDEXED_CONTAINERS and first > (PREROLL + GAP) * info.rate:
                target = first / info.rate - PREROLL + origin
                container.seek(max(0, int(target * av.time_base)), backward=True)
            plain = av.AudioResampler(format="fltp")
            place: int | None = None
            for packet in container.demux(stream):
                for frame in packet.decode():
                    if (frame.sample_rate, frame.layout.nb_channels) != (info.rate, info.channels):
                        raise AudioFault(
                            "undecodable",
                            f"{path} changes its rate or channels at {at:.2f} s",
                            CONVERT,
                        )
                    if frame.pts is not None and frame.time_base:
                        at = float(frame.pts * frame.time_base) - origin
                        place = max(0, round(at * info.rate))
                    for each in plain.resample(frame):
                        samples = np.ascontiguousarray(each.to_ndarray().T, np.float32)
                        finite = np.isfinite(samples).all(axis=1)
                        if not finite.all():
                            raise not_finite(path, at + int(finite.argmin()) / info.rate)
                        yield place or 0, samples
                        place = (place or 0) + len(samples)
    except (av.FFmpegError, OSError, ValueError, OverflowError, UnicodeError) as error:
        raise AudioFault(
            "truncated", f"{path} is damaged at {at:.2f} s: {_said(error)}", COPY_AGAIN
        ) from None


def _within(
    at: int, samples: NDArray[np.float32], first: int, last: int
) -> Iterator[NDArray[np.float32]]:
    part = samples[max(0, first - at) : max(0, last - at)]
    if len(part):
        yield part


def _zeros(frames: int, info: AudioInfo) -> NDArray[np.float32]:
    return np.zeros((frames, info.channels), np.float32)


def _open(path: Path, demuxer: str) -> Any:
    # "file:" and the whitelist make FFmpeg treat the path as a file, whatever it looks like.
    return _av().open(
        f"file:{path}",
        format=demuxer,
        options={"protocol_whitelist": "file"},
        metadata_errors="replace",
    )


def _track(path: Path, container: Any) -> Any:
    if not container.streams.audio:
        raise AudioFault(
            "no-audio", f"{path} has no audio track", "name the file that holds the sound"
        )
    track = container.streams.audio[0]
    if track.codec_context is None:
        raise AudioFault(
            "undecodable", f"{path} can't be read as audio: its codec is unknown", CONVERT
        )
    return track


def _origin(container: Any) -> float:
    # A player's time 0 is where the first of all tracks begins.
    start = container.start_time
    return float(start / _av().time_base) if start is not None and start > 0 else 0.0


def _said(error: BaseException) -> str:
    return str(getattr(error, "strerror", None) or error).rstrip(".")


def _av() -> Any:
    import av

    av.logging.set_level(av.logging.PANIC)
    return av
