"""Stop training on SIGTERM or Ctrl-C: the first after the current step, the second at once."""

from __future__ import annotations

import signal
import threading
from types import FrameType, TracebackType


class Interrupted(Exception):
    """Training was saved and stopped on a signal; repeat the command or call to resume."""

    def __init__(self, number: int, step: int) -> None:
        self.number = number
        self.step = step
        name = signal.Signals(number).name
        super().__init__(
            f"stopped by {name} after step {step}; the run is saved, and repeating the command or "
            "call resumes it"
        )

    @property
    def exit_code(self) -> int:
        """The exit code by the shell's convention: 128 + the signal's number."""
        return 128 + self.number


class StopRequest:
    """A context manager that turns the first SIGTERM or SIGINT into a flag."""

    SIGNALS = (signal.SIGINT, signal.SIGTERM)

    def __init__(self) -> None:
        self.number = 0
        self._old: dict[int, object] = {}

    def __enter__(self) -> StopRequest:
        # Only the main thread may set signal handlers; in other threads the old ones stay.
        if threading.current_thread() is threading.main_thread():
            for number in self.SIGNALS:
                self._old[number] = signal.signal(number, self._handle)
        return self

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self.number:
            raise KeyboardInterrupt
        self.number = number

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for number, handler in self._old.items():
            signal.signal(number, handler)  # type: ignore[arg-type]
