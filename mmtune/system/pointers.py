"""Pointers of Git LFS and git-annex: small texts in place of files that weren't fetched."""

from __future__ import annotations

import stat
from dataclasses import dataclass
from pathlib import Path

from mmtune.errors import DataError, MmtuneError

MAX_POINTER = 1024  # bytes; Git LFS's specification asks for fewer


@dataclass(frozen=True)
class Pointer:
    """What a pointer is, and the command that fetches the file itself."""

    found: str
    cure: str


LFS = Pointer("is a pointer of Git LFS, not the file itself", "git lfs pull")
ANNEX = Pointer("is a pointer of git-annex, not the file itself", "git annex get .")


def pointer_in(head: bytes) -> Pointer | None:
    """What kind of pointer a file is by its first bytes; None: it is none."""
    text = head[:MAX_POINTER].lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if text.startswith(b"version https://git-lfs"):
        return LFS
    if b"annex/objects/" in text[:200] and text.startswith((b"/annex/", b"../", b".git/")):
        return ANNEX
    return None


def pointer_at(path: Path) -> Pointer | None:
    """What kind of pointer a file is; None: it is none, or it can't be read."""
    try:
        status = path.stat()
        # Reading a pipe could block for ever.
        if not stat.S_ISREG(status.st_mode) or not 0 < status.st_size <= MAX_POINTER:
            return None
        return pointer_in(path.read_bytes())
    except (OSError, ValueError):
        return None


def require_content(path: Path, kind: type[MmtuneError] = DataError) -> None:
    """Refuse a pointer.

    Raises:
        MmtuneError: of class `kind`: the file is a pointer.
    """
    if (pointer := pointer_at(path)) is not None:
        raise kind(f"{path} {pointer.found}", pointer.cure)
