"""Progress bars for terminals and Jupyter; elsewhere nothing is shown."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager

from rich.console import Console, ConsoleOptions, RenderableType
from rich.progress import Progress
from rich.segment import Segment

from mmtune.errors import displayable


class SafeConsole(Console):
    """A console on which texts can't control the terminal, and are never read as markup.

    On a stream that isn't a terminal, standard output gets the exact text.
    """

    def __init__(
        self, *, stderr: bool = False, width: int | None = None, text: bool = False
    ) -> None:
        """Make a console that reads no markup.

        Args:
            stderr: write to standard error.
            width: columns; None: the terminal's.
            text: in a notebook, write text as to a terminal.
        """
        super().__init__(
            stderr=stderr,
            width=width,
            markup=False,
            emoji=False,
            highlight=False,
            force_jupyter=False if text else None,
            force_terminal=True if text else None,
        )

    def render(
        self, renderable: RenderableType, options: ConsoleOptions | None = None
    ) -> Iterable[Segment]:
        """Render as `Console` does, with control characters in texts escaped."""
        for segment in super().render(renderable, options):
            if segment.control is None and (self.stderr or self.is_terminal):
                yield Segment(displayable(segment.text), segment.style)
            else:
                yield segment


Count = Callable[[int, int | None], None]
"""A function that receives the number of items done, and the number of all (None: unknown)."""


def progress_console() -> SafeConsole:
    """Make the console on which progress is shown: standard error, or a notebook's cell.

    In Jupyter, rich draws bars as widgets, and only warns where the package ipywidgets is missing.
    There, bars are text, as in a terminal.
    """
    console = SafeConsole(stderr=True)
    if console.is_jupyter and importlib.util.find_spec("ipywidgets") is None:
        return SafeConsole(stderr=True, text=True)
    return console


def shows_progress(progress: bool | None = None) -> bool:
    """Whether a function should show its progress.

    Args:
        progress: the caller's choice; None: show it only in a terminal and in Jupyter.
    """
    if progress is not None:
        return progress
    console = SafeConsole(stderr=True)
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
