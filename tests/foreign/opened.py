"""Which files a command opens: it runs in a process of its own, whose openings are recorded."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

RECORD = """
import json, os, sys
opened, ran = set(), []
def hook(event, arguments):
    if event == "open" and isinstance(arguments[0], (str, bytes)):
        opened.add(os.path.realpath(os.fsdecode(arguments[0])))
    elif event in ("subprocess.Popen", "os.system", "os.exec", "os.posix_spawn", "os.fork"):
        ran.append(event)
    elif event in ("socket.connect", "socket.getaddrinfo"):
        ran.append(event)
sys.addaudithook(hook)
from mmtune.cli import main
code = main(sys.argv[2:])
with open(sys.argv[1], "w") as file:
    json.dump({"code": code, "opened": sorted(opened), "ran": ran}, file)
"""


@dataclass(frozen=True)
class Watched:
    """What a command did: its exit code, its output, the files it opened, what it started."""

    code: int
    out: str
    err: str
    opened: list[Path]
    ran: list[str]

    def opened_in(self, folder: Path) -> list[Path]:
        """The opened files that lie in `folder`."""
        return [path for path in self.opened if path.is_relative_to(folder.resolve())]


def watch(
    arguments: Sequence[str], record: Path, timeout: float = 60, offline: str = "1"
) -> Watched:
    """Run `mmtune` with these arguments, and record what it opens and starts."""
    ran = subprocess.run(
        [sys.executable, "-c", RECORD, str(record), *arguments],
        capture_output=True,
        text=True,
        timeout=timeout,
        env={**os.environ, "HF_HUB_OFFLINE": offline, "OMP_NUM_THREADS": "1"},
        check=False,
    )
    assert record.is_file(), ran.stderr
    values = json.loads(record.read_text())
    opened = [Path(path) for path in values["opened"]]
    return Watched(values["code"], ran.stdout, ran.stderr, opened, values["ran"])
