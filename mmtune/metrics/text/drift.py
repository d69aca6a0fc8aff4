"""Errors of a long transcript's times: distance from the true start of sentences, and drift.

The details of a prediction hold two times, in seconds from the recording's beginning: "known", the
true start, and "heard", the transcript's start. "heard" is None for a sentence whose first word is
missing from the transcript; WER counts such a sentence.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from mmtune.data.rows import Row
from mmtune.metrics.metric import Stat
from mmtune.predict import Prediction


def _known_and_late(prediction: Prediction) -> tuple[float, float]:
    known, heard = prediction.details["known"], prediction.details["heard"]
    return float(known), float("nan") if heard is None else float(heard) - float(known)


class StartError:
    """A quantile of |heard - known| over sentences, in seconds. Statistic: (heard - known).

    Args:
        quantile: the quantile; 0.5 is the median.
        name, meaning: the metric's name and meaning.
    """

    unit = "seconds"
    higher_is_better = False

    def __init__(self, quantile: float, name: str, meaning: str) -> None:
        self.quantile, self.name, self.meaning = quantile, name, meaning

    def observe(self, row: Row, prediction: Prediction) -> Stat:
        """heard - known of one sentence in s; nan if the transcript lacks it."""
        return np.array([_known_and_late(prediction)[1]])

    def reduce(self, stats: Sequence[Stat] | Stat) -> float | None:
        """The quantile in s; None if the transcript has no sentence."""
        late = np.abs(np.asarray(stats, dtype=np.float64).ravel())
        late = late[np.isfinite(late)]
        return float(np.quantile(late, self.quantile)) if len(late) else None


class Drift:
    """Drift of times: |slope| of heard - known over known, in seconds per minute.

    The slope is that of a least-squares line through all sentences. Statistic: (1, t, d, t², t·d),
    or zeros for a sentence that the transcript lacks.
    """

    name = "drift, s/min"
    unit = "seconds a minute"
    meaning = "How fast the written times of a long recording move away from the spoken ones."
    higher_is_better = False

    def observe(self, row: Row, prediction: Prediction) -> Stat:
        """One sentence's terms for the line, with t in minutes and d in seconds."""
        known, late = _known_and_late(prediction)
        if not np.isfinite(late):
            return np.zeros(5)
        minutes = known / 60
        return np.array([1.0, minutes, late, minutes**2, minutes * late])

    def reduce(self, stats: Sequence[Stat] | Stat) -> float | None:
        """The drift in s/min; None for fewer than two sentences or if all have one time."""
        n, t, d, tt, td = np.asarray(stats, dtype=np.float64).reshape(-1, 5).sum(axis=0)
        spread = n * tt - t**2
        return float(abs(n * td - t * d) / spread) if spread > 1e-9 else None


MEDIAN_START = StartError(
    0.5,
    "start error, median s",
    "How far a sentence's time in a long recording is from where it is, as a rule.",
)
LATE_START = StartError(
    0.95,
    "start error, 95th percentile s",
    "How far a sentence's time in a long recording is from where it is, at worst.",
)


def start_figures() -> tuple[StartError, StartError, Drift]:
    """Make the metrics of a long recording's times."""
    return MEDIAN_START, LATE_START, Drift()
