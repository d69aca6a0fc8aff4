"""Words heard where nobody speaks."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from mmtune.data.rows import Row
from mmtune.metrics.metric import Stat
from mmtune.metrics.text.transcribed_row import stated_seconds
from mmtune.metrics.text.wer import scored
from mmtune.predict import Prediction


class HallucinatedWords:
    """Words a minute in recordings without speech: (words, minutes) of each.

    WER can't say it, for it divides by the words of the reference.

    Args:
        language: whose normalization splits words.
    """

    name = "hallucinated words/min"
    unit = "words a minute"
    meaning = "Words that were written where nobody spoke."
    higher_is_better = False

    def __init__(self, language: str = "en") -> None:
        self.language = language

    def observe(self, row: Row, prediction: Prediction) -> Stat:
        """Args:
        row: with its `duration_s`, in seconds.
        """
        words = len(scored(row, prediction, self.language)[1].split())
        return np.array([words, stated_seconds(row) / 60])

    def reduce(self, stats: Sequence[Stat] | Stat) -> float | None:
        """Words a minute; None without any time."""
        words, minutes = np.asarray(stats, dtype=np.float64).reshape(-1, 2).sum(axis=0)
        return float(words / minutes) if minutes > 0 else None
