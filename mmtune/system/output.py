"""Print lines on a terminal; control characters in names and texts never reach it.

All commands print with `say`, and tables and bars with a `SafeConsole` (mmtune.system.progress). A
test checks that nothing else in the package prints.
"""

from __future__ import annotations

import contextlib
import sys
from typing import TextIO

from mmtune.errors import displayable


def say(*values: object, error: bool = False, end: str = "\n", flush: bool = False) -> None:
    """Print values to standard output, or to standard error.

    In a terminal, and always on standard error, control characters are escaped (`displayable`).
    What is piped to a file or a program is the exact text. If standard error can't be written,
    nothing is raised, because nobody could be told.

    Args:
        values: separated by a space, as by `print`.
        error: print to standard error.
        end: printed after the values.
        flush: write at once.
    """
    stream = sys.stderr if error else sys.stdout
    text = " ".join(map(str, values)) + end
    if error or stream.isatty():
        text = displayable(text)
    with contextlib.suppress(OSError) if error else contextlib.nullcontext():
        _write(stream, text)
        if flush:
            stream.flush()


def _write(stream: TextIO, text: str) -> None:
    try:
        stream.write(text)
    except UnicodeEncodeError:  # half of a surrogate pair, or a name that isn't UTF-8
        encoding = stream.encoding or "ascii"
        stream.write(text.encode(encoding, "backslashreplace").decode(encoding))
