"""The one place that writes files: whole, private where wanted, and with the path in each error.

A file or folder is written under a temporary name beside its target and renamed at the end, so
that a reader sees the old content or the new, and never a part. If writing fails, the temporary
one is removed. Every error is an `OSError` that names the target; `mmtune.system.storage_errors`
turns it into one with a cure.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import json
import os
import shutil
import stat
import time
import uuid
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

from mmtune.errors import ConfigError
from mmtune.system.locks import locked_name
from mmtune.system.portable import BINARY, read_at, set_mode, sync
from mmtune.system.storage_errors import storage_error

PARTIAL = ".partial-"  # begins the name of what is still being written
LEFT_BEHIND = 3_600.0  # s; an older temporary file belongs to a process that was killed
SHARED = "MMTUNE_SHARED"  # environment variable: 1 gives private files the usual permissions


def write_bytes(path: Path, data: bytes, *, private: bool = False, durable: bool = False) -> None:
    """Write a file atomically: readers see the old or the new file, never a part.

    A device or a pipe, such as /dev/stdout, is written directly.

    Args:
        private: whether only the owner may read the file (`private_mode`).
        durable: wait until the disk holds the file, so that it survives a loss of power.

    Raises:
        OSError: the file can't be written; the error names `path`.
    """
    if is_stream(path):
        with _naming(path), path.open("wb") as file:
            file.write(data)
        return
    with file_aside(path, private=private, durable=durable) as partial, partial.open("wb") as file:
        file.write(data)


def write_text(path: Path, text: str, *, private: bool = False, durable: bool = False) -> None:
    """Write a text file as UTF-8, as `write_bytes` does. Half surrogates are escaped."""
    write_bytes(path, text.encode("utf-8", "backslashreplace"), private=private, durable=durable)


def write_new_text(path: Path, text: str) -> bool:
    """Write a text file as UTF-8, unless `path` exists.

    Returns:
        False if it exists; nothing is written then.

    Raises:
        OSError: the file can't be written; the error names `path`.
    """
    partial = path.with_name(f"{PARTIAL}{uuid.uuid4().hex}")
    with _naming(path, partial):
        try:
            partial.write_bytes(text.encode("utf-8", "backslashreplace"))
            os.link(partial, path)  # unlike a rename, it replaces nothing
        except FileExistsError:
            return False
        except (PermissionError, NotImplementedError):  # a file system without hard links
            if os.path.lexists(path):
                return False
            partial.replace(path)
        finally:
            with contextlib.suppress(OSError):
                partial.unlink(missing_ok=True)
    return True


def write_json(path: Path, value: Any, *, private: bool = False, durable: bool = False) -> None:
    """Write a JSON file, indented by two, as `write_bytes` does.

    Raises:
        OSError: the file can't be written.
        TypeError: `value` isn't made of JSON values.
    """
    text = json.dumps(value, indent=2, ensure_ascii=False) + "\n"
    write_text(path, text, private=private, durable=durable)


def append_text(path: Path, text: str, *, private: bool = False) -> None:
    """Append text as UTF-8; if it can't be written whole, the file keeps its old content.

    A line that a killed process left without its end is ended first.

    Args:
        private: as for `write_bytes`; an older file loses the rights of others.

    Raises:
        OSError: the file can't be written; the error names `path`.
    """
    mode = private_mode(path.parent) if private else 0o666
    data = text.encode("utf-8", "backslashreplace")
    with _naming(path):
        handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | BINARY, mode)
        try:
            found = os.fstat(handle)
            size = found.st_size
            if private and found.st_mode & 0o777 & ~mode:
                with contextlib.suppress(OSError):  # another member of the group owns it
                    set_mode(handle, found.st_mode & mode)
            if size and read_at(handle, 1, size - 1) != b"\n":
                data = b"\n" + data
            try:
                left = memoryview(data)
                while left:
                    left = left[os.write(handle, left) :]
            except OSError:
                with contextlib.suppress(OSError):
                    os.ftruncate(handle, size)
                raise
        finally:
            os.close(handle)


@contextmanager
def file_aside(path: Path, *, private: bool = False, durable: bool = False) -> Iterator[Path]:
    """Yield a temporary path beside `path` for a library to write to; at the end it is renamed.

    The temporary name ends like `path`, for libraries that choose a format by it.

    Args:
        private, durable: as for `write_bytes`.

    Raises:
        OSError: writing or renaming failed, or a library's own error says so (`storage_error`).
    """
    partial = path.with_name(f"{PARTIAL}{uuid.uuid4().hex}{path.suffix[:16]}")
    with _naming(path, partial):
        try:
            # Created first, so that nobody can read a private file while it is written.
            mode = private_mode(path.parent) if private else 0o666
            os.close(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode))
            yield partial
            if durable:
                sync(partial)
            partial.replace(path)
            if durable:
                sync(path.parent)
        finally:
            with contextlib.suppress(OSError):
                partial.unlink(missing_ok=True)


@contextmanager
def stream_aside(path: Path, *, private: bool = False) -> Iterator[BinaryIO]:
    """Yield a binary stream whose content becomes `path` at the end, as `file_aside` does."""
    with file_aside(path, private=private) as partial, partial.open("wb") as file:
        yield file


@contextmanager
def folder_aside(folder: Path, *, durable: bool = False) -> Iterator[Path]:
    """Yield an empty temporary folder that becomes `folder` at the end, in place of an older one.

    Args:
        durable: wait until the disk holds all its files.

    Raises:
        OSError: writing or renaming failed; the older folder is then still there.
    """
    partial = folder.with_name(f"{PARTIAL}{uuid.uuid4().hex}")
    old = folder.with_name(f"{PARTIAL}{uuid.uuid4().hex}")
    with _naming(folder, partial):
        try:
            partial.mkdir(parents=True)
            yield partial
            if durable:
                for path in (*partial.rglob("*"), partial):
                    sync(path)
            if not (folder.is_symlink() or folder.exists()):
                partial.rename(folder)
            elif not _exchange(partial, folder):
                folder.rename(old)
                try:
                    partial.rename(folder)
                except BaseException:
                    old.rename(folder)
                    raise
                shutil.rmtree(old, ignore_errors=True)
            if durable:
                sync(folder.parent)
        finally:
            shutil.rmtree(partial, ignore_errors=True)


@contextmanager
def aside(out: Path) -> Iterator[Path]:
    """Yield a path in a hidden folder beside `out`, for content that the caller renames to `out`.

    The hidden folder is removed at the end, with everything that was not renamed. `out` is locked
    meanwhile, so that two commands don't write the same.

    Raises:
        ConfigError: `out` exists, or is no name for a file or folder.
        Locked: another command writes `out`.
        OSError: writing failed; the error names `out`.
    """
    _require_new(out)
    if not out.name:
        raise ConfigError(f"{out} is no name for a file or folder", "give a name: --out PATH")
    folder = out.with_name(f"{PARTIAL}{uuid.uuid4().hex}")
    with _naming(out, folder):
        out.parent.mkdir(parents=True, exist_ok=True)
        with locked_name(out):
            _require_new(out)  # the last holder of the lock may have written it
            try:
                folder.mkdir()
                yield folder / out.name
            finally:
                shutil.rmtree(folder, ignore_errors=True)


def _require_new(out: Path) -> None:
    if os.path.lexists(out):
        raise ConfigError(f"{out} exists already", "choose another path: --out PATH")


def copy_file(source: Path, path: Path) -> None:
    """Copy a file's content atomically."""
    with file_aside(path) as partial:
        shutil.copyfile(source, partial)


