"""Atomic writes and unique names."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path

from mmtune.errors import ConfigError
from mmtune.system.locks import locked_name


def write_text(path: Path, text: str) -> None:
    """Write a text file atomically, as UTF-8: readers see the old or the new file, never a part."""
    partial = path.with_name(f".{path.name}.partial")
    partial.write_text(text, encoding="utf-8")
    partial.replace(path)


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
