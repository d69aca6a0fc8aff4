"""Read files: regular files only, text and lines up to a stated size, and JSON with one error.

A pipe in place of a file could block for ever, a line could fill the memory, and a damaged file
raises a dozen kinds of exceptions. So all of mmtune reads text and its own JSON through here.
"""

from __future__ import annotations

import errno
import io
import json
import os
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, AnyStr, BinaryIO, TextIO

from mmtune.errors import ConfigError, DataError, MmtuneError, first_line
from mmtune.system.pointers import require_content
from mmtune.system.portable import BINARY, make_blocking

MAX_TEXT = 64 * 2**20  # bytes of a text file that a user writes: terms, captions, sentences
PIECE = 2**20  # bytes that are read at once
# What a reader of damaged content raises. RecursionError: it is nested too deeply.
DAMAGE = (ValueError, KeyError, TypeError, AttributeError, IndexError, RecursionError)


def opened(path: Path) -> BinaryIO:
    """Open a regular file to read its bytes.

    Raises:
        OSError: there is no such file, it can't be read, or it is a pipe or a device.
    """
    # Without O_NONBLOCK, opening a pipe waits for a program that writes to it.
    handle = os.open(path, os.O_RDONLY | BINARY | getattr(os, "O_NONBLOCK", 0))
    try:
        require_regular(path, handle)
        make_blocking(handle)
        return os.fdopen(handle, "rb")
    except BaseException:
        os.close(handle)
        raise


def opened_text(path: Path) -> TextIO:
    """Open a regular UTF-8 text file, with line ends as they are; a byte-order mark is left out.

    Raises:
        OSError: as `opened`.
    """
    return io.TextIOWrapper(opened(path), encoding="utf-8-sig", newline="")


def require_regular(path: Path, handle: int | None = None) -> None:
    """Refuse pipes, devices and folders, for libraries that open a path themselves.

    Args:
        path: the file.
        handle: its descriptor, if it is open.

    Raises:
        OSError: `path` is missing or is no regular file.
    """
    mode = (os.fstat(handle) if handle is not None else path.stat()).st_mode
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    if not stat.S_ISREG(mode):
        raise OSError(errno.ESPIPE, "it is a pipe or a device, not a file", str(path))


def is_file(path: Path) -> bool:
    """Whether there is such a file; unlike `Path.is_file`, False for a name that is too long.

    Use it for names that users' tables, manifests and settings state.

    Raises:
        OSError: a folder on the way can't be read.
    """
    return _unless_too_long(path.is_file)


def exists(path: Path) -> bool:
    """Whether there is such a file or folder; as `is_file`."""
    return _unless_too_long(path.exists)


def _unless_too_long(is_there: Callable[[], bool]) -> bool:
    try:
        return is_there()
    except OSError as error:
        if error.errno != errno.ENAMETOOLONG:
            raise
        return False


def read_bytes(path: Path, most: int = MAX_TEXT) -> bytes:
    """Read a regular file of at most `most` bytes.

    Raises:
        OSError: it can't be read.
        DataError: it is larger.
    """
    pieces, size = [], 0
    with opened(path) as file:
        # Asked for `most` bytes at once, Python takes that much memory, however small the file is.
        while size <= most and (piece := file.read(min(PIECE, most + 1 - size))):
            pieces.append(piece)
            size += len(piece)
    if size > most:
        raise DataError(f"{path} has more than {most:,} bytes", "check that it is the right file")
    return b"".join(pieces)


def read_text(path: Path, encoding: str = "utf-8-sig", most: int = MAX_TEXT) -> str:
    """Read a text file of at most `most` bytes; line ends become "\\n".

    Raises:
        OSError: it can't be read.
        DataError: it is larger, or is a pointer of Git LFS.
        UnicodeDecodeError: it isn't text of this encoding.
    """
    require_content(path)
    text = read_bytes(path, most).decode(encoding)
    return text.replace("\r\n", "\n").replace("\r", "\n")


def lines_up_to(file: IO[AnyStr], most: int) -> Iterator[AnyStr]:
    """Yield the lines of an open file with their ends; of a longer one `most` + 1 characters.

    The rest of a longer line is skipped piece by piece, so that it never fills the memory.

    Args:
        file: opened to read text or bytes.
        most: the characters or bytes of a line.
    """
    while line := file.readline(most + 1):
        yield line
        while len(line) > most and line and not _ended(line):
            line = file.readline(most + 1)


