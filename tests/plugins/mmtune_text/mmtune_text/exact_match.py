"""The share of answers that are the reference, letter by letter."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from mmtune.data.rows import Row
from mmtune.metrics.metric import Stat
from mmtune.predict import Prediction


class ExactMatch:
    """Statistic: (right,)."""

    name = "exact match"
    unit = "share of answers"
    meaning = "The share of answers that are the expected text, letter by letter."
    higher_is_better = True

    def observe(self, row: Row, prediction: Prediction) -> Stat:
        """(right,): 1 or 0; white space around the answer doesn't count."""
        return np.array([float(str(prediction.value).strip() == row.reference.strip())])

    def reduce(self, stats: Sequence[Stat] | Stat) -> float | None:
        """The mean over answers; None for none."""
        return float(np.mean(stats)) if len(stats) else None
