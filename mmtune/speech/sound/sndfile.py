"""Decode WAV, AIFF, CAF, FLAC, Ogg Vorbis, Ogg Opus and MP3 with libsndfile.

The length in a header is a claim. libsndfile reads truncated WAV, AIFF and Ogg files without an
error, and nothing of a WAV whose recorder never wrote its size. So this module compares the size of
the file with what the container promises, and gives libsndfile the right size where the promise is
0 or counts the header too. Lengths that only the data tells are left to FFmpeg (`pyav`).
"""

from __future__ import annotations

import io
import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, BinaryIO, Literal

import numpy as np
import soundfile
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

UNKNOWN = 2**60  # frames: libsndfile returns its largest number if a header says 0
BLOCK = 65_536  # frames decoded at a time


def probe(path: Path) -> AudioInfo | None:
    """Read and check the header of a regular file.

    Returns:
        The header; None if libsndfile can't open the file or doesn't know its length.

    Raises:
        AudioFault: the file is truncated or a size bomb.
    """
    try:
        with _opened(path) as file:
            info = AudioInfo(int(file.frames), int(file.samplerate), int(file.channels))
    except (soundfile.SoundFileError, OSError, TypeError, ValueError):
        return None  # libsndfile's message misleads: it says that a damaged file doesn't exist
    if info.frames > UNKNOWN:
        return None  # a FLAC that was written to a pipe
    require_size(path, info)
    require_whole(path)
    right = _right_size(path)
    if right is not None:
        info = replace(info, note=f"its header states a length of {right.stated} bytes of sound")
    return info


@contextmanager
def _silent_stderr() -> Iterator[None]:
    """Discard what C libraries write to standard error inside the context."""
    try:
        kept = os.dup(2)
    except OSError:  # it is closed
        yield
        return
    nothing = os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nothing, 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nothing)


def decode(path: Path, info: AudioInfo, first: int, last: int) -> Iterator[NDArray[np.float32]]:
    """Decode frames `first` to `last` of a probed file, holding one block at a time.

    Yields:
        [frames, channels] float32.

    Raises:
        AudioFault: fewer or more frames than `info` claims, damaged data, NaN or Inf samples.
    """
    done = first
    # Ask for one frame more than claimed: a file that has it lies about its size.
    wanted = last + 1 if last == info.frames else last
    try:
        with _opened(path) as file:

            def read() -> NDArray[np.float32]:
                # libmpg123 writes errors to the terminal also about frames that it decodes to the
                # samples that FFmpeg gives, and about those that it skips after a seek.
                with _silent_stderr() if file.format == "MP3" else nullcontext():
                    return np.asarray(file.read(min(BLOCK, wanted - done), "float32", True))

            if first:
                file.seek(first)
            while len(block := read()):
                finite = np.isfinite(block).all(axis=1)
                if not finite.all():
                    raise not_finite(path, (done + int(finite.argmin())) / info.rate)
                done += len(block)
                if done > last:
                    break
                yield block
    except (soundfile.SoundFileError, OSError) as error:
        kind = "truncated" if done < info.frames else "undecodable"
        raise AudioFault(
            kind,
            f"{path} ends after {done / info.rate:.2f} of {info.seconds:.2f} s: "
            + str(error).rstrip("."),
            COPY_AGAIN,
        ) from None
    except ValueError:  # of a negative number of frames, which only a damaged file leads to
        raise AudioFault(
            "undecodable",
            f"{path} is damaged: the length that its header states does not fit its sound",
            f"{COPY_AGAIN}, or {CONVERT}",
        ) from None
    if done != last:
        word = "holds only" if done < last else "continues after"
        raise AudioFault(
            "truncated" if done < last else "size-bomb",
            f"{path} claims {info.seconds:.2f} s but {word} {done / info.rate:.2f} s",
            CUT_TEXT if done < last else f"{COPY_AGAIN}, or {CONVERT}",
        )


