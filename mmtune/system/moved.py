"""Find files that a run names, after its folder was moved, alone or together with them."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path


def places_of(named: Path, out: Path, name: str, run: Path) -> Iterator[Path]:
    """Yield where a file may be now, the place that the run names first.

    Args:
        named: as the run's settings name it; a relative path counts from the folder in which the
            run was started.
        out, name: the run's settings: it wrote into `out`/`name`.
        run: the run folder as it is now.
    """
    yield named
    run = run.resolve()
    if not named.is_absolute():
        if (start := started_in(out, run)) is not None:
            yield start / named
    elif out.is_absolute():
        # Files that were moved with the run still lie in the same place, seen from it.
        yield Path(os.path.normpath(run / os.path.relpath(named, out / name)))


def started_in(out: Path, run: Path) -> Path | None:
    """The folder that a run's relative paths count from: the run is `out`/NAME in it.

    Args:
        out: the run's setting.
        run: the run folder, without links.

    Returns:
        None if `out` is absolute, or the run doesn't lie in a folder of that name.
    """
    folder, parts = run.parent, out.parts
    if out.is_absolute():
        return None
    if not parts:
        return folder
    return folder.parents[len(parts) - 1] if folder.parts[-len(parts) :] == parts else None


def relative_to_run(path: Path, run: Path) -> Path:
    """The path from the run folder on, if it lies inside; otherwise the path itself."""
    try:
        return path.resolve().relative_to(run.resolve())
    except (OSError, ValueError, RuntimeError):
        return path
