"""How long a whole command takes, by its phases: first a range, then by steps that were timed."""

from __future__ import annotations

import statistics
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from mmtune.system.display import duration

DATA = "data"
PREPARATION = "preparation"
TRAINING = "training"
VALIDATION = "validation"
CHOICE = "choosing the strength"
COMPARISON = "comparison"
REPORT = "report"
TIMED_STEPS = 10  # steps of the run after which its estimate is made
WARM_UP = 2  # of these, the first that don't count
RANGE = (0.6, 1.6)  # factors on what isn't measured yet, for the first range


class Clock:
    """Seconds that the phases of a command took so far; it begins when the clock is made."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._mark = time.perf_counter()

    def lap(self, phase: str) -> None:
        """Count the time since the last call for a phase."""
        now = time.perf_counter()
        self.seconds[phase] = self.seconds.get(phase, 0.0) + now - self._mark
        self._mark = now


@dataclass(frozen=True)
class LaterWork:
    """Seconds of what a command does after training.

    Attributes:
        choosing: of the comparison of checkpoints and strengths.
        comparison: of the comparison with the base.
        report: of the verdict and the page.
    """

    choosing: float
    comparison: float
    report: float = 0.0

    def shared(self, processes: int) -> LaterWork:
        """The work of each of several processes, which divide the comparison among them."""
        return replace(self, comparison=self.comparison / processes)


@dataclass(frozen=True)
class Estimate:
    """Seconds of each phase of a command.

    Attributes:
        phases: by name, in their order.
        spent: seconds that have passed.
        timed: whether steps of the run itself were timed.
        closer_after: before steps are timed, the step after which a closer estimate follows.
    """

    phases: Mapping[str, float]
    spent: float = 0.0
    timed: bool = True
    closer_after: int = TIMED_STEPS

    @property
    def seconds(self) -> float:
        """Of all phases."""
        return sum(self.phases.values())

    @property
    def range(self) -> tuple[float, float]:
        """The least and the most seconds that are likely before steps were timed."""
        left = max(0.0, self.seconds - self.spent)
        return self.spent + RANGE[0] * left, self.spent + RANGE[1] * left

    def line(self) -> str:
        """Format the phases for the terminal; phases of 0 seconds are left out."""
        if not self.timed:
            low, high = (duration(seconds) for seconds in self.range)
            steps = f"{self.closer_after} step{'' if self.closer_after == 1 else 's'}"
            return (
                f"time       {low} to {high} for the whole command; a closer estimate follows "
                f"after {steps}"
            )
        parts = [f"{name} {duration(s)}" for name, s in self.phases.items() if s]
        return f"estimate   {duration(self.seconds)} for the whole command: {', '.join(parts)}"


@dataclass
class StepTimes:
    """Times of a run's first steps."""

    seconds: list[float] = field(default_factory=list)

    def add(self, seconds: float, total: int) -> bool:
        """Add a step's time.

        Args:
            seconds: of the step.
            total: steps of the run that this process makes.

        Returns:
            Whether it is the last one that is needed.
        """
        if len(self.seconds) >= min(TIMED_STEPS, total):
            return False
        self.seconds.append(seconds)
        return len(self.seconds) == min(TIMED_STEPS, total)

    @property
    def typical(self) -> float:
        """A later step's seconds, on average: without the first, the fastest and the slowest."""
        later = sorted(self.seconds[WARM_UP:] or self.seconds)
        return statistics.mean(later[1:-1] or later)


def estimate(
    *,
    clock: Mapping[str, float],
    steps: int,
    step_seconds: float,
    validations: int,
    validation_seconds: float,
    later: LaterWork,
    timed: bool = True,
) -> Estimate:
    """Estimate a command.

    Args:
        clock: seconds of the phases so far.
        steps: optimizer steps that are left.
        step_seconds: of one step.
        validations: that are left.
        validation_seconds: of one; 0 if there are none.
        later: the work after training, of this process.
        timed: whether steps of the run itself were timed.
    """
    left = {
        DATA: 0.0,
        PREPARATION: 0.0,
        TRAINING: steps * step_seconds,
        VALIDATION: validations * validation_seconds,
        CHOICE: later.choosing,
        COMPARISON: later.comparison,
        REPORT: later.report,
    }
    phases = {name: clock.get(name, 0.0) + seconds for name, seconds in left.items()}
    return Estimate(phases, sum(clock.values()), timed, min(TIMED_STEPS, steps))


def compared_states(scales: Sequence[float], kept: int, validations: int) -> int:
    """How many states of an adapter are measured to choose its checkpoint and its strength.

    Args:
        scales: `train.scales`.
        kept: `train.compare_checkpoints`.
        validations: after the base's.
    """
    states = len({0.0, *scales}) if len(scales) > 1 else 0
    checkpoints = min(kept, validations)
    return states + (checkpoints + 1 if checkpoints > 1 else 0)
