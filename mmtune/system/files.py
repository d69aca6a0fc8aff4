"""Writing so that a reader sees the old or the new, and never a half; and names for it."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path

from mmtune.errors import ConfigError


def write_text(path: Path, text: str) -> None:
    """Write a file atomically, as UTF-8."""
    partial = path.with_name(f".{path.name}.partial")
    partial.write_text(text, encoding="utf-8")
    partial.replace(path)


@contextmanager
def aside(out: Path) -> Iterator[Path]:
    """A path of `out`'s name in a hidden folder beside it: write there, and rename it at last.

    The folder is gone at the end, with whatever was not renamed.

    Raises:
        ConfigError: `out` is taken, or no name.
    """
    if out.exists() or out.is_symlink():
        raise ConfigError(f"{out} exists already", "name another: --out PATH")
    if not out.name:
        raise ConfigError(f"{out} is no name for a file or folder", "name one: --out PATH")
    out.parent.mkdir(parents=True, exist_ok=True)
    # mkdtemp's own folder is closed to all but its owner, so what is written lies in it.
    folder = Path(tempfile.mkdtemp(prefix=f".{out.name}.", dir=out.parent))
    try:
        yield folder / out.name
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def unique_name(name: str, taken: Collection[str]) -> str:
    """`name`, or with the first number from 2 on behind it that makes it none of those taken."""
    unique, number = name, 1
    while unique in taken:
        number += 1
        unique = f"{name}-{number}"
    return unique
