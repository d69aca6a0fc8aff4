"""Log to one of Accelerate's trackers; one that fails is told once, and the run goes on."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from accelerate import Accelerator
from accelerate.tracking import LOGGER_TYPE_TO_CLASS, get_available_trackers

from mmtune.errors import ConfigError, did_you_mean, first_line


def require_tracker(name: str | None) -> None:
    """Check that Accelerate knows a tracker and that its package is installed.

    Accelerate itself would leave out a tracker whose package is missing without a word.

    Raises:
        ConfigError: it doesn't.
    """
    if name is None or name == "all":
        return
    if name not in LOGGER_TYPE_TO_CLASS:
        raise ConfigError(
            f"train.tracker is {name!r}, which Accelerate doesn't know",
            did_you_mean(name, [*LOGGER_TYPE_TO_CLASS, "all"]),
        )
    if name not in {str(each) for each in get_available_trackers()}:
        raise ConfigError(
            f"train.tracker is {name}, whose package is not installed",
            f"install {name} with pip, or leave out --tracker",
        )


class Tracker:
    """The tracker of a run, if it has one.

    Args:
        accelerator: made with `log_with`.
        name: the tracker's name; None: nothing is logged.
        note: receives the message that the tracker failed.
    """

    def __init__(
        self, accelerator: Accelerator, name: str | None, note: Callable[[str], None]
    ) -> None:
        self._accelerator, self._name, self._note = accelerator, name, note
        self._works = name is not None

    def start(self, settings: Mapping[str, Any]) -> None:
        """Begin to log, with the run's settings."""
        self._try(lambda: self._accelerator.init_trackers("mmtune", config=dict(settings)))

    def log(self, values: Mapping[str, float], step: int) -> None:
        """Log the values of a step."""
        self._try(lambda: self._accelerator.log(dict(values), step=step))

    def _try(self, call: Callable[[], object]) -> None:
        if not self._works:
            return
        try:
            call()
        except Exception as error:  # each tracker has its own: of its server, its login, its files
            self._works = False
            self._note(
                f"the tracker {self._name} failed and gets nothing more; the run goes on, and "
                f"log.jsonl has all values ({type(error).__name__}: {first_line(error)})"
            )
