"""Reading audio files: judged by their headers first, decoded in blocks, never more than claimed.

libsndfile decodes WAV, AIFF, FLAC, Ogg Vorbis and Opus, and MP3. It shortens a truncated WAV, AIFF
or Ogg in silence, so the length that their containers promise is compared here.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Literal

import numpy as np
import soundfile
from numpy.typing import NDArray

from mmtune.data.rows import Row
from mmtune.errors import DataError

SAMPLE_RATE = 16_000  # Hz, what Whisper hears
MAX_RATE = 192_000  # Hz; more is no recording of speech
MAX_CHANNELS = 8
UNKNOWN = 2**60  # frames: libsndfile gives its greatest number where a header says 0
BLOCK = 65_536  # frames decoded at a time
CONVERT = "convert it: ffmpeg -i IN -ac 1 -ar 16000 OUT.flac"


class AudioFault(DataError):
    """A file that can't be used as audio. `kind` is the short name that findings carry."""

    def __init__(self, kind: str, found: str, cure: str) -> None:
        self.kind = kind
        super().__init__(found, cure)


@dataclass(frozen=True)
class AudioInfo:
    """What the header says: frames per channel, rate in Hz, channels."""

    frames: int
    rate: int
    channels: int

    @property
    def seconds(self) -> float:
        """The length claimed."""
        return self.frames / self.rate


def read_audio(path: Path, *, max_seconds: float = 4 * 3600.0) -> NDArray[np.float32]:
    """The samples of a file as Whisper wants them.

    Args:
        path: a WAV, AIFF, FLAC, Ogg, Opus or MP3 file.
        max_seconds: refuse longer recordings (and files that turn out longer than they claim).

    Returns:
        [samples] float32, mono (the mean of the channels), 16 kHz, nominally in [-1, 1].

    Raises:
        DataError: missing, undecodable, truncated, not finite or too large; names the file.
    """
    info = probe(path)
    if info.seconds > max_seconds:
        raise AudioFault(
            "too-long",
            f"{path} is {info.seconds:.1f} s long; the limit here is {max_seconds:.0f} s",
            "cut it into shorter files",
        )
    blocks = [block.mean(axis=1) for block in decode(path, info)]
    mono = np.concatenate(blocks) if blocks else np.zeros(0, np.float32)
    if info.rate == SAMPLE_RATE or not len(mono):
        return mono
    import soxr

    resampled: NDArray[np.float32] = soxr.resample(mono, info.rate, SAMPLE_RATE)
    return resampled


def read_row(row: Row) -> NDArray[np.float32]:
    """The samples that a row means."""
    return read_audio(row.path)


def probe(path: Path) -> AudioInfo:
    """Read and judge a file's header without decoding any of it.

    Raises:
        AudioFault: missing, not a file, empty, undecodable, truncated or a size bomb.
    """
    require_file(path)
    try:
        with soundfile.SoundFile(path) as file:
            info = AudioInfo(int(file.frames), int(file.samplerate), int(file.channels))
    except (soundfile.SoundFileError, OSError, TypeError, ValueError):
        # libsndfile's own words mislead: of junk it says that the file doesn't exist.
        raise AudioFault("undecodable", f"{path} is no audio that can be read", CONVERT) from None
    if info.frames > UNKNOWN:
        raise AudioFault(
            "undecodable",
            f"{path} does not say how long it is; it was written to a pipe",
            CONVERT,
        )
    if info.rate > MAX_RATE or info.channels > MAX_CHANNELS:
        raise AudioFault(
            "size-bomb",
            f"{path} claims {info.frames} frames of {info.channels} channels at {info.rate} Hz",
            f"remove it: no recording needs more than {MAX_CHANNELS} channels at {MAX_RATE} Hz",
        )
    _require_whole(path)
    return info


