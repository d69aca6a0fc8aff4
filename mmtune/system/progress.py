"""Progress bars in a terminal and in Jupyter; nothing is shown elsewhere."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import Progress

Count = Callable[[int, int | None], None]
"""Is told how many items are done, and how many there are (None: not known)."""


def shows_progress(progress: bool | None = None) -> bool:
    """Whether a function shows its progress.

    Args:
        progress: what its caller asked for; None: in a terminal and in Jupyter.
    """
    if progress is not None:
        return progress
    console = Console(stderr=True)
    return console.is_terminal or console.is_jupyter


@contextmanager
def counted(what: str, progress: bool | None = None) -> Iterator[Count]:
    """A bar of items done, which is gone at the end.

    Args:
        what: is done, as the bar says it.
        progress: see `shows_progress`.
    """
    disable = not shows_progress(progress)
    with Progress(console=Console(stderr=True), transient=True, disable=disable) as bar:
        task = bar.add_task(what, total=None)

        def count(done: int, total: int | None) -> None:
            bar.update(task, completed=done, total=total)

        yield count
