"""Find files inside a folder: links are resolved, so no link leads to a file outside."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path


def inside(folder: Path, path: Path) -> Path | None:
    """Resolve `path`, and return it if it is a regular file in `folder` or one of its subfolders.

    Args:
        folder: the folder; it may itself be a link.
        path: absolute, or relative to the current folder.

    Returns:
        The path without links; None if the file is missing, lies outside, or is no regular file.
    """
    try:
        found = path.resolve(strict=True)
        return found if found.is_file() and found.is_relative_to(folder.resolve()) else None
    except (OSError, ValueError, RuntimeError):  # too long, a zero byte, a loop of links
        return None


def links_out(folder: Path, allowed: Sequence[Path] = ()) -> Iterator[Path]:
    """Yield the links below a folder that lead to an existing file or folder outside of it.

    Args:
        folder: the folder; links to folders aren't followed.
        allowed: further folders that links may lead to.
    """
    roots = [each.resolve() for each in (folder, *allowed)]
    for parent, folders, names in os.walk(folder):
        for name in sorted([*folders, *names]):
            path = Path(parent, name)
            if not path.is_symlink():
                continue
            try:
                found = path.resolve(strict=True)
            except (OSError, RuntimeError):  # it leads to nothing, or to itself
                continue
            if not any(found.is_relative_to(root) for root in roots):
                yield path


def leads_out(folder: Path, path: Path) -> bool:
    """Whether `path` exists but is no regular file inside `folder`: a link out of it, a pipe."""
    try:
        there = path.exists() or path.is_symlink()
    except (OSError, ValueError):
        there = False
    return there and inside(folder, path) is None
