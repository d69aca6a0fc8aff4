"""Hallucinated words: words in the transcript of recordings without speech."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from mmtune.data.rows import Row
from mmtune.metrics.metric import Stat
from mmtune.metrics.text.transcribed_row import stated_seconds
from mmtune.metrics.text.wer import scored
from mmtune.predict import Prediction


class HallucinatedWords:
    """Words per minute in transcripts of recordings without speech. Statistic: (words, minutes).

    WER can't measure this, because it divides by the number of words in the reference.

    Args:
        language: language of the normalization that splits words.
    """

    name = "hallucinated words/min"
    unit = "words a minute"
    meaning = "Words that were written where nobody spoke."
    higher_is_better = False

    def __init__(self, language: str = "en") -> None:
        self.language = language

    def observe(self, row: Row, prediction: Prediction) -> Stat:
        """The number of words, and the row's duration in minutes (from its `duration_s`)."""
        words = len(scored(row, prediction, self.language)[1].split())
        return np.array([words, stated_seconds(row) / 60])

    def reduce(self, stats: Sequence[Stat] | Stat) -> float | None:
        """Words per minute; None if no row has a duration."""
        words, minutes = np.asarray(stats, dtype=np.float64).reshape(-1, 2).sum(axis=0)
        return float(words / minutes) if minutes > 0 else None
