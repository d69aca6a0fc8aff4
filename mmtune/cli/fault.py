"""An unexpected exception: keep its traceback in a file, and say where."""

from __future__ import annotations

import os
import platform
import shlex
import tempfile
import time
import traceback
from collections.abc import Sequence
from pathlib import Path

from mmtune.errors import UNEXPECTED, first_line, printable
from mmtune.system.files import write_text
from mmtune.system.output import say
from mmtune.system.resources import cache_root
from mmtune.system.version import VERSION

FOLDER = "faults"  # in the cache's folder


def report_fault(error: BaseException, arguments: Sequence[str]) -> int:
    """Write the traceback of a fault of mmtune into a file, and name the file on standard error.

    The file goes into the cache's folder; if that can't be written, into the system's folder for
    temporary files; if that can't be written either, the traceback is printed.

    Args:
        error: the exception that no command expects.
        arguments: the command's words.

    Returns:
        The exit code.
    """
    trace = "".join(traceback.format_exception(error))
    text = (
        f"mmtune {VERSION}, Python {platform.python_version()}, {platform.platform()}\n"
        f"command: {shlex.join(['mmtune', *arguments])}\n\n{trace}"
    )
    what = printable(f"{type(error).__name__}: {first_line(error)}")
    say(f"internal error: {what}", error=True)
    path = _keep(text)
    if path is None:
        say(trace, error=True)
    else:
        say(f"  This is a fault of mmtune. Its traceback is in {path}", error=True)
    say("  cure: report the fault with its traceback to mmtune's authors", error=True)
    return UNEXPECTED


def _keep(text: str) -> Path | None:
    name = f"{time.strftime('%Y%m%d-%H%M%S')}-{os.getpid()}.log"
    for folder in (cache_root() / FOLDER, Path(tempfile.gettempdir())):
        path = folder / f"mmtune-{name}"
        try:
            folder.mkdir(parents=True, exist_ok=True)
            write_text(path, text, private=True)
        except OSError:
            continue
        return path
    return None
