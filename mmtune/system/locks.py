"""Locks: one command at a time works in a folder, and the next one is told which.

A lock is a file that its holder locks with `flock` (on Windows with `msvcrt.locking`), so it ends
with the process, however that ends. The file holds a record of the holder and is touched every few
seconds while the lock is held. On a file system without such locks the file's existence is the
lock, and the record and the file's age tell whether the holder still runs. Some cluster file
systems keep `flock` to one machine. So the record of another machine counts there too.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import shlex
import socket
import stat
import sys
import threading
import time
import uuid
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

from mmtune.errors import MmtuneError, printable
from mmtune.system.portable import (
    BINARY,
    close,
    is_running,
    lock_file,
    read_at,
    touch,
    write_at,
)

LOCK = ".lock"  # in the folder that is locked
BREAK = "MMTUNE_BREAK_LOCK"  # environment variable: take the lock of another machine's dead process
BEAT = 10.0  # s between two touches of a lock's file
STALE = 60.0  # s without a touch after which the holder counts as dead
MAX_RECORD = 65_536  # bytes; a longer file is no record

State = Literal["free", "held", "stale"]


class Locked(MmtuneError):
    """Another command works in the folder."""


@dataclass(frozen=True)
class Holder:
    """The process that holds a lock.

    Attributes:
        host: name of its machine.
        boot: id of the machine's boot; process ids are only comparable within one.
        pid: its process id.
        started: when the process started, in clock ticks since the boot, because process ids are
            used again; "" where the system doesn't tell.
        since: when it took the lock, in words.
        command: its command line.
    """

    host: str
    boot: str
    pid: int
    started: str
    since: str
    command: str

    def describe(self) -> str:
        """Name the command, process, machine and time, for an error."""
        return printable(
            f"`{self.command}` (process {self.pid} on {self.host}, since {self.since})"
        )


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold the lock of an existing folder until the context ends.

    Raises:
        Locked: another process, or another thread of this one, holds it.
        MmtuneError: the lock can't be written.
    """
    with hold(folder / LOCK, folder):
        yield


@contextlib.contextmanager
def locked_name(path: Path) -> Iterator[None]:
    """Hold the lock of a file or folder that needn't exist yet; the lock's file lies beside it.

    Raises:
        Locked: another process, or another thread of this one, holds it.
        MmtuneError: the lock can't be written.
    """
    with hold(path.parent / f".{path.name}.lock", path):
        yield


@contextlib.contextmanager
def hold(path: Path, what: Path, *, take_stale: bool = False) -> Iterator[None]:
    """Hold the lock whose file is `path` until the context ends; the file is then removed.

    Args:
        path: the lock's file.
        what: the file or folder that the lock protects, for the error.
        take_stale: take the lock of another machine that gives no sign of life without being told.

    Raises:
        Locked: another process, or another thread of this one, holds it.
        MmtuneError: the lock can't be written.
    """
    try:
        file = _acquire(path, what, take_stale or bool(os.environ.get(BREAK)))
    except OSError as error:
        raise MmtuneError(
            f"{what} can't be locked for this command: {path}: {error.strerror or error}",
            f"make {path.parent} writable and free disk space; if {path.name} is no regular file, "
            "delete it",
        ) from None
    ended = threading.Event()
    beat = threading.Thread(target=_beat, args=(file, path, ended), name="lock", daemon=True)
    beat.start()
    try:
        yield
    finally:
        ended.set()
        beat.join()
        ours = False
        with contextlib.suppress(OSError):
            ours = _same(file, path)
        close(file, path if ours else None)


@contextlib.contextmanager
def hold_when_free(path: Path, what: Path, seconds: float = 600.0) -> Iterator[None]:
    """Like `hold`, for short work that any holder may end: wait until the holder is gone.

    Args:
        path: the lock's file.
        what: the file or folder that the lock protects, for the error.
        seconds: the most to wait.

    Raises:
        Locked: the lock is still held then.
        MmtuneError: the lock can't be written.
    """
    deadline = time.monotonic() + seconds
    while True:
        with contextlib.ExitStack() as stack:
            try:
                stack.enter_context(hold(path, what, take_stale=True))
            except Locked:
                if time.monotonic() > deadline:
                    raise
            else:
                yield
                return
        time.sleep(0.05)


def held(path: Path) -> bool:
    """Whether a process holds the lock whose file is `path`. The lock is not taken."""
    try:
        file = _open(path)
    except OSError:
        return False
    try:
        free = lock_file(file)
        return free is False or _state(file, path, native=free is not None) == "held"
    finally:
        os.close(file)


def _acquire(path: Path, what: Path, take_stale: bool) -> int:
    """Take the lock, and return the descriptor of its file."""
    while True:
        file, created = _open_or_create(path)
        try:
            if _take(file, path, what, created, take_stale):
                return file
        except BaseException:
            os.close(file)
            raise
        os.close(file)


