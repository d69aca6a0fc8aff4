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
        The blobs of a snapshot of the Hugging Face hub, of which it is made, count as inside.
    """
    try:
        found = path.resolve(strict=True)
        root = folder.resolve()
        if not found.is_file():
            return None
        if found.is_relative_to(root):
            return found
        blobs = snapshot_blobs(root)
        return found if blobs is not None and found.is_relative_to(blobs) else None
    except (OSError, ValueError, RuntimeError):  # too long, a zero byte, a loop of links
        return None


def snapshot_blobs(folder: Path) -> Path | None:
    """The folder that holds the files of a snapshot of the Hugging Face hub.

    The hub's cache holds each file once, in blobs/, and snapshots/REVISION/ links to them.

    Args:
        folder: the snapshot or a folder in it, without links.

    Returns:
        The folder of blobs, without links; None: `folder` is in no snapshot.
    """
    for place in (folder, *folder.parents):
        blobs = place.parent.parent / "blobs"
        # A link of this name could make any folder one that may be read.
        if place.parent.name == "snapshots" and blobs.is_dir() and not blobs.is_symlink():
            return blobs.resolve()
    return None


def snapshot_link(root: Path, written: str) -> Path | None:
    """The path of a file of a hub's snapshot that is a link to one of its blobs.

    Args:
        root: the snapshot or a folder in it, without links.
        written: the path, as a manifest in `root` names it.

    Returns:
        The link itself, which has the file's name; None: it isn't such a link.
    """
    blobs = snapshot_blobs(root)
    place = Path(os.path.normpath(root / written))
    if blobs is None or not place.is_relative_to(root) or not place.is_symlink():
        return None
    return place if inside(root, place) is not None else None


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
