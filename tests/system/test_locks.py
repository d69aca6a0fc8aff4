"""The lock of a folder: who holds it, who is refused, and what frees it."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from mmtune.errors import MmtuneError
from mmtune.system import locks
from mmtune.system.locks import BREAK, LOCK, STALE, Locked, held, locked, locked_name

ROOT = Path(__file__).parents[2]
HOLD = """
import sys, time, pathlib
from mmtune.system.locks import locked
with locked(pathlib.Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(60)
"""


@contextlib.contextmanager
def another_process(folder: Path) -> Iterator[subprocess.Popen[str]]:
    """A process that holds the lock of a folder."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(folder)],
        env=os.environ | {"PYTHONPATH": str(ROOT)}, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stdout is not None
    with process:
        try:
            assert process.stdout.readline() == "held\n"
            yield process
        finally:
            process.kill()


def test_the_second_process_is_told_who_holds_the_lock_and_kill_9_frees_it(tmp_path: Path) -> None:
    with another_process(tmp_path) as process:
        with pytest.raises(Locked) as refused, locked(tmp_path):
            pass
        said = str(refused.value)
        assert f"{tmp_path} is in use by `-c {tmp_path}` (process {process.pid} on " in said
        assert f"kill {process.pid}" in said
        assert held(tmp_path / LOCK)
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert (tmp_path / LOCK).exists()  # its holder could not remove it
    assert not held(tmp_path / LOCK)
    with locked(tmp_path):
        assert json.loads((tmp_path / LOCK).read_text())["pid"] == os.getpid()


def test_nothing_is_left_when_the_lock_is_released(tmp_path: Path) -> None:
    with locked(tmp_path), locked_name(tmp_path / "out"):
        assert sorted(p.name for p in tmp_path.iterdir()) == [LOCK, ".out.lock"]
    with pytest.raises(ZeroDivisionError), locked(tmp_path):
        _ = 1 / 0
    assert list(tmp_path.iterdir()) == []


def test_a_folder_can_be_removed_while_it_is_locked(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    folder.mkdir()
    with locked(folder):
        (folder / LOCK).unlink()
        folder.rmdir()
    assert not folder.exists()


def test_another_call_of_the_same_process_is_refused(tmp_path: Path) -> None:
    said: list[str] = []

    def try_it() -> None:
        with pytest.raises(Locked) as refused, locked(tmp_path):
            pass
        said.append(refused.value.cure)

    with locked(tmp_path):
        thread = threading.Thread(target=try_it)
        thread.start()
        thread.join()
    assert said == ["wait until the other call in this process has ended"]


@pytest.fixture(params=["flock", "no flock"])
def native(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> bool:
    """With and without `flock`, as a file system that lacks it answers."""

    def missing(file: Any, operation: int) -> None:
        raise OSError(errno.ENOTSUP, "not supported")

    if request.param == "no flock":
        monkeypatch.setattr(fcntl, "flock", missing)
    return request.param == "flock"


def left_behind(folder: Path, *, age: float = 0.0, **facts: object) -> Path:
    """The lock's file of a process that is gone."""
    path = folder / LOCK
    record = {
        "host": socket.gethostname(), "boot": locks._boot(), "pid": 999_999_999, "started": "1",
        "since": "2020-01-01 00:00:00 UTC", "command": "mmtune train dialect",
    }  # fmt: skip
    path.write_text(json.dumps(record | facts))
    touched = time.time() - age
    os.utime(path, (touched, touched))
    return path


def may_lock(folder: Path) -> bool:
    try:
        with locked(folder):
            assert held(folder / LOCK)
            with pytest.raises(Locked), locked(folder):
                pass
    except Locked:
        return False
    assert not list(folder.iterdir())
    return True


ELSEWHERE = {"host": "node-7", "boot": "another"}
RESTARTED = {"boot": "another"}
# age in s, facts of the record, whether the lock is free: with flock, without, with BREAK
LEFT: dict[str, tuple[float, dict[str, object], bool, bool, bool]] = {
    "its process has ended": (0.0, {}, True, True, True),
    "its process id is used again": (0.0, {"pid": os.getpid()}, True, True, True),
    "another machine, alive": (1.0, ELSEWHERE, False, False, False),
    "another machine, silent": (STALE + 10, ELSEWHERE, False, False, True),
    "this machine before it started again": (STALE + 10, RESTARTED, True, True, True),
}


@pytest.mark.parametrize("name", LEFT)
def test_a_lock_that_was_left_behind(
    tmp_path: Path, native: bool, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    age, facts, with_flock, without, broken = LEFT[name]
    left_behind(tmp_path, age=age, **facts)
    assert may_lock(tmp_path) is (with_flock if native else without)
    left_behind(tmp_path, age=age, **facts)
    monkeypatch.setenv(BREAK, "1")
    assert may_lock(tmp_path) is broken


def test_without_flock_a_running_process_is_known_by_its_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def missing(file: Any, operation: int) -> None:
        raise OSError(errno.ENOLCK, "no locks available")

    monkeypatch.setattr(fcntl, "flock", missing)
    parent = os.getppid()
    left_behind(tmp_path, age=STALE + 10, pid=parent, started=locks._started(parent))
    assert not may_lock(tmp_path)
    left_behind(tmp_path, age=STALE + 10, pid=parent, started="1")
    assert may_lock(tmp_path)


def test_the_error_about_a_silent_machine_names_the_variable(tmp_path: Path) -> None:
    left_behind(tmp_path, age=STALE + 10, **ELSEWHERE)
    with pytest.raises(Locked, match=f"set {BREAK}=1") as refused, locked(tmp_path):
        pass
    assert "`mmtune train dialect` (process 999999999 on node-7" in refused.value.found


def test_a_holder_touches_its_lock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(locks, "BEAT", 0.01)
    with locked(tmp_path):
        path = tmp_path / LOCK
        os.utime(path, (0, 0))
        deadline = time.monotonic() + 10
        while path.stat().st_mtime == 0 and time.monotonic() < deadline:
            time.sleep(0.01)
        assert time.time() - path.stat().st_mtime < STALE


@pytest.mark.parametrize(
    "content", [b"", b"\xff\xfe", b"[]", b"{}", b'{"pid": "x"}', b'{"pid": -1}', b"[" * 9000]
)
def test_a_damaged_record_frees_the_lock(tmp_path: Path, native: bool, content: bytes) -> None:
    path = tmp_path / LOCK
    path.write_bytes(content)
    if not native:  # it may be a file that its holder is just writing
        assert not may_lock(tmp_path)
        os.utime(path, (0, 0))
    assert may_lock(tmp_path)


def make_link(path: Path) -> None:
    path.symlink_to("/dev/null")


def make_pipe(path: Path) -> None:
    os.mkfifo(path)


def make_folder(path: Path) -> None:
    path.mkdir()


@pytest.mark.parametrize("make", [make_link, make_pipe, make_folder])
def test_a_lock_that_is_no_regular_file_is_an_error(tmp_path: Path, make: Any) -> None:
    make(tmp_path / LOCK)
    with pytest.raises(MmtuneError, match="no regular file"), locked(tmp_path):
        pass
    assert not held(tmp_path / LOCK)


def test_escapes_in_a_foreign_record_do_not_reach_the_terminal(tmp_path: Path) -> None:
    left_behind(tmp_path, command="\x1b[2J", **ELSEWHERE)
    with pytest.raises(Locked) as refused, locked(tmp_path):
        pass
    assert "\x1b" not in str(refused.value)
