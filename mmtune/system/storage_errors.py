"""Turn errors of the operating system, and of libraries that write files, into errors with a cure.

`storage_error` gives a library's own error the class and number that the operating system uses, so
that one table (`CURES`) explains all of them. `translated` is the border: the command line and the
public functions run inside it.
"""

from __future__ import annotations

import errno
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mmtune.errors import MmtuneError, first_line

# For each number: what happened in words, and the cure.
CURES: dict[int, tuple[str, str]] = {
    errno.ENOSPC: (
        "the disk is full",
        "free space, or choose a folder on a larger disk; then repeat the command",
    ),
    errno.EDQUOT: (
        "your quota of disk space is used up",
        "delete files of yours on this disk, or choose a folder on another one",
    ),
    errno.EFBIG: (
        "the file is larger than this system allows",
        "raise the limit (ulimit -f), or choose a folder on another file system",
    ),
    errno.EROFS: ("the file system is read-only", "choose a folder that can be written"),
    errno.EACCES: (
        "permission denied",
        "change the permissions of the file and of its folder, or choose another path",
    ),
    errno.EPERM: (
        "the operation is not permitted",
        "change the owner or the permissions, or choose another path",
    ),
    errno.ENOENT: (
        "no such file or folder",
        "correct the path; if the folder was moved or deleted meanwhile, restore it",
    ),
    errno.ENOTDIR: ("a part of the path is a file, not a folder", "correct the path"),
    errno.EISDIR: ("it is a folder, not a file", "give the path of a file"),
    errno.ESPIPE: (
        "it is a pipe or a device, not a file",
        "save the content in a file, and give the path of that file",
    ),
    errno.EEXIST: ("it exists already", "choose another path"),
    errno.ENOTEMPTY: ("the folder is not empty", "choose another folder"),
    errno.ENAMETOOLONG: (
        "the name or path is too long",
        "choose a shorter name; most file systems allow 255 bytes",
    ),
    errno.ELOOP: ("its symbolic links lead in a circle", "correct the links"),
    errno.EMFILE: (
        "this process has too many open files",
        "raise the limit: ulimit -n 4096; then repeat the command",
    ),
    errno.ENFILE: ("the system has too many open files", "close other programs"),
    errno.EIO: (
        "the disk reports an error",
        "check the disk and its connection; copy the data to another disk",
    ),
    errno.ESTALE: (
        "the network folder has changed on its server",
        "mount the folder again, then repeat the command",
    ),
    errno.EINVAL: (
        "the file system refuses this operation or name",
        "choose another name, or a folder on another file system",
    ),
    errno.EILSEQ: (
        "the file system refuses the characters of this name",
        "choose a name of plain letters and digits",
    ),
    errno.EBUSY: ("another program uses it", "end the other program, or choose another path"),
    errno.ETXTBSY: ("another program runs it", "end the other program, or choose another path"),
    errno.EXDEV: ("the two paths are on different disks", "choose a path on the same disk"),
    errno.ENODEV: ("the device is missing", "connect the device, or choose another path"),
    errno.ENXIO: ("the device is missing", "connect the device, or choose another path"),
    errno.ENOTSUP: (
        "the file system doesn't support this operation",
        "choose a folder on another file system",
    ),
    errno.ENOLCK: (
        "the file system can't lock files",
        "choose a folder on another file system",
    ),
    errno.ENOMEM: ("out of memory", "close other programs, or use a machine with more memory"),
    errno.ECONNREFUSED: ("the connection was refused", "check the network, then repeat it"),
    errno.ECONNRESET: ("the connection was interrupted", "check the network, then repeat it"),
    errno.ETIMEDOUT: ("the connection timed out", "check the network, then repeat it"),
    errno.ENETUNREACH: ("the network can't be reached", "check the network, then repeat it"),
    errno.EHOSTUNREACH: ("the host can't be reached", "check the network, then repeat it"),
}
OS_ERROR = re.compile(r"\(os error (\d+)\)")  # how Rust's libraries end their messages
# PyTorch's writer and reader of files raise a bare RuntimeError; these words name them.
TORCH_FILES = ("pytorchstreamwriter", "pytorchstreamreader", "inline_container")
LOW = 64 * 1024  # bytes; a disk with fewer free ones is full