def copy_folder(source: Path, folder: Path) -> None:
    """Copy a folder with all its files into a new folder.

    Raises:
        OSError: a file can't be read or written.
    """
    try:
        shutil.copytree(source, folder)
    except shutil.Error as error:  # it holds the errors of all files, as text
        read, written, reason = error.args[0][0]
        number = next((n for n in errno.errorcode if f"[Errno {n}]" in reason), errno.EIO)
        raise OSError(number, os.strerror(number), read, None, written) from None


def finished_files(paths: Iterable[Path]) -> list[Path]:
    """Sort files, and leave out those that a process writes or that a killed one left."""
    return sorted(path for path in paths if not path.name.startswith(PARTIAL))


def remove_partials(folder: Path) -> None:
    """Remove the temporary files that killed processes left below a folder.

    Younger ones than `LEFT_BEHIND` stay, because a process may still write them.
    """
    for path in folder.rglob(f"{PARTIAL}*"):
        with contextlib.suppress(OSError):
            if time.time() - path.lstat().st_mtime < LEFT_BEHIND:
                continue
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path, ignore_errors=True)
            else:
                path.unlink()


def private_mode(folder: Path) -> int:
    """The mode to create a private file with: transcripts, recordings, answers, pages.

    The umask applies as always.

    Returns:
        0600; 0660 in a folder whose setgid bit says that a group shares it; 0666, the usual
        permissions, if the environment variable `SHARED` is set to anything but 0.
    """
    if os.environ.get(SHARED, "") not in {"", "0"}:
        return 0o666
    return 0o660 if folder.stat().st_mode & stat.S_ISGID else 0o600


def is_stream(path: Path) -> bool:
    """Whether `path` is a device or a pipe, which can't be replaced by a file."""
    try:
        mode = path.stat().st_mode
    except (OSError, ValueError):
        return False
    return not (stat.S_ISREG(mode) or stat.S_ISDIR(mode))


def plain_name(name: str, otherwise: str) -> str:
    """Return `name` with dashes for what no file's name should hold; `otherwise` if it is empty."""
    return "".join(c if c.isalnum() or c in "-_" else "-" for c in name) or otherwise


def unique_name(name: str, taken: Collection[str]) -> str:
    """Return `name`, or `name-2`, `name-3` … : the first that isn't in `taken`."""
    return first_free(name, taken.__contains__)


def first_free(name: str, taken: Callable[[str], bool]) -> str:
    """Return `name`, or `name-2`, `name-3` … : the first that isn't `taken`."""
    unique, number = name, 1
    while taken(unique):
        number += 1
        unique = f"{name}-{number}"
    return unique


@contextmanager
def _naming(path: Path, partial: Path | None = None) -> Iterator[None]:
    """Let each error of storage inside the context be an `OSError` that names `path`.

    An error that names another file passes unchanged, because a context may also read files.

    Args:
        path: what the user knows.
        partial: the temporary file or folder, whose name would puzzle the user.
    """
    try:
        yield
    except Exception as error:
        found = storage_error(error, path, partial)
        if found is None:
            raise
        raise found from error


def _exchange(one: Path, other: Path) -> bool:
    """Exchange two folders in one step, so that a kill loses neither.

    Returns:
        False if the system or the file system can't: only Linux can, on most local disks.

    Raises:
        OSError: it failed for another reason.
    """
    try:
        rename = ctypes.CDLL(None, use_errno=True).renameat2
    except (OSError, TypeError, AttributeError):
        return False
    current, exchange = -100, 2  # AT_FDCWD and RENAME_EXCHANGE of linux/fcntl.h and linux/fs.h
    if rename(current, os.fsencode(one), current, os.fsencode(other), exchange) == 0:
        return True
    number = ctypes.get_errno()
    if number in (errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP):
        return False
    raise OSError(number, os.strerror(number), str(one), None, str(other))