def require_whole(path: Path) -> None:
    """Raise if the file has fewer bytes than its container promises.

    libsndfile shortens WAV, AIFF and Ogg to the bytes that exist, without an error.

    Raises:
        AudioFault: the file is truncated.
    """
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
                    f"{path} has no final Ogg page: the end of the recording is missing",
                    COPY_AGAIN,
                )
            return
        else:
            return
    if claimed is not None and claimed > size and _right_size(path) is None:
        raise AudioFault(
            "truncated",
            f"{path} has {size} bytes, but its header promises {claimed}",
            COPY_AGAIN,
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
            # Programs that can't seek back leave one of these values in place of the size.
            unknown = size in (0xFFFFFFFF, 0x7FFFFFFF, 0x7FFFF000, 0xFFFFF000) or (
                size >= 0x7FFFF000 and size & 0xFFF == 0
            )
            return None if unknown else start + size
        file.seek(start + size + size % 2)
    return None


@dataclass(frozen=True)
class _Size:
    """A wrong size field of a sound chunk: its place, what it states, and what is right."""

    at: int
    stated: int
    right: int


def _right_size(path: Path) -> _Size | None:
    """Find the size of a WAV's sound where its header states 0, or counts the header too.

    Recorders leave 0 when they end without closing the file; other programs write the size of the
    file in place of the sound's.
    """
    with path.open("rb") as file:
        head = file.read(12)
        if head[:4] != b"RIFF" or head[8:] != b"WAVE":
            return None
        size = os.fstat(file.fileno()).st_size
        while len(chunk := file.read(8)) == 8:
            stated, start = int.from_bytes(chunk[4:], "little"), file.tell()
            if chunk[:4] != b"data":
                file.seek(start + stated + stated % 2)
                continue
            left = size - start
            empty = stated == 0 and left > 0 and not _is_chunk(file.read(8), left)
            header_too = stated - left in (start, start - 8)  # the file's size, or RIFF's
            return _Size(start - 4, stated, left) if empty or header_too else None
    return None


def _is_chunk(head: bytes, left: int) -> bool:
    # A chunk behind a sound of 0 bytes: a name of letters, and a size that fits the file.
    return (
        len(head) == 8
        and head[:4].isascii()
        and head[:4].decode().strip().isalnum()
        and int.from_bytes(head[4:], "little") <= left - 8
    )


class _Resized(io.FileIO):
    """A file whose bytes are those on disk, but for the four of a size field."""

    def __init__(self, path: Path, size: _Size) -> None:
        super().__init__(path)
        self._at, self._bytes = size.at, size.right.to_bytes(4, "little")

    def readinto(self, buffer: Any) -> int:
        at = self.tell()
        count = super().readinto(buffer) or 0
        for i, byte in enumerate(self._bytes, self._at - at):
            if 0 <= i < count:
                memoryview(buffer).cast("B")[i] = byte
        return count

    def read(self, size: int | None = -1) -> bytes:
        left = os.fstat(self.fileno()).st_size - self.tell()
        data = bytearray(left if size is None or size < 0 else min(size, left))
        return bytes(data[: self.readinto(data)])


@contextmanager
def _opened(path: Path) -> Iterator[soundfile.SoundFile]:
    wrong = _right_size(path)
    with ExitStack() as stack:
        source = path if wrong is None else stack.enter_context(_Resized(path, wrong))
        yield stack.enter_context(soundfile.SoundFile(source))


def stated_frames(path: Path) -> int | None:
    """Return the samples per channel that an MP3 states, in a Xing, Info or VBRI frame.

    Without such a frame libsndfile guesses the length from the first frame's bit rate.
    """
    with path.open("rb") as file:
        first = first_bytes(file, 512)
    for word, place in ((b"Xing", 8), (b"Info", 8), (b"VBRI", 14)):
        at = first.find(word)
        counts = word == b"VBRI" or (at >= 0 and first[at + 7] & 1)  # a flag: frames are counted
        if at >= 0 and counts:
            samples = 1152 if first[1] >> 3 & 3 == 3 else 576  # a frame of MPEG-1, or of MPEG-2
            return int.from_bytes(first[at + place : at + place + 4], "big") * samples
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
