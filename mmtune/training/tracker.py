"""Log to one of Accelerate's trackers; one that fails is told once, and the run goes on."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from accelerate import Accelerator
from accelerate.tracking import LOGGER_TYPE_TO_CLASS, get_available_trackers

from mmtune.errors import ConfigError, did_you_mean, first_line
from mmtune.system.nested import flat
from mmtune.training.samples import Sample
from mmtune.training.tracker_samples import send_samples

PROJECT = "mmtune"
FOLDER = "trackers"  # in the run folder: what trackers write on this machine
ALL = "all"
PACKAGES = {"comet_ml": "comet-ml"}  # PyPI's name where it isn't the tracker's


def require_tracker(name: str | None) -> None:
    """Check that Accelerate knows a tracker and that its package is installed.

    Accelerate itself would leave out a tracker whose package is missing without a word.

    Raises:
        ConfigError: it doesn't.
    """
    if name is None:
        return
    installed = sorted({str(each) for each in get_available_trackers()})
    known = sorted(str(each) for each in LOGGER_TYPE_TO_CLASS)
    if name == ALL:
        if not installed:
            raise ConfigError(
                "train.tracker is all, but no tracker is installed",
                "pip install tensorboard, or leave out --tracker",
            )
    elif name not in known:
        raise ConfigError(
            f"train.tracker is {name!r}, which Accelerate doesn't know",
            did_you_mean(name, [*known, ALL]),
        )
    elif name not in installed:
        raise ConfigError(
            f"train.tracker is {name}, whose package is not installed",
            f"pip install {PACKAGES.get(name, name)}, or leave out --tracker",
        )


class Tracker:
    """The tracker of a run, if it has one.

    Args:
        accelerator: made with `log_with`.
        name: the tracker's name; None: nothing is logged.
        run: the run's name, under which trackers of several runs list it.
        note: receives the message that the tracker failed.
    """

    def __init__(
        self, accelerator: Accelerator, name: str | None, run: str, note: Callable[[str], None]
    ) -> None:
        self._accelerator, self._name, self._run, self._note = accelerator, name, run, note
        self._works = name is not None

    @property
    def works(self) -> bool:
        """Whether values are logged: there is a tracker, and it hasn't failed."""
        return self._works

    def start(self, settings: Mapping[str, Any], step: int) -> None:
        """Begin to log, with the run's settings.

        Args:
            settings: may hold sections and lists, of which trackers take only texts.
            step: that the run resumes after; what TensorBoard has after it is dropped.
        """
        named = {"name": self._run}
        own: dict[str, dict[str, Any]] = {
            "tensorboard": {"purge_step": step + 1} if step else {},
            "wandb": named,
            "trackio": named,
            "mlflow": {"run_name": self._run},
        }
        flat = flat_settings(settings)
        self._try(lambda: self._accelerator.init_trackers(PROJECT, config=flat, init_kwargs=own))

    def log(self, values: Mapping[str, float], step: int) -> None:
        """Log the values of a step."""
        self._try(lambda: self._accelerator.log(dict(values), step=step))

    def log_samples(self, samples: Sequence[Sample], step: int) -> None:
        """Log what the model made of a few validation rows."""

        def send() -> None:
            for tracker in self._accelerator.trackers:
                send_samples(tracker, samples, step)

        if samples:
            self._try(send)

    def finish(self) -> None:
        """Write what is pending, and end the tracker's run."""

        # Not `Accelerator.end_training`, which also ends the process group.
        def end() -> None:
            for tracker in self._accelerator.trackers:
                tracker.finish()

        self._try(end)
        self._works = False

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


def flat_settings(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Settings by dotted name, as TensorBoard takes them: numbers, truth values and texts."""

    def shown(value: Any) -> Any:
        if isinstance(value, bool | int | float | str):
            return value
        if isinstance(value, list | tuple):
            return ",".join(map(str, value))
        return "null" if value is None else str(value)

    return {name: shown(value) for name, value in flat(settings).items()}