def _take(file: int, path: Path, what: Path, created: bool, take_stale: bool) -> bool:
    """Take the lock of an opened file; False: the file is no longer the lock's, so try again."""
    native = lock_file(file)
    if native is False:
        raise _refusal(what, _read_in_time(file), "held")
    if not _same(file, path):  # its holder has just removed it
        return False
    if not created:
        state = _state(file, path, native=native is not None)
        if state == "held" or (state == "stale" and not take_stale):
            raise _refusal(what, _read(file), state)
        if native is None:  # the file's existence is the lock
            _remove(path, os.fstat(file).st_ino)
            return False
    try:
        _write(file)
    except OSError:
        with contextlib.suppress(OSError):  # Windows removes no open file
            path.unlink(missing_ok=True)
        raise
    return True


def _open_or_create(path: Path) -> tuple[int, bool]:
    while True:
        with contextlib.suppress(FileExistsError):
            flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | BINARY
            return os.open(path, flags, 0o666), True
        with contextlib.suppress(FileNotFoundError):
            return _open(path), False


def _open(path: Path) -> int:
    # A folder may come from somebody else: a link is not followed, and a pipe is not waited for.
    flags = os.O_RDWR | BINARY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)
    file = os.open(path, flags)
    if not stat.S_ISREG(os.fstat(file).st_mode):
        os.close(file)
        raise OSError(errno.EINVAL, "it is no regular file")
    return file


def _state(file: int, path: Path, *, native: bool) -> State:
    """Judge a lock's file that an earlier or present holder left.

    Args:
        native: this process has locked the file with `flock`.

    Returns:
        "free": its holder has ended. "held": its holder may still run. "stale": its holder ran on
        another machine and hasn't touched the file for `STALE` seconds.
    """
    holder = _read(file)
    if holder is None:
        # Without flock, an empty file may be one that its holder is just writing.
        return "held" if not native and _age(file, path) < STALE else "free"
    if holder.boot == _boot():
        if native:
            return "free"
        if holder.host == socket.gethostname():
            return "held" if _runs(holder) else "free"
    elif holder.host == socket.gethostname() and native:
        return "free"  # the machine was started again
    if _age(file, path) < STALE:
        return "held"
    return "free" if holder.host == socket.gethostname() else "stale"


def _runs(holder: Holder) -> bool:
    return is_running(holder.pid) and _started(holder.pid) == holder.started


def _started(pid: int) -> str:
    try:
        facts = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
    return facts.rpartition(")")[2].split()[19]  # the name, in brackets, may hold anything


def _age(file: int, path: Path) -> float:
    """Seconds since the file was touched, by the clock of its file system."""
    beside = path.with_name(f"{path.name}.{uuid.uuid4().hex}")
    now = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL)
    try:
        return os.fstat(now).st_mtime - os.fstat(file).st_mtime
    finally:
        os.close(now)
        beside.unlink(missing_ok=True)


def _refusal(what: Path, holder: Holder | None, state: State) -> Locked:
    who = holder.describe() if holder is not None else "a process that left no record"
    if state == "stale":
        return Locked(
            f"{what} is locked by {who}, which has given no sign of life for {STALE:.0f} s",
            f"if that process has ended, set {BREAK}=1 and repeat the command",
        )
    stop = "wait until it has ended, or stop it"
    if holder is not None and holder.boot == _boot():
        if holder.pid == os.getpid():
            stop = "wait until the other call in this process has ended"
        elif holder.host == socket.gethostname():
            stop += f": kill {holder.pid}"
    return Locked(f"{what} is in use by {who}", stop)


def _remove(path: Path, inode: int) -> None:
    """Remove the lock's file, unless another process has just replaced it."""
    aside = path.with_name(f"{path.name}.{uuid.uuid4().hex}")
    with contextlib.suppress(FileNotFoundError):
        path.rename(aside)
        if aside.stat().st_ino != inode:
            with contextlib.suppress(FileExistsError):
                os.link(aside, path)
        aside.unlink()


def _same(file: int, path: Path) -> bool:
    try:
        found = path.stat(follow_symlinks=False)
    except FileNotFoundError:
        return False
    return os.path.samestat(found, os.fstat(file))


def _write(file: int) -> None:
    record = Holder(
        host=socket.gethostname(),
        boot=_boot(),
        pid=os.getpid(),
        started=_started(os.getpid()),
        since=time.strftime("%Y-%m-%d %H:%M:%S %Z"),
        command=shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]])[:500],
    )
    os.ftruncate(file, 0)
    write_at(file, json.dumps(asdict(record)).encode(), 0)


def _read(file: int) -> Holder | None:
    try:
        facts = json.loads(read_at(file, MAX_RECORD, 0))
        if int(facts["pid"]) < 2:  # an error names it for `kill`, which takes 0 and -1 for many
            return None
        return Holder(
            host=str(facts["host"]),
            boot=str(facts["boot"]),
            pid=int(facts["pid"]),
            started=str(facts["started"]),
            since=str(facts["since"]),
            command=str(facts["command"]),
        )
    except (ValueError, TypeError, KeyError, OverflowError, RecursionError):
        return None


def _read_in_time(file: int) -> Holder | None:
    # A holder writes its record just after it has taken the lock.
    for _ in range(10):
        if (holder := _read(file)) is not None:
            return holder
        time.sleep(0.02)
    return None


def _beat(file: int, path: Path, ended: threading.Event) -> None:
    while not ended.wait(BEAT):
        with contextlib.suppress(OSError):
            touch(file, path)


def _boot() -> str:
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except OSError:
        return socket.gethostname()
