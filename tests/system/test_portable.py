"""Windows lacks parts of Python's library: mmtune works without them.

No test here runs on Windows. The missing modules and functions are hidden, and `msvcrt` is replaced
by a table of locks.
"""

from __future__ import annotations

import ast
import errno
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from mmtune.system import locks
from mmtune.system.locks import LOCK, Locked, locked
from mmtune.system.portable import is_running

ROOT = Path(__file__).parents[2]
SOURCES = sorted((ROOT / "mmtune").rglob("*.py"))
# Python 3.11's library reference, "Availability: Unix" or "not Windows".
MODULES = {
    *("curses", "crypt", "fcntl", "grp", "nis", "ossaudiodev", "posix", "pty", "pwd", "readline"),
    *("resource", "spwd", "syslog", "termios", "tty"),
}
# typeshed of mypy 1.19 (os/__init__.pyi, signal.pyi): what is defined below `sys.platform !=
# "win32"`, with fchmod and set_blocking, which Windows has since Python 3.13 and 3.12.
OS_NAMES = (
    "O_ACCMODE O_ASYNC O_CLOEXEC O_DIRECT O_DIRECTORY O_DSYNC O_LARGEFILE O_NDELAY O_NOATIME "
    "O_NOCTTY O_NOFOLLOW O_NONBLOCK O_PATH O_RSYNC O_SYNC O_TMPFILE EX_SOFTWARE F_LOCK F_TLOCK "
    "SCHED_BATCH SCHED_IDLE WNOHANG chown chroot confstr copy_file_range fchdir fchmod fchown "
    "fdatasync fork forkpty fpathconf fstatvfs fwalk getegid geteuid getgid getgroups getloadavg "
    "getpgid getpgrp getpriority getrandom getsid getuid getxattr killpg lchown listxattr lockf "
    "mkfifo mknod nice openpty pathconf pipe2 posix_fadvise posix_fallocate posix_spawn pread "
    "preadv pwrite pwritev readv register_at_fork removexattr sched_getaffinity "
    "sched_setaffinity sched_setscheduler sched_yield sendfile set_blocking setgid setpgid "
    "setpriority setsid setuid setxattr statvfs sync sysconf ttyname uname wait wait3 wait4 "
    "waitid writev"
)
SIGNAL_NAMES = (
    "ITIMER_REAL SIGALRM SIGBUS SIGCHLD SIGCONT SIGHUP SIGIO SIGKILL SIGPIPE SIGPROF SIGQUIT "
    "SIGSTOP SIGTRAP SIGTSTP SIGUSR1 SIGUSR2 SIGVTALRM SIGWINCH SIGXCPU SIG_BLOCK alarm getitimer "
    "pause pthread_kill pthread_sigmask setitimer siginterrupt sigpending sigwait"
)
OS, SIGNAL = set(OS_NAMES.split()), set(SIGNAL_NAMES.split())


def parents(tree: ast.AST) -> dict[ast.AST, ast.AST]:
    return {child: node for node in ast.walk(tree) for child in ast.iter_child_nodes(node)}


def around(node: ast.AST, above: dict[ast.AST, ast.AST]) -> Iterator[ast.AST]:
    while node in above:
        node = above[node]
        yield node


def is_asked(node: ast.AST, above: dict[ast.AST, ast.AST]) -> bool:
    """Whether the function around a name asks for the system or for the name."""
    function = next((n for n in around(node, above) if isinstance(n, ast.FunctionDef)), None)
    text = ast.unparse(function) if function is not None else ""
    return any(word in text for word in ("hasattr(os,", "os.name ==", "hasattr(signal,"))


def unguarded(tree: ast.AST) -> list[str]:
    """What of a file fails on Windows: imports without a fallback, names without a question."""
    above, found = parents(tree), []
    for node in ast.walk(tree):
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = [node.module or ""]
        if MODULES & {name.partition(".")[0] for name in names}:
            tries = [each for each in around(node, above) if isinstance(each, ast.Try)]
            caught = {ast.unparse(h.type) for t in tries for h in t.handlers if h.type is not None}
            if not caught & {"ImportError", "ModuleNotFoundError"}:
                found.append(ast.unparse(node))
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            of = {"os": OS | {"kill"}, "signal": SIGNAL}.get(node.value.id, set())
            if node.attr in of and not is_asked(node, above):
                found.append(ast.unparse(node))
    return found


def test_the_search_finds_each_kind() -> None:
    assert unguarded(ast.parse("import resource")) == ["import resource"]
    assert unguarded(ast.parse("def f():\n from fcntl import flock")) == ["from fcntl import flock"]
    assert unguarded(ast.parse("def f():\n os.getuid()")) == ["os.getuid"]
    assert unguarded(ast.parse("signal.SIGHUP")) == ["signal.SIGHUP"]
    assert unguarded(ast.parse("def f():\n try:\n  import pwd\n except ImportError: pass")) == []
    assert unguarded(ast.parse("def f():\n if hasattr(os, 'pread'): os.pread")) == []


