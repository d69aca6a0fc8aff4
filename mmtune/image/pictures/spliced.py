"""A file that is read as if pieces of it were left out or replaced, without a copy."""

from __future__ import annotations

import io
from bisect import bisect_right
from typing import Any, BinaryIO, cast

Piece = bytes | tuple[int, int]


def spliced(file: BinaryIO, pieces: list[Piece]) -> BinaryIO:
    """Read pieces of a file, one after the other.

    Args:
        file: the file; it must stay open as long as the result is used.
        pieces: bytes, or a start and an end in the file.
    """
    return cast(BinaryIO, io.BufferedReader(Spliced(file, pieces)))


class Spliced(io.RawIOBase):
    """The reader behind `spliced`."""

    def __init__(self, file: BinaryIO, pieces: list[Piece]) -> None:
        self._file = file
        self._pieces = pieces
        self._starts: list[int] = []
        self._size = self._place = 0
        for piece in pieces:
            self._starts.append(self._size)
            self._size += len(piece) if isinstance(piece, bytes) else piece[1] - piece[0]

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        start = {io.SEEK_SET: 0, io.SEEK_CUR: self._place, io.SEEK_END: self._size}[whence]
        self._place = max(0, start + offset)
        return self._place

    def readinto(self, buffer: Any) -> int:
        target = memoryview(buffer).cast("B")
        if self._place >= self._size:
            return 0
        index = bisect_right(self._starts, self._place) - 1
        piece, within = self._pieces[index], self._place - self._starts[index]
        if isinstance(piece, bytes):
            data = piece[within : within + len(target)]
        else:
            self._file.seek(piece[0] + within)
            data = self._file.read(min(len(target), piece[1] - piece[0] - within))
        target[: len(data)] = data
        self._place += len(data)
        return len(data)