def short_lines(file: TextIO, most: int) -> Iterator[str]:
    """Yield the lines of an open text file.

    Raises:
        ValueError: a line has more than `most` characters.
    """
    for number, line in enumerate(lines_up_to(file, most), start=1):
        if len(line) > most:
            raise ValueError(f"line {number} has more than {most:,} characters")
        yield line


def reason_of(error: BaseException) -> str:
    """Why a file can't be read, without the path, which the caller's message names."""
    if isinstance(error, UnicodeDecodeError):
        return "it is not UTF-8 text"
    return getattr(error, "strerror", None) or first_line(error)


def _ended(line: str | bytes) -> bool:
    return line.endswith(("\n", "\r")) if isinstance(line, str) else line.endswith(b"\n")


def read_json(path: Path, cure: str, kind: type[MmtuneError] = ConfigError) -> Any:
    """Read a JSON file that mmtune wrote.

    Args:
        path: the file.
        cure: how to get the file back, if it is damaged.
        kind: the class of the error.

    Raises:
        FileNotFoundError: there is no such file; the caller knows what that means.
        OSError: the file can't be read.
        MmtuneError: of class `kind`: it isn't UTF-8 or JSON; the error names the file and `cure`.
    """
    with damaged(path, cure, kind):
        return json.loads(read_bytes(path, most=2**31).decode("utf-8"))


def read_json_object(
    path: Path, cure: str, kind: type[MmtuneError] = ConfigError
) -> dict[str, Any]:
    """Read a JSON file whose value is an object; otherwise as `read_json`."""
    value = read_json(path, cure, kind)
    with damaged(path, cure, kind):
        return _object(value)


def read_json_lines(
    path: Path, cure: str, kind: type[MmtuneError] = ConfigError
) -> Iterator[dict[str, Any]]:
    """Yield the objects of a JSONL file that mmtune wrote, one a line.

    Args:
        path, cure, kind: as for `read_json`.

    Raises:
        OSError: the file can't be read.
        MmtuneError: of class `kind`: a line is damaged; the error names it.
    """
    with opened(path) as file:
        for number, line in enumerate(lines_up_to(file, MAX_TEXT), start=1):
            if line.strip():
                with damaged(f"{path}, line {number}", cure, kind):
                    value = _object(json.loads(line.decode("utf-8")))
                yield value


def numbered_json_lines(path: Path) -> Iterator[tuple[int, dict[str, Any] | None]]:
    """Yield the objects of a JSONL file with the numbers of their lines; None: it is damaged.

    Raises:
        OSError: the file can't be read.
    """
    with opened(path) as file:
        for number, line in enumerate(lines_up_to(file, MAX_TEXT), start=1):
            if line.strip():
                try:
                    yield number, _object(json.loads(line.decode("utf-8")))
                except (ValueError, TypeError, RecursionError):
                    yield number, None


def intact_json_lines(path: Path) -> Iterator[dict[str, Any]]:
    """Yield the undamaged objects of a JSONL file, for files of which a line may be lost.

    A kill cuts the last line off, and a bad sector damages any of them.

    Raises:
        OSError: the file can't be read.
    """
    yield from (value for _, value in numbered_json_lines(path) if value is not None)


def stored_key(path: Path) -> str:
    """The value of "key" in a JSON file that says of what made its folder is; empty if damaged."""
    try:
        return str(read_json_object(path, "")["key"])
    except (OSError, MmtuneError, KeyError):
        return ""


@contextmanager
def damaged(path: Path | str, cure: str, kind: type[MmtuneError] = ConfigError) -> Iterator[None]:
    """Turn what a reader of damaged content raises into one error that names the file.

    Only the reading belongs into the context: elsewhere a `TypeError` is a fault of mmtune.

    Args:
        path: the file, or a line of it.
        cure, kind: as for `read_json`.

    Raises:
        MmtuneError: of class `kind`.
    """
    try:
        yield
    except RecursionError:
        raise kind(f"{path} can't be read: it is nested too deeply", cure) from None
    except UnicodeDecodeError:
        raise kind(f"{path} can't be read: it is not UTF-8 text", cure) from None
    except DAMAGE as error:
        raise kind(f"{path} can't be read: {_reason(error)}", cure) from None


def _reason(error: BaseException) -> str:
    if isinstance(error, KeyError):
        return f"the key {error} is missing"
    errors = getattr(error, "errors", None)
    if callable(errors):  # pydantic's: the first wrong value
        first = errors(include_url=False)[0]
        where = ".".join(map(str, first["loc"]))
        return f"{where}: {first['msg']}" if where else str(first["msg"])
    return first_line(error)


def _object(value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise TypeError(f"it holds a JSON {type(value).__name__}, not an object")
    return value
