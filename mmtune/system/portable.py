"""What Linux and macOS do and Windows does otherwise: locks, positions in files, processes."""

from __future__ import annotations

import contextlib
import errno
import os
import sys
from pathlib import Path

# For `os.open`: Windows otherwise changes line ends and ends a file at Ctrl-Z.
BINARY = getattr(os, "O_BINARY", 0)
LOCKED_BYTE = 2**30  # the byte that a lock covers on Windows: others may still read the record
UNSUPPORTED = {errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOLCK, errno.EINVAL}


def lock_file(handle: int) -> bool | None:
    """Lock an open file until it is closed or this process ends.

    `flock` does it, and on Windows `msvcrt.locking`.

    Returns:
        False if another holds it; None if the system or the file system has no such lock.
    """
    try:
        import fcntl
    except ImportError:
        return _lock_on_windows(handle)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in UNSUPPORTED:
            return None
        if error.errno in (errno.EAGAIN, errno.EACCES):
            return False
        raise
    return True


def _lock_on_windows(handle: int) -> bool | None:
    try:
        import msvcrt
    except ImportError:
        return None
    os.lseek(handle, LOCKED_BYTE, os.SEEK_SET)
    try:
        msvcrt.locking(handle, msvcrt.LK_NBLCK, 1)  # type: ignore[attr-defined]
    except OSError as error:
        if error.errno in (errno.EACCES, errno.EAGAIN, errno.EDEADLK):
            return False
        if error.errno in UNSUPPORTED:
            return None
        raise
    return True


def read_at(handle: int, size: int, offset: int) -> bytes:
    """Read up to `size` bytes of an open file at a position."""
    if hasattr(os, "pread"):
        return os.pread(handle, size, offset)
    os.lseek(handle, offset, os.SEEK_SET)
    return os.read(handle, size)


def write_at(handle: int, data: bytes, offset: int) -> None:
    """Write to an open file at a position."""
    if hasattr(os, "pwrite"):
        os.pwrite(handle, data, offset)
        return
    os.lseek(handle, offset, os.SEEK_SET)
    os.write(handle, data)


def touch(handle: int, path: Path) -> None:
    """Set the time of an open file to now; Windows takes its path instead."""
    os.utime(handle if os.utime in os.supports_fd else path)


def close(handle: int, remove: Path | None = None) -> None:
    """Close an open file, and remove it before; on Windows after, which removes no open file.

    Args:
        remove: its path; None: it stays.
    """
    if os.name == "nt":
        os.close(handle)
    if remove is not None:
        with contextlib.suppress(OSError):
            remove.unlink()
    if os.name != "nt":
        os.close(handle)


def is_running(pid: int) -> bool:
    """Whether a process exists."""
    import psutil

    try:
        return bool(psutil.pid_exists(pid))
    except OverflowError:  # a number that no process has
        return False


def peak_resident() -> int:
    """The most bytes of memory that this process has occupied so far."""
    try:
        import resource
    except ImportError:
        import psutil

        found = psutil.Process().memory_info()
        return int(getattr(found, "peak_wset", found.rss))
    scale = 1 if sys.platform == "darwin" else 1024  # ru_maxrss is in bytes on macOS, else in KiB
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * scale


def make_blocking(handle: int) -> None:
    """Let reads of a file that was opened with O_NONBLOCK wait for data again."""
    if hasattr(os, "O_NONBLOCK"):
        os.set_blocking(handle, True)


def set_mode(handle: int, mode: int) -> None:
    """Set the permissions of an open file, where the system has such."""
    if hasattr(os, "fchmod"):
        os.fchmod(handle, mode)


def sync(path: Path) -> None:
    """Wait until the disk holds a file or a folder's list of files.

    Windows opens no folder, and needs the right to write for a file.
    """
    on_windows = os.name == "nt"
    if on_windows and path.is_dir():
        return
    handle = os.open(path, os.O_RDWR if on_windows else os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