def test_no_file_needs_what_windows_lacks() -> None:
    named = re.compile(rf"\b(?:{'|'.join([*MODULES, 'kill', *OS, *SIGNAL])})\b")
    texts = {path.relative_to(ROOT): path.read_text("utf-8") for path in SOURCES}
    trees = {path: ast.parse(text) for path, text in texts.items() if named.search(text)}
    assert {path: found for path, tree in trees.items() if (found := unguarded(tree))} == {}


# The standard library asks for fork, statvfs and others itself, so those stay.
HIDDEN = """
import os, signal, sys
for name in ("fcntl", "resource", "pwd", "grp", "termios", "tty", "pty", "syslog", "readline"):
    sys.modules[name] = None
for name in ("pread", "pwrite", "fchmod", "set_blocking", "O_NONBLOCK", "O_NOFOLLOW",
             "sched_getaffinity", "getloadavg"):
    delattr(os, name)
for name in ("SIGHUP", "SIGUSR1"):
    delattr(signal, name)
os.supports_fd.clear()
"""


def run_hidden(code: str, *arguments: str, first: str = "") -> str:
    # The packages for Linux need what is hidden; those for Windows don't.
    done = subprocess.run(
        [sys.executable, "-c", f"import psutil{first}" + HIDDEN + code, *arguments],
        env=os.environ | {"PYTHONPATH": str(ROOT), "MMTUNE_CACHE": arguments[0]},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


COMMANDS = """
import json, pathlib
from mmtune.cli import main
from mmtune.system.files import append_text, write_json
from mmtune.system.locks import LOCK, Locked, held, locked
from mmtune.system.portable import peak_resident
from mmtune.system.stored import read_bytes
from mmtune.system.storage_errors import storage_error
from mmtune.training.interrupt import StopRequest
folder = pathlib.Path(sys.argv[1])
try:
    main(["--help"])
except SystemExit as end:
    assert end.code == 0
assert main(["check", str(folder / "data")]) in (0, 1)
with locked(folder):
    assert held(folder / LOCK)
    try:
        with locked(folder):
            raise AssertionError
    except Locked as refused:
        assert "other call in this process" in refused.cure
with locked(folder):
    pass
assert not (folder / LOCK).exists()
write_json(folder / "a.json", [1], private=True, durable=True)
append_text(folder / "a.txt", "one", private=True)
append_text(folder / "a.txt", "two")
assert read_bytes(folder / "a.txt") == b"one\\ntwo"
assert peak_resident() > 2**20
assert storage_error(RuntimeError("PytorchStreamWriter failed"), folder / "a.pt", None) is not None
with StopRequest():
    pass
print("all of it works")
"""


def test_commands_and_locks_work_without_what_windows_lacks(tmp_path: Path) -> None:
    from PIL import Image

    (tmp_path / "data").mkdir()
    Image.new("RGB", (64, 64), "red").save(tmp_path / "data" / "a red square.png")
    said = run_hidden(COMMANDS, str(tmp_path))
    assert "usage: mmtune" in said
    assert "rows         1: 1 usable" in said
    assert said.endswith("all of it works\n")


@pytest.mark.slow
def test_a_training_works_without_what_windows_lacks(tmp_path: Path) -> None:
    said = run_hidden(
        "import pathlib\n"
        "from mmtune.training.loop import fit\n"
        "from mmtune.config import TrainOptions\n"
        "from tests.training.toy import ToyTask, rows\n"
        "options = TrainOptions(epochs=3, batch_size=7, lr=0.01)\n"
        "found = fit(ToyTask(), rows(21), rows(5, 'held'), options, pathlib.Path(sys.argv[1]))\n"
        "print(found.steps)",
        str(tmp_path),
        first=", torch._dynamo",
    )
    assert said == "9\n"


def test_which_processes_exist() -> None:
    assert is_running(os.getpid())
    assert is_running(os.getppid())
    with subprocess.Popen([sys.executable, "-c", ""]) as ended:
        os.waitid(os.P_PID, ended.pid, os.WEXITED | os.WNOWAIT)
        assert is_running(ended.pid), "its parent hasn't asked for its end: it is a zombie"
    assert not is_running(ended.pid)
    assert not any(map(is_running, (-1, 2**31 - 1, 2**40, 2**70)))


class Msvcrt(SimpleNamespace):
    """`msvcrt.locking` as its documentation says: a byte of a file has one holder."""

    LK_NBLCK = 2

    def __init__(self) -> None:
        super().__init__(taken={})

    def locking(self, handle: int, mode: int, size: int) -> None:
        assert (mode, size) == (self.LK_NBLCK, 1)
        assert os.lseek(handle, 0, os.SEEK_CUR) > locks.MAX_RECORD  # the record stays readable
        inode = os.fstat(handle).st_ino
        if self.taken.setdefault(inode, handle) != handle:
            raise OSError(errno.EACCES, "Permission denied")


def test_a_lock_of_windows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake = Msvcrt()
    monkeypatch.setitem(sys.modules, "fcntl", None)
    monkeypatch.setitem(sys.modules, "msvcrt", fake)
    with locked(tmp_path):
        assert json.loads((tmp_path / LOCK).read_text())["pid"] == os.getpid()
        with pytest.raises(Locked), locked(tmp_path):
            pass
    fake.taken.clear()  # Windows frees it when the file is closed
    with locked(tmp_path):
        pass
