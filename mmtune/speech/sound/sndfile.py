"""Decode WAV, AIFF, CAF, FLAC, Ogg Vorbis, Ogg Opus and MP3 with libsndfile.

libsndfile reads truncated WAV, AIFF and Ogg files without an error, so this module compares their
size with the length that the container promises.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, Literal

import numpy as np
import soundfile
from numpy.typing import NDArray

from mmtune.speech.sound.info import (
    CONVERT,
    COPY_AGAIN,
    AudioFault,
    AudioInfo,
    not_finite,
    require_size,
)

UNKNOWN = 2**60  # frames: libsndfile returns its largest number if a header says 0
BLOCK = 65_536  # frames decoded at a time


def probe(path: Path) -> AudioInfo | None:
    """Read and check the header of a regular file; None if libsndfile can't open it.

    Raises:
        AudioFault: the length is unknown, or the file is truncated or a size bomb.
    """
    try:
        with soundfile.SoundFile(path) as file:
            info = AudioInfo(int(file.frames), int(file.samplerate), int(file.channels))
    except (soundfile.SoundFileError, OSError, TypeError, ValueError):
        return None  # libsndfile's message misleads: it says that a damaged file doesn't exist
    if info.frames > UNKNOWN:
        raise AudioFault(
            "undecodable",
            f"{path} does not state its length; it was probably written to a pipe",
            CONVERT,
        )
    require_size(path, info)
    require_whole(path)
    return info


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
        with soundfile.SoundFile(path) as file:
            if first:
                file.seek(first)
            while len(block := file.read(min(BLOCK, wanted - done), "float32", True)):
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
    if done != last:
        word = "holds only" if done < last else "continues after"
        raise AudioFault(
            "truncated" if done < last else "size-bomb",
            f"{path} claims {info.seconds:.2f} s but {word} {done / info.rate:.2f} s",
            f"{COPY_AGAIN}, or {CONVERT}",
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
    if claimed is not None and claimed > size:
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
