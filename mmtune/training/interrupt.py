"""Stop training on a signal: the first after the current step, the same one again at once."""

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
    """A context manager that turns the first signal into a flag.

    SIGINT is Ctrl-C. SIGTERM, SIGHUP and SIGUSR1 are warnings: of schedulers, of a terminal that
    closes, and of machines that are taken back. A system may send two different ones (systemd sends
    SIGTERM and SIGHUP), so only Ctrl-C, or the same signal again, stops at once.
    """

    # Windows has neither SIGHUP nor SIGUSR1.
    SIGNALS = tuple(
        getattr(signal, name)
        for name in ("SIGINT", "SIGTERM", "SIGHUP", "SIGUSR1")
        if hasattr(signal, name)
    )

    def __init__(self) -> None:
        self.number = 0
        self._old: dict[int, object] = {}

    def __enter__(self) -> StopRequest:
        # Only the main thread may set signal handlers; in other threads the old ones stay.
        if threading.current_thread() is threading.main_thread():
            for number in self.SIGNALS:
                if signal.getsignal(number) is signal.SIG_IGN:
                    continue  # nohup ignores SIGHUP, and a shell ignores SIGINT of a job with &
                self._old[number] = signal.signal(number, self._handle)
        return self

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self.number and number in (self.number, signal.SIGINT):
            raise KeyboardInterrupt
        self.number = self.number or number

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for number, handler in self._old.items():
            signal.signal(number, handler)  # type: ignore[arg-type]
