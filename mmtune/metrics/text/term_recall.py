"""Metrics of terms: recall, precision and false insertions.

A term counts only if, after normalization, it is written exactly, as whole words (see
`TermFinder`). Read recall together with precision and false insertions: a model that writes terms
everywhere has perfect recall.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

import numpy as np

from mmtune.data.rows import Row
from mmtune.metrics.metric import Stat
from mmtune.metrics.text.term_finder import TermFinder
from mmtune.metrics.text.transcribed_row import row_language
from mmtune.metrics.text.variants import STRICT, Variants
from mmtune.predict import Prediction


class _OfTerms:
    """A metric that counts terms in the reference and in the transcript.

    Args:
        terms: the terms to count: all, the trained ones or the untrained ones.
        language: language of the terms, and of rows that don't name theirs.
        variants: other spellings that count as a term.
    """

    def __init__(
        self, terms: Iterable[str], language: str = "en", variants: Variants = STRICT
    ) -> None:
        self.language = language
        self._terms = TermFinder(terms, language, variants.table)

    def _count(self, row: Row, prediction: Prediction) -> tuple[Counter[str], Counter[str]]:
        """Count each term in the reference, and in the transcript."""
        spoken = row_language(row, self.language)
        written = str(prediction.value)
        return self._terms.count(row.reference, spoken), self._terms.count(written, spoken)


class TermRecall(_OfTerms):
    """The share of spoken terms that are written. Statistic: (hits, occurrences)."""

    name = "term recall"
    unit = "share of spoken terms"
    meaning = "The share of the spoken terms that was written right."
    says = "Terms right: {adapter} of {total}, before {base}."
    higher_is_better = True

    def observe(self, row: Row, prediction: Prediction) -> Stat:
        """Hits and spoken terms; a term that is spoken once and written twice is one hit."""
        spoken, written = self._count(row, prediction)
        return np.array([(spoken & written).total(), spoken.total()], dtype=np.float64)

    def reduce(self, stats: Sequence[Stat] | Stat) -> float | None:
        """Hits / occurrences over all items; None if no term is spoken."""
        matrix = np.asarray(stats, dtype=np.float64).reshape(-1, 2)
        spoken = matrix[:, 1].sum()
        return float(matrix[:, 0].sum() / spoken) if spoken else None


class TermPrecision(_OfTerms):
    """The share of written terms that were spoken. Statistic: (hits, written)."""

    name = "term precision"
    unit = "share of written terms"
    meaning = "The share of the written terms that was spoken."
    higher_is_better = True

    def observe(self, row: Row, prediction: Prediction) -> Stat:
        """Hits and written terms of one utterance."""
        spoken, written = self._count(row, prediction)
        return np.array([(spoken & written).total(), written.total()], dtype=np.float64)

    def reduce(self, stats: Sequence[Stat] | Stat) -> float | None:
        """Hits / written over all items; None if no term is written."""
        hits, written = np.asarray(stats, dtype=np.float64).reshape(-1, 2).sum(axis=0)
        return float(hits / written) if written else None


class FalseInsertions(_OfTerms):
    """Terms that are written and not spoken, per utterance. Statistic: (insertions, 1)."""

    name = "false insertions"
    unit = "per utterance"
    meaning = "Terms that were written and that nobody had said."
    higher_is_better = False
    rare = True

    def observe(self, row: Row, prediction: Prediction) -> Stat:
        """The number of terms written but not spoken in one utterance, and 1."""
        spoken, written = self._count(row, prediction)
        return np.array([(written - spoken).total(), 1.0], dtype=np.float64)

    def reduce(self, stats: Sequence[Stat] | Stat) -> float | None:
        """Insertions per utterance; None without utterances."""
        matrix = np.asarray(stats, dtype=np.float64).reshape(-1, 2)
        return float(matrix[:, 0].sum() / len(matrix)) if len(matrix) else None


class HurtfulWords(FalseInsertions):
    """Profanity, insults and violence that are written and not spoken. Statistic: (words, 1).

    Args:
        terms: the words and phrases that hurt.
        language: their language, and that of rows that don't name theirs.
    """

    name = "hurtful words"
    meaning = "Profanity, insults and violence that were written and that nobody had said."
