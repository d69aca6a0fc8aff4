"""Errors that a user can solve; each names what was found and the cure."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Mapping

MAX_LISTED = 20  # names that a hint lists in full
MAX_COMPARED = 80  # characters of an unknown name: comparing takes their number squared
NEAR = 0.6  # likeness (difflib's ratio) from which a name is taken for a typing error


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
    """Return the first line of a library's error message, at most `most` characters."""
    return (str(error).strip() or type(error).__name__).splitlines()[0][:most]


class ConfigError(MmtuneError):
    """A setting that is unknown, of the wrong type or impossible."""


class DataError(MmtuneError):
    """A manifest, folder or file that training can't use."""


class NothingToUse(DataError):
    """A file or folder in which no row was found, so that its format may be another one."""


class BaseModelError(MmtuneError):
    """A base model that can't be found, read or recognised."""


class AdapterError(MmtuneError):
    """An adapter that doesn't fit its base or has no effect."""


class TrainingError(MmtuneError):
    """Training can't continue: non-finite losses, no trainable weights, a damaged checkpoint."""


class OutOfMemory(MmtuneError):
    """The settings need more memory than the device or the machine has."""


class MissingExtra(MmtuneError):
    """An optional package is needed but not installed."""

    def __init__(self, package: str, extra: str, purpose: str) -> None:
        super().__init__(
            f"{purpose} needs the package {package!r}, which is not installed",
            f"pip install 'mmtune[{extra}]'",
        )


def did_you_mean(key: str, known: Iterable[str], spellings: Mapping[str, str] | None = None) -> str:
    """Suggest known names for an unknown one, as the cure of an error.

    Args:
        key: the unknown name; dotted: its last part alone is compared too, because the section
            may be wrong.
        known: all names. The last part of a dotted name may be given alone.
        spellings: other spellings, with the known name that each means.

    Returns:
        The names that resemble `key`, three at most. If none does: all names, or the three nearest
        of more than `MAX_LISTED`.
    """
    names = list(known)
    near = nearest(key, names, spellings=spellings)
    if near:
        return "did you mean " + " or ".join(near) + "?"
    if len(names) <= MAX_LISTED:
        return "known: " + ", ".join(names)
    some = nearest(key, names, spellings=spellings, cutoff=0.0)
    return f"known: {', '.join(some)} … ({len(names)} in all)"


def nearest(
    key: str,
    known: Iterable[str],
    most: int = 3,
    *,
    spellings: Mapping[str, str] | None = None,
    cutoff: float = NEAR,
) -> list[str]:
    """Find the known names that resemble an unknown one, the likest first; see `did_you_mean`.

    Args:
        most: the number of names to return.
        cutoff: the least likeness, by difflib's ratio.
    """
    names = list(known)
    spelled = {**(spellings or {})}
    spelled |= {name.rpartition(".")[2]: name for name in names} | {name: name for name in names}
    likeness = dict.fromkeys(names, 0.0)
    for part in {key[:MAX_COMPARED], key.rpartition(".")[2][:MAX_COMPARED]}:
        for spelling, name in spelled.items():
            ratio = difflib.SequenceMatcher(None, spelling, part).ratio()
            likeness[name] = max(ratio, likeness[name])
    best = sorted(names, key=lambda name: -likeness[name])[:most]
    return [name for name in best if likeness[name] >= cutoff]


# Controls of the terminal (C0, DEL, C1), halves of surrogate pairs, separators of lines, and
# characters that change the order of what follows (Unicode's bidirectional embeddings, overrides
# and isolates). Joiners of letters and emoji stay: many languages need them.
_CONTROLS = "\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff\u2028\u2029\u202a-\u202e\u2066-\u2069"
_NOT_DISPLAYABLE = re.compile(f"[{_CONTROLS}]")
_NOT_PRINTABLE = re.compile(f"[\t\n{_CONTROLS}]")


def shortened(text: str, most: int = 120) -> str:
    """Cut a long text, and escape what can't be printed, for a message that quotes it."""
    return printable(text if len(text) <= most else text[: most - 1] + "…")


def printable(text: str) -> str:
    """Escape control characters in `text`, so that a file's name can't control a terminal."""
    return _NOT_PRINTABLE.sub(_escaped, text)


def displayable(text: str) -> str:
    """Escape control characters in `text` other than newlines and tabs, for a terminal."""
    return _NOT_DISPLAYABLE.sub(_escaped, text)


def _escaped(found: re.Match[str]) -> str:
    return found[0].encode("unicode_escape").decode()


# Exit codes of the commands.
FINDINGS = 1  # the check has findings, the export differs, or a required gate failed
ERROR = 2  # the command could not do all of its work
UNEXPECTED = 70  # a fault of mmtune; its traceback is in a file (EX_SOFTWARE of sysexits.h)
INTERRUPTED = 130  # stopped by Ctrl-C: the shell's 128 + SIGINT
