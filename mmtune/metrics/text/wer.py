"""Word and character error rate of a corpus: errors and words are summed, never averaged by item.

The alignment is jiwer's. An item with an empty reference counts: words heard in silence are
insertions (per-utterance averages, and scripts that drop such items, hide hallucination).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jiwer
import numpy as np

from mmtune.data.rows import Row
from mmtune.metrics.metric import Stat
from mmtune.metrics.text.normalize import normalize
from mmtune.metrics.text.transcribed_row import row_language
from mmtune.metrics.text.variants import STRICT, Variants
from mmtune.predict import Prediction


def _reduce(stats: Sequence[Stat] | Stat) -> float | None:
    matrix = np.asarray(stats, dtype=np.float64).reshape(-1, 4)
    units = matrix[:, 3].sum()
    return float(matrix[:, :3].sum() / units) if units else None


class WordErrors:
    """WER. An item's statistic is (S, D, I, N): substitutions, deletions, insertions, words.

    Args:
        language: for rows that don't name theirs.
        variants: spellings that count as right, on both sides.
    """

    name = "WER"
    unit = "WER, wrong words per word spoken"
    meaning = "Words that are written wrongly, left out or made up, per word that was spoken."
    higher_is_better = False

    def __init__(self, language: str = "en", variants: Variants = STRICT) -> None:
        self.language, self.variants = language, variants

    def observe(self, row: Row, prediction: Prediction) -> Stat:
        """(S, D, I, N) of one transcript, both sides normalized."""
        reference, hypothesis = scored(row, prediction, self.language)
        found = self._align(self.variants(reference), self.variants(hypothesis))
        units = found.hits + found.substitutions + found.deletions
        return np.array(
            [found.substitutions, found.deletions, found.insertions, units], dtype=np.float64
        )

    def _align(self, reference: str, hypothesis: str) -> Any:
        return jiwer.process_words([reference], [hypothesis])

    def reduce(self, stats: Sequence[Stat] | Stat) -> float | None:
        """(S + D + I) / N over all items; None if no reference has any."""
        return _reduce(stats)


class CharacterErrors(WordErrors):
    """CER, for languages without spaces and for spelling. A space is a character."""

    name = "CER"
    unit = "CER, wrong characters per character"
    meaning = "Characters that are wrong, left out or made up, per character of the true text."

    def _align(self, reference: str, hypothesis: str) -> Any:
        return jiwer.process_characters([reference], [hypothesis])


def scored(row: Row, prediction: Prediction, language: str) -> tuple[str, str]:
    """Reference and transcript of an item as they are compared."""
    spoken = row_language(row, language)
    return normalize(row.reference, spoken), normalize(str(prediction.value), spoken)