def decode(path: Path, info: AudioInfo) -> Iterator[NDArray[np.float32]]:
    """Decode a probed file block by block, holding one block at a time.

    Yields:
        [frames, channels] float32.

    Raises:
        AudioFault: fewer or more frames than `info` claims, damaged data, NaN or Inf samples.
    """
    done = 0
    try:
        with soundfile.SoundFile(path) as file:
            # One frame more than claimed is asked for: a file that has it lies about its size.
            while len(block := file.read(min(BLOCK, info.frames + 1 - done), "float32", True)):
                finite = np.isfinite(block).all(axis=1)
                if not finite.all():
                    first = (done + int(finite.argmin())) / info.rate
                    raise AudioFault(
                        "not-finite",
                        f"{path} holds NaN or Inf samples, the first at {first:.2f} s",
                        "export it again from its source",
                    )
                done += len(block)
                if done > info.frames:
                    break
                yield block
    except (soundfile.SoundFileError, OSError) as error:
        kind = "truncated" if done < info.frames else "undecodable"
        raise AudioFault(
            kind,
            f"{path} breaks off after {done / info.rate:.2f} of {info.seconds:.2f} s: "
            + str(error).rstrip("."),
            "copy the file again from its source",
        ) from None
    if done != info.frames:
        word = "holds only" if done < info.frames else "goes on after"
        raise AudioFault(
            "truncated" if done < info.frames else "size-bomb",
            f"{path} claims {info.seconds:.2f} s but {word} {done / info.rate:.2f} s",
            "copy the file again from its source, or " + CONVERT,
        )


def require_file(path: Path) -> int:
    """The size of a regular file, in bytes.

    Raises:
        AudioFault: missing, not a regular file (a pipe would block for ever) or empty.
    """
    try:
        if not path.is_file():
            kind = "not-a-file" if path.exists() else "missing"
            found = f"{path} is not a file" if kind == "not-a-file" else f"no such file: {path}"
            raise AudioFault(kind, found, "correct the path, or remove the row")
        size = path.stat().st_size
    except (OSError, ValueError) as error:
        raise AudioFault("missing", f"{path}: {error}", "correct the path") from None
    if not size:
        raise AudioFault("empty", f"{path} has 0 bytes", "copy the file again from its source")
    return size


def _require_whole(path: Path) -> None:
    # libsndfile clamps the length of these containers to what is there and says nothing.
    with path.open("rb") as file:
        magic = file.read(12)
        size = os.fstat(file.fileno()).st_size
        if magic[:4] in (b"RIFF", b"RF64") and magic[8:] == b"WAVE":
            claimed = _sound_chunk_end(file, b"data", "little")
        elif magic[:4] == b"FORM" and magic[8:] in (b"AIFF", b"AIFC"):
            claimed = _sound_chunk_end(file, b"SSND", "big")
        elif magic[:4] == b"OggS":
            if not _ends_with_last_page(file, size):
                raise AudioFault(
                    "truncated",
                    f"{path} has no last Ogg page: the end of the recording is missing",
                    "copy the file again from its source",
                )
            return
        else:
            return
    if claimed is not None and claimed > size:
        raise AudioFault(
            "truncated",
            f"{path} has {size} bytes, but its header promises {claimed}",
            "copy the file again from its source",
        )


def _sound_chunk_end(file: BinaryIO, wanted: bytes, order: Literal["little", "big"]) -> int | None:
    # IFF: chunks of a four-byte name, a four-byte size and that many bytes, padded to even.
    long_data = None
    file.seek(12)
    while len(head := file.read(8)) == 8:
        name, size = head[:4], int.from_bytes(head[4:], order)
        start = file.tell()
        if name == b"ds64":  # RF64: the real 64-bit size of the data chunk (EBU Tech 3306)
            long_data = int.from_bytes(file.read(16)[8:16], "little")
        if name == wanted:
            if size == 0xFFFFFFFF and long_data is not None:
                size = long_data
            # Writers that can't seek back leave one of these where the size belongs.
            unknown = size in (0xFFFFFFFF, 0x7FFFFFFF, 0x7FFFF000, 0xFFFFF000) or (
                size >= 0x7FFFF000 and size & 0xFFF == 0
            )
            return None if unknown else start + size
        file.seek(start + size + size % 2)
    return None


def _ends_with_last_page(file: BinaryIO, size: int) -> bool:
    # RFC 3533: the flag 4 of a page's header marks the last page; its byte 26 counts the entries
    # of the table that follows, which add up to the page's body. At most 65,307 bytes in all.
    file.seek(max(0, size - 65_307))
    tail = file.read()
    page = tail[max(0, tail.rfind(b"OggS")) :]
    if len(page) < 27 or not page[5] & 4:
        return False
    table = page[27 : 27 + page[26]]
    return len(page) >= 27 + page[26] + sum(table)
