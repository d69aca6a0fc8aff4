"""Show the training loop's progress in a terminal or a notebook."""

from __future__ import annotations

from collections.abc import Mapping
from types import TracebackType
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.text import Text

from mmtune.training.reporter import Reporter

if TYPE_CHECKING:
    from mmtune.training.estimate import Estimate
    from mmtune.training.preflight import Preflight


class RichReporter(Reporter):
    """Progress bars with the remaining time; validations and notes appear as lines above them.

    Use it as a context manager, which closes the bars at the end and after an error.

    Args:
        console: where to write.
        start: what training starts from.
    """

    def __init__(self, console: Console, start: str = "the base") -> None:
        self.console, self.start = console, start
        self.progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            TextColumn("{task.fields[note]}"),
            console=console,
        )
        self._bars: dict[str, TaskID] = {}

    def __enter__(self) -> RichReporter:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.progress.stop()

    def _bar(self, name: str, done: int, total: int, note: str = "") -> None:
        if name not in self._bars:
            self.progress.start()
            # A resumed run starts its bar at the resumed step, so that the estimated time is right.
            self._bars[name] = self.progress.add_task(
                name, total=total, completed=max(0, done - 1), note=note
            )
        self.progress.update(self._bars[name], completed=min(done, total), note=note)

    def _print(self, text: str) -> None:
        # As it is: names hold brackets, which are no markup; not wrapped where it is piped.
        self.console.print(Text(text), soft_wrap=True)

    def preflight(self, facts: Preflight) -> None:
        """Print what the run will cost, before it starts."""
        for line in facts.lines():
            self._print(line)

    def estimate(self, found: Estimate) -> None:
        """Print how long the whole command takes: a range, or the phases."""
        self._print(found.line())

    def filling(self, done: int, total: int) -> None:
        """Advance the bar of the precomputed features."""
        self._bar("features", done, total)

    def step(self, step: int, total: int, loss: float, lr: float) -> None:
        """Advance the bar of the training steps, and show the loss."""
        self._bar("train", step, total, f"loss {loss:.4f}")

    def validation(self, step: int, values: Mapping[str, float], best: bool) -> None:
        """Print the results of a validation on one line."""
        figures = "  ".join(f"{name} {value:.4f}" for name, value in values.items())
        mark = f"  ({self.start})" if step == 0 else "  best so far" if best else ""
        self._print(f"step {step:<6} {figures}{mark}")

    def note(self, text: str) -> None:
        """Print a note on a line of its own."""
        self._print(f"note: {text}")