def storage_error(error: BaseException, path: Path, partial: Path | None) -> OSError | None:
    """The operating system's error behind a failed write, with the path of what was written.

    Args:
        error: what the writer raised: an OSError, or a library's own class.
        path: the file or folder that was to be written; it may not exist yet.
        partial: the temporary file or folder that was to become `path`, if there is one.

    Returns:
        None if `error` isn't about `path`: it names another file, or is no error of storage.
    """
    number = 0
    if isinstance(error, OSError):
        # `write` and `close` name no file at all.
        named = [os.fsdecode(n) for n in (error.filename, error.filename2) if _is_name(n)]
        ours = [str(each) for each in (path, partial) if each is not None]
        # Of two names the second is where something was copied or moved to.
        if all(any(f"{name}/".startswith(f"{each}/") for each in ours) for name in named[-1:]):
            number = error.errno or 0
    elif found := OS_ERROR.search(str(error)):
        number = int(found[1]) if int(found[1]) != errno.ENOENT else 0  # that is a missing input
    elif _by_torch(error) and "pytorchstreamreader" not in str(error).lower():
        number = _guess(path)
    if not number:
        return None
    parent = path.parent
    missing = number == errno.ENOENT and not parent.exists()
    return OSError(number, os.strerror(number), str(parent if missing else path))


def _by_torch(error: BaseException) -> bool:
    text = str(error).lower()
    return isinstance(error, RuntimeError) and any(words in text for words in TORCH_FILES)


def _guess(path: Path) -> int:
    """The likely reason of a failed write whose library doesn't say why."""
    folder = path.parent
    if not folder.is_dir():
        return errno.ENOENT
    if shutil.disk_usage(folder).free < LOW:
        return errno.ENOSPC
    return errno.EIO if os.access(folder, os.W_OK) else errno.EACCES


def explained(error: BaseException) -> MmtuneError | None:
    """An error of the operating system or of a file library as one with a path and a cure.

    Returns:
        None for every other class: those are mmtune's own faults and keep their traceback.
    """
    if isinstance(error, OSError):
        return _explained(error)
    text = first_line(error)
    if found := OS_ERROR.search(str(error)):
        number = int(found[1])
        return _explained(OSError(number, os.strerror(number)), text)
    if type(error).__module__.partition(".")[0] == "safetensors" or _by_torch(error):
        return MmtuneError(
            f"a file of weights can't be read or written: {text}",
            "restore the file from a copy, or make it again; check that the disk isn't full",
        )
    return None


def _explained(error: OSError, text: str = "") -> MmtuneError | None:
    named = [os.fsdecode(name) for name in (error.filename, error.filename2) if _is_name(name)]
    where = " -> ".join(dict.fromkeys(named))
    number = error.errno or 0
    if number not in CURES:
        if number > 0 and not where:
            return None  # such as EBADF: a fault of mmtune's own
        reason = error.strerror or text or first_line(error)
        cure = "check the file, folder or connection that it names; then repeat the command"
        return MmtuneError(f"{where}: {reason}" if where else reason, cure)
    reason, cure = CURES[number]
    return MmtuneError(f"{where}: {reason}" if where else text or reason, cure)


def _is_name(value: object) -> bool:
    return isinstance(value, str | bytes | os.PathLike) and bool(os.fspath(value))


@contextmanager
def translated() -> Iterator[None]:
    """Raise the errors that `explained` knows as `MmtuneError`; others pass unchanged.

    A broken pipe passes too: the program that reads the output has ended, which is no error.

    Raises:
        MmtuneError: with a path, a reason and a cure.
    """
    try:
        yield
    except BrokenPipeError:
        raise
    except Exception as error:
        found = None if isinstance(error, MmtuneError) else explained(error)
        if found is None:
            raise
        raise found from error
