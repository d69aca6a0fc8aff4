"""Progress bars for terminals and Jupyter; elsewhere nothing is shown."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import Progress

Count = Callable[[int, int | None], None]
"""A function that receives the number of items done, and the number of all (None: unknown)."""


def progress_console() -> Console:
    """Make the console on which progress is shown: standard error, or a notebook's cell.

    In Jupyter, rich draws bars as widgets, and only warns where the package ipywidgets is missing.
    There, bars are text, as in a terminal.
    """
    console = Console(stderr=True)
    if console.is_jupyter and importlib.util.find_spec("ipywidgets") is None:
        return Console(stderr=True, force_jupyter=False, force_terminal=True)
    return console


def shows_progress(progress: bool | None = None) -> bool:
    """Whether a function should show its progress.

    Args:
        progress: the caller's choice; None: show it only in a terminal and in Jupyter.
    """
    if progress is not None:
        return progress
    console = Console(stderr=True)
    return console.is_terminal or console.is_jupyter


@contextmanager
def counted(what: str, progress: bool | None = None) -> Iterator[Count]:
    """Show a progress bar that disappears at the end.

    Args:
        what: name of the work, shown beside the bar.
        progress: see `shows_progress`.
    """
    disable = not shows_progress(progress)
    with Progress(console=progress_console(), transient=True, disable=disable) as bar:
        task = bar.add_task(what, total=None)

        def count(done: int, total: int | None) -> None:
            bar.update(task, completed=done, total=total)

        yield count
