"""Estimate how long a whole command takes, by its phases, after the first validation."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from mmtune.system.display import duration


@dataclass(frozen=True)
class LaterWork:
    """Seconds of what a command does after training.

    Attributes:
        began: when the command began, by `time.perf_counter`.
        choosing: of the comparison of checkpoints and strengths.
        comparison: of the comparison with the base, on one process.
    """

    began: float
    choosing: float
    comparison: float


@dataclass(frozen=True)
class Estimate:
    """Seconds of each phase of a command, by its name, in their order."""

    phases: Mapping[str, float]

    @property
    def seconds(self) -> float:
        """Of all phases."""
        return sum(self.phases.values())

    def line(self) -> str:
        """Format the phases for the terminal; phases of 0 seconds are left out."""
        parts = [f"{name} {duration(s)}" for name, s in self.phases.items() if s]
        return f"estimate   {duration(self.seconds)} for the whole command: {', '.join(parts)}"


def estimate(
    *,
    steps: int,
    step_seconds: float,
    validations: int,
    validation_seconds: float,
    later: LaterWork,
    processes: int = 1,
    now: float | None = None,
) -> Estimate:
    """Estimate a command after its first validation.

    Args:
        steps: optimizer steps that are left.
        step_seconds: of one step.
        validations: all validations, with the first.
        validation_seconds: of the first; 0 if there are none.
        later: the work after training.
        processes: that share the comparison.
        now: the time, by `time.perf_counter`.
    """
    spent = (time.perf_counter() if now is None else now) - later.began
    return Estimate(
        {
            "preparation": max(0.0, spent - validation_seconds),
            "training": steps * step_seconds,
            "validation": validations * validation_seconds,
            "choosing the strength": later.choosing,
            "comparison": later.comparison / processes,
        }
    )


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
