"""`Reporter`, which receives a run's progress, and `FitResult`, with which it ends."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mmtune.training.estimate import Estimate
    from mmtune.training.preflight import Preflight


class Reporter:
    """Receives the loop's progress. This class ignores it; subclasses show it."""

    def preflight(self, facts: Preflight) -> None:
        """Receive counts and estimates before the features are computed."""

    def estimate(self, found: Estimate) -> None:
        """Receive the estimate of the whole command: after the first validation a range, and once
        again when steps were timed."""

    def filling(self, done: int, total: int) -> None:
        """Receive the number of features that are stored, of `total`."""

    def step(self, step: int, total: int, loss: float, lr: float) -> None:
        """Receive the loss and learning rate of a step."""

    def validation(self, step: int, values: Mapping[str, float], best: bool) -> None:
        """Receive the validation metrics after `step`; step 0 is the base."""

    def note(self, text: str) -> None:
        """Receive a message: a finding in the data, a skipped step, a resumed run."""


@dataclass(frozen=True)
class FitResult:
    """The result of a training run."""

    steps: int
    best_step: int
    best: dict[str, float]  # validation metrics of the best weights
    base: dict[str, float]  # validation metrics before the first step
    reason: str  # "done" or "early stop"
