"""Word and character error rate of a corpus: errors and words are summed over all items.

jiwer computes the alignment. Items with an empty reference count, so words heard in silence are
insertions. Averages over utterances, and scripts that drop such items, hide hallucination.
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


def reduce_errors(stats: Sequence[Stat] | Stat) -> float | None:
    """(S + D + I) / N over all items; None if N is 0."""
    matrix = np.asarray(stats, dtype=np.float64).reshape(-1, 4)
    units = matrix[:, 3].sum()
    return float(matrix[:, :3].sum() / units) if units else None


class WordErrors:
    """Word error rate. Statistic: (S, D, I, N) = substitutions, deletions, insertions, words.

    Args:
        language: language of rows that don't name theirs.
        variants: spellings that count as right, in reference and transcript.
    """

    name = "WER"
    unit = "WER, wrong words per word spoken"
    meaning = "Words that are written wrongly, left out or made up, per word that was spoken."
    says = "Wrong words: {adapter} of {total}, before {base}."
    higher_is_better = False

    def __init__(self, language: str = "en", variants: Variants = STRICT) -> None:
        self.language, self.variants = language, variants

    def observe(self, row: Row, prediction: Prediction) -> Stat:
        """(S, D, I, N) of one transcript; transcript and reference are normalized."""
        reference, hypothesis = scored(row, prediction, self.language)
        found = self._align(self.variants(reference), self.variants(hypothesis))
        units = found.hits + found.substitutions + found.deletions
        return np.array(
            [found.substitutions, found.deletions, found.insertions, units], dtype=np.float64
        )

    def _align(self, reference: str, hypothesis: str) -> Any:
        return jiwer.process_words([reference], [hypothesis])

    def reduce(self, stats: Sequence[Stat] | Stat) -> float | None:
        """(S + D + I) / N over all items; None if no reference has any words."""
        return reduce_errors(stats)


class CharacterErrors(WordErrors):
    """Character error rate, for languages without spaces and for spelling; spaces count."""

    name = "CER"
    unit = "CER, wrong characters per character"
    meaning = "Characters that are wrong, left out or made up, per character of the true text."
    says = "Wrong characters: {adapter} of {total}, before {base}."

    def _align(self, reference: str, hypothesis: str) -> Any:
        return jiwer.process_characters([reference], [hypothesis])


def scored(row: Row, prediction: Prediction, language: str) -> tuple[str, str]:
    """Return an item's normalized reference and transcript."""
    spoken = row_language(row, language)
    return normalize(row.reference, spoken), normalize(str(prediction.value), spoken)
