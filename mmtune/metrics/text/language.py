"""Language accuracy: how often a model recognises the spoken language."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from mmtune.data.rows import Row
from mmtune.metrics.metric import Stat
from mmtune.metrics.text.transcribed_row import row_language
from mmtune.predict import Prediction


class LanguageAccuracy:
    """The share of rows whose language the model recognises. Statistic: (right, 1).

    Args:
        language: Whisper's code of the language of rows that don't name theirs.
    """

    name = "language accuracy"
    unit = "share of recordings"
    meaning = "Recordings whose language the model recognizes before it is told."
    higher_is_better = True

    def __init__(self, language: str = "en") -> None:
        self.language = language

    def observe(self, row: Row, prediction: Prediction) -> Stat:
        """1 or 0 for right or wrong, and 1.

        Args:
            row: the row; it may name its language.
            prediction: its details hold the recognised language, Whisper's code, as "heard".
        """
        named = row_language(row, self.language)
        return np.array([prediction.details["heard"] == named, 1.0], dtype=np.float64)

    def reduce(self, stats: Sequence[Stat] | Stat) -> float | None:
        """Share of right rows; None without rows."""
        right, rows = np.asarray(stats, dtype=np.float64).reshape(-1, 2).sum(axis=0)
        return float(right / rows) if rows else None
