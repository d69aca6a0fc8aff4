"""Terms: how many of those spoken are written, and how many are written that nobody spoke.

A term counts only if it is written exactly, after normalization, as whole words. Recall belongs
beside precision and false insertions: a model that writes terms everywhere has a perfect recall.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence

import numpy as np

from mmtune.data.rows import Row
from mmtune.metrics.metric import Stat
from mmtune.metrics.text.normalize import normalize
from mmtune.metrics.text.variants import STRICT, Variants
from mmtune.metrics.text.wer import scored
from mmtune.predict import Prediction


class TermCounter:
    """Counts terms in normalized text: whole words, the longest term first, no overlaps.

    Args:
        terms: as a person writes them; several words are allowed.
        language: of the terms.
        variants: spellings that count as a term's.
    """

    def __init__(
        self, terms: Iterable[str], language: str = "en", variants: Variants = STRICT
    ) -> None:
        self._variants = variants
        written = {normalize(term, language) for term in terms} - {""}
        longest_first = sorted(written, key=lambda term: (-len(term), term))
        # (?!) matches nothing: without terms there is nothing to find.
        inner = "|".join(re.escape(term) for term in longest_first) or "(?!)"
        self._pattern = re.compile(rf"(?<!\S)(?:{inner})(?!\S)")

    def count(self, normalized: str) -> Counter[str]:
        """How often each term stands in `normalized`."""
        text = self._variants(normalized)
        return Counter(match.group() for match in self._pattern.finditer(text))


class _OfTerms:
    """Counts terms in what was said and in what was written.

    Args:
        terms: which terms to look for: all, the ones that were trained, the ones that weren't.
        language: of the terms, and of rows that don't name theirs.
        variants: spellings that count as a term's.
    """

    def __init__(
        self, terms: Iterable[str], language: str = "en", variants: Variants = STRICT
    ) -> None:
        self.language = language
        self._terms = TermCounter(terms, language, variants)

    def _count(self, row: Row, prediction: Prediction) -> tuple[Counter[str], Counter[str]]:
        """How often each term is spoken, and written."""
        reference, hypothesis = scored(row, prediction, self.language)
        return self._terms.count(reference), self._terms.count(hypothesis)


class TermRecall(_OfTerms):
    """Share of spoken terms that are written. An item's statistic is (hits, occurrences)."""

    name = "term recall"
    unit = "share of spoken terms"
    meaning = "Of the terms that were spoken, the share that was written right."
    higher_is_better = True

    def observe(self, row: Row, prediction: Prediction) -> Stat:
        """(hits, occurrences): a term that is spoken once and written twice is one hit."""
        spoken, written = self._count(row, prediction)
        return np.array([(spoken & written).total(), spoken.total()], dtype=np.float64)

    def reduce(self, stats: Sequence[Stat] | Stat) -> float | None:
        """Hits / occurrences over all items; None if no term is spoken."""
        matrix = np.asarray(stats, dtype=np.float64).reshape(-1, 2)
        spoken = matrix[:, 1].sum()
        return float(matrix[:, 0].sum() / spoken) if spoken else None


class TermPrecision(_OfTerms):
    """Share of written terms that were spoken. An item's statistic is (hits, written)."""

    name = "term precision"
    unit = "share of written terms"
    meaning = "Of the terms that were written, the share that was spoken."
    higher_is_better = True

    def observe(self, row: Row, prediction: Prediction) -> Stat:
        """(hits, written)."""
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

    def observe(self, row: Row, prediction: Prediction) -> Stat:
        """(insertions, 1)."""
        spoken, written = self._count(row, prediction)
        return np.array([(written - spoken).total(), 1.0], dtype=np.float64)

    def reduce(self, stats: Sequence[Stat] | Stat) -> float | None:
        """Insertions per utterance; None without utterances."""
        matrix = np.asarray(stats, dtype=np.float64).reshape(-1, 2)
        return float(matrix[:, 0].sum() / len(matrix)) if len(matrix) else None
