"""Errors that a user can act upon: what was found, where, and the cure."""

from __future__ import annotations

import difflib
from collections.abc import Sequence


class MmtuneError(Exception):
    """A problem that the user can solve. The command line prints it without a traceback.

    Args:
        found: what is wrong, naming the file, row or setting and the value found.
        cure: what to do about it, as a sentence or a command.
    """

    def __init__(self, found: str, cure: str = "") -> None:
        self.found = found
        self.cure = cure
        super().__init__(f"{found}\n  cure: {cure}" if cure else found)


def first_line(error: BaseException, most: int = 300) -> str:
    """What a library's error says, for a message of one's own: a line of bounded length."""
    return (str(error).strip() or type(error).__name__).splitlines()[0][:most]


class ConfigError(MmtuneError):
    """A setting that is unknown, of the wrong type or impossible."""


class DataError(MmtuneError):
    """A manifest, folder or file that training can't use."""


class BaseModelError(MmtuneError):
    """A base model that can't be found, read or recognised."""


class AdapterError(MmtuneError):
    """An adapter that doesn't fit its base or changes nothing."""


class TrainingError(MmtuneError):
    """Training that can't go on: non-finite losses, no trainable weights, a damaged checkpoint."""


class OutOfMemory(MmtuneError):
    """The device's memory, or the machine's, isn't enough for these settings."""


class MissingExtra(MmtuneError):
    """An optional package is needed and not installed."""

    def __init__(self, package: str, extra: str, purpose: str) -> None:
        super().__init__(
            f"{purpose} needs the package {package!r}, which is not installed",
            f"pip install 'mmtune[{extra}]'",
        )


def did_you_mean(key: str, known: Sequence[str]) -> str:
    """A hint with the names nearest to `key`, or all of them where none is near."""
    short = {name.rsplit(".", 1)[-1]: name for name in known} | {name: name for name in known}
    near = [short[name] for name in difflib.get_close_matches(key, short, n=3, cutoff=0.6)]
    if near:
        return "did you mean " + " or ".join(dict.fromkeys(near)) + "?"
    return "known: " + ", ".join(known)


def printable(text: str) -> str:
    """`text` without control characters: a file's name must not steer a terminal."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


FINDINGS = 1  # a check found something, an export isn't the same, a gate is shut


ERROR = 2  # a command could not do all of its work


INTERRUPTED = 130  # by Ctrl-C: the shell's 128 + SIGINT
