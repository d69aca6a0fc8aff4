"""Faults under the libraries: the k-th call that writes below a folder fails or kills the process.

`inject.c` does it by LD_PRELOAD. A server process, started with it, imports the heavy libraries
once; each case is a fork of it, which takes milliseconds instead of the import's seconds.
"""

from __future__ import annotations

import ctypes
import errno
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
SOURCE = Path(__file__).with_name("inject.c")
OPEN, WRITE, SYNC, RENAME, MKDIR, REMOVE = (1 << i for i in range(6))
COUNTED = OPEN | WRITE | SYNC | RENAME | MKDIR
FAIL, KILL, TORN = 1, 2, 3


@dataclass(frozen=True)
class Kind:
    """A kind of fault.

    Attributes:
        what: FAIL, KILL (before the call) or TORN (after half of the write).
        number: errno.
        again: whether all later calls fail too, as on a full disk.
        failing: the calls that can fail so.
    """

    what: int
    number: int = 0
    again: bool = False
    failing: int = COUNTED


KINDS = {
    "ENOSPC": Kind(FAIL, errno.ENOSPC, True),
    "EDQUOT": Kind(FAIL, errno.EDQUOT, True),
    "EIO": Kind(FAIL, errno.EIO),
    "EROFS": Kind(FAIL, errno.EROFS, True, COUNTED | REMOVE),
    "kill": Kind(KILL),
    "torn": Kind(TORN),
}


@dataclass(frozen=True)
class Fault:
    """Where a process is harmed.

    Attributes:
        kind: a key of `KINDS`; "" only traces.
        at: the number of the call, from 1.
        event: in place of calls that write: "open:PART" counts audit events of files whose path
            contains PART, "call:module.name" counts calls of a library's function. The process is
            killed there.
    """

    kind: str = ""
    at: int = 0
    event: str = ""

    def __str__(self) -> str:
        return f"{self.kind}@{self.event + '#' if self.event else ''}{self.at}"


@dataclass(frozen=True)
class Outcome:
    """How a process ended.

    Attributes:
        code: its exit code; minus the number of the signal that killed it; None if it hung.
        out, err: what it wrote.
        calls: the number of counted calls.
        trace: (call, path below the folder, innermost functions of mmtune) of each, if asked for.
    """

    code: int | None
    out: str
    err: str
    calls: int
    trace: Sequence[tuple[str, str, str]] = field(default_factory=tuple)


@lru_cache(maxsize=1)
def library() -> Path | None:
    """Compile `inject.c`; None where there is no compiler or it can't."""
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None or not sys.platform.startswith("linux"):
        return None
    path = Path(tempfile.mkdtemp(prefix="inject-")) / "inject.so"
    command = [compiler, "-shared", "-fPIC", "-O1", "-o", str(path), str(SOURCE), "-ldl"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return path if done.returncode == 0 else None


class Server:
    """A process in which mmtune's libraries are loaded; each `run` is a fork of it.

    Args:
        modules: modules to import at the start; importing them must start no threads.
    """

    def __init__(self, modules: Sequence[str] = ()) -> None:
        place = library()
        if place is None:
            raise RuntimeError("faults need a C compiler and Linux")
        self._scratch = Path(tempfile.mkdtemp(prefix="faults-"))
        environment = os.environ | {
            "LD_PRELOAD": str(place),
            "PYTHONPATH": str(ROOT),
            "OMP_NUM_THREADS": "1",
            "MKL_NUM_THREADS": "1",
            "TOKENIZERS_PARALLELISM": "false",
            "HF_HUB_OFFLINE": "1",
            "PYTHONHASHSEED": "0",
        }
        command = [sys.executable, "-m", "tests.faults.server", str(place), *modules]
        self._process = subprocess.Popen(
            command, cwd=ROOT, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            text=True,
        )  # fmt: skip

    def run(
        self,
        work: Sequence[str],
        folder: Path,
        fault: Fault | None = None,
        *,
        trace: bool = False,
        timeout: float = 300.0,
        environment: Mapping[str, str] | None = None,
        modules: Path | None = None,
    ) -> Outcome:
        """Run a command line of mmtune in a fork, with `folder` as current folder and target.

        Args:
            work: the words after `mmtune`; "writer NAME" is a writer of `tests.faults.writers`.
            folder: faults hit calls below it.
            fault: what harms the process; None: nothing.
            trace: list the calls with the functions that made them.
            timeout: seconds after which the process counts as hanging.
            environment: further variables.
            modules: a file that gets the names of the modules that the process had at its end.
        """
        fault = fault or Fault()
        task: dict[str, Any] = {
            "work": list(work), "folder": str(folder.resolve()), "fault": asdict(fault),
            "trace": trace, "timeout": timeout, "environment": dict(environment or {}),
            "scratch": str(self._scratch), "modules": str(modules or ""),
        }  # fmt: skip
        values = self._ask(task)
        return Outcome(**{**values, "trace": tuple(tuple(t) for t in values["trace"])})

    def learn(self, modules: Path) -> None:
        """Import the modules that a fork listed, so that the next fork has them at once."""
        self._ask({"import": modules.read_text().split() if modules.exists() else []})

    def _ask(self, task: dict[str, Any]) -> dict[str, Any]:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(task) + "\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"the server of faults ended with {self._process.wait()}")
        values: dict[str, Any] = json.loads(line)
        return values

    def close(self) -> None:
        if self._process.stdin is not None:
            self._process.stdin.close()
        self._process.wait(timeout=30)
        shutil.rmtree(self._scratch, ignore_errors=True)

    def __enter__(self) -> Server:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


LISTENER = ctypes.CFUNCTYPE(None, ctypes.c_char_p, ctypes.c_char_p)


class Injector:
    """The functions of the preloaded library, in the process that is harmed."""

    def __init__(self, path: str) -> None:
        self._library = ctypes.CDLL(path)
        self._library.fault_count.restype = ctypes.c_long
        self._library.fault_arm.argtypes = [
            ctypes.c_char_p, ctypes.c_long, *[ctypes.c_int] * 5, LISTENER,
        ]  # fmt: skip
        self._library.fault_init()

    def arm(self, below: str, fault: Fault, heard: Any = None) -> None:
        kind = KINDS.get(fault.kind, Kind(0))
        listener = heard if heard is not None else LISTENER()
        self._heard = listener  # ctypes frees a callback that nobody holds
        self._library.fault_arm(
            below.encode(), fault.at, kind.what, kind.number, kind.again, COUNTED, kind.failing,
            listener,
        )  # fmt: skip

    def disarm(self) -> None:
        self._library.fault_disarm()

    def calls(self) -> int:
        return int(self._library.fault_count())
