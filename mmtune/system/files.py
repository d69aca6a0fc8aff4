"""Atomic writes and unique names."""

from __future__ import annotations

import os
import shutil
import stat
import tempfile
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from mmtune.errors import ConfigError
from mmtune.system.locks import locked_name

SHARED = "MMTUNE_SHARED"  # environment variable: 1 gives private files the usual permissions


def write_text(path: Path, text: str, *, private: bool = False) -> None:
    """Write a text file atomically, as UTF-8: readers see the old or the new file, never a part.

    Args:
        path: the file.
        text: its content.
        private: only the owner may read it (see `private_mode`).
    """
    partial = path.with_name(f".{path.name}.partial")
    with opened_private(partial) if private else partial.open("w", encoding="utf-8") as file:
        file.write(text)
    partial.replace(path)


def private_mode(folder: Path) -> int | None:
    """The permissions of a private file in `folder`: transcripts, recordings, answers, pages.

    Returns:
        0600; 0640 in a folder whose setgid bit says that a group shares it; None, the usual
        permissions, if the environment variable `SHARED` is 1.
    """
    if os.environ.get(SHARED, "") not in ("", "0"):
        return None
    try:
        shared = folder.stat().st_mode & stat.S_ISGID
    except OSError:
        shared = 0
    return 0o640 if shared else 0o600


def make_private(path: Path) -> None:
    """Take the rights of others from a private file that a library wrote (see `private_mode`)."""
    mode = private_mode(path.parent)
    if mode is not None:
        with suppress(OSError):  # another member of the group owns it, or there are no permissions
            path.chmod(mode)


def opened_private(path: Path, mode: str = "w") -> IO[str]:
    """Open a private text file for writing; nobody else could read it at any moment.

    Args:
        path: the file.
        mode: "w" or "a".
    """
    allowed = private_mode(path.parent)

    def opener(name: str, flags: int) -> int:
        return os.open(name, flags, 0o666 if allowed is None else allowed)

    file = open(path, mode, encoding="utf-8", opener=opener)  # noqa: SIM115
    if allowed is not None:
        with suppress(OSError):  # as in `make_private`
            path.chmod(allowed)  # it may have existed, or the umask may be stricter
    return file


@contextmanager
def aside(out: Path) -> Iterator[Path]:
    """Yield a path in a hidden folder beside `out`, for content that the caller renames to `out`.

    The hidden folder is removed at the end, with everything that was not renamed. `out` is locked
    meanwhile, so that two commands don't write the same.

    Raises:
        ConfigError: `out` exists, or is no name for a file or folder.
        Locked: another command writes `out`.
    """
    _require_new(out)
    if not out.name:
        raise ConfigError(f"{out} is no name for a file or folder", "give a name: --out PATH")
    out.parent.mkdir(parents=True, exist_ok=True)
    with locked_name(out):
        _require_new(out)  # the last holder of the lock may have written it
        # Only its owner may open mkdtemp's folder, so the content is written one level below it and
        # keeps the usual permissions when it is renamed.
        folder = Path(tempfile.mkdtemp(prefix=f".{out.name}.", dir=out.parent))
        try:
            yield folder / out.name
        finally:
            shutil.rmtree(folder, ignore_errors=True)


def _require_new(out: Path) -> None:
    if out.exists() or out.is_symlink():
        raise ConfigError(f"{out} exists already", "choose another path: --out PATH")


def unique_name(name: str, taken: Collection[str]) -> str:
    """Return `name`, or `name-2`, `name-3` … : the first that isn't in `taken`."""
    unique, number = name, 1
    while unique in taken:
        number += 1
        unique = f"{name}-{number}"
    return unique
