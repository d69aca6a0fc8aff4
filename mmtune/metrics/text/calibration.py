"""Metrics of word confidence: calibration error, ranking of errors (AUROC) and Brier score.

A word of the normalized transcript is right if the alignment of WER pairs it with an equal word of
the reference. Its confidence is that of the written word that it comes from
(`mmtune.speech.whisper.word_times.word_confidences`). Missing words have no confidence.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from mmtune.data.rows import Row
from mmtune.metrics.measure import Bin
from mmtune.metrics.metric import Stat
from mmtune.metrics.text.aligned import align_words, written_places
from mmtune.metrics.text.transcribed_row import row_language
from mmtune.metrics.text.wer import scored
from mmtune.predict import Prediction

# Bins of equal width, as in Guo et al., "On Calibration of Modern Neural Networks", 2017.
BINS = 15
# Most confidences are near 1, so words are ranked on a grid of log odds, in half-open steps of 0.1.
LOG_ODDS = np.arange(-7.0, 10.0, 0.1)


def judged_words(
    row: Row, prediction: Prediction, language: str
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Judge each word of a transcript that corresponds to a written word.

    Args:
        row: the row with the reference.
        prediction: its details hold "words", pairs of text and confidence; without them, no word
            is judged.
        language: language of rows that don't name theirs.

    Returns:
        The confidence of each word, [words], and whether it is right, [words].
    """
    words = prediction.details.get("words") or ()
    reference, hypothesis = (text.split() for text in scored(row, prediction, language))
    spoken = row_language(row, language)
    places = written_places([str(text) for text, _ in words], hypothesis, spoken)
    right = {theirs for _, theirs, equal in align_words(reference, hypothesis) if equal}
    judged = [(float(words[p][1]), i in right) for i, p in enumerate(places) if p is not None]
    confidences, hits = zip(*judged, strict=True) if judged else ((), ())
    return np.array(confidences, dtype=np.float64), np.array(hits, dtype=bool)


class _OfWords:
    """A metric of the confidence of words.

    Args:
        language: language of rows that don't name theirs.
    """

    def __init__(self, language: str = "en") -> None:
        self.language = language


class CalibrationError(_OfWords):
    """Expected calibration error: mean distance of accuracy from confidence in bins (Guo et al.).

    An item's statistic holds for each of `BINS` bins the number of words, the sum of their
    confidences, and the number of right words. With few words the error is above 0 even for a
    calibrated model.
    """

    name = "calibration error"
    unit = "share of words"
    meaning = "How far the confidence of words is from how often they are right."
    higher_is_better = False

    def observe(self, row: Row, prediction: Prediction) -> Stat:
        """Words, summed confidences and right words of each bin, [3 * BINS]."""
        confidences, right = judged_words(row, prediction, self.language)
        # A bin includes its upper limit.
        places = np.clip(np.ceil(confidences * BINS).astype(int) - 1, 0, BINS - 1)
        parts = [None, confidences, right.astype(np.float64)]
        return np.concatenate([np.bincount(places, part, BINS) for part in parts])

    def reduce(self, stats: Sequence[Stat] | Stat) -> float | None:
        """Mean of |accuracy - confidence| over bins, weighted by words; None without words."""
        words, confidences, right = self._sums(stats)
        total = words.sum()
        return float(np.abs(right - confidences).sum() / total) if total else None

    def bins(self, stats: Sequence[Stat] | Stat) -> list[Bin]:
        """Return the bins that hold words, in ascending order."""
        words, confidences, right = self._sums(stats)
        return [
            Bin(i / BINS, (i + 1) / BINS, confidences[i] / n, right[i] / n, int(n))
            for i, n in enumerate(words.tolist())
            if n
        ]

    def _sums(self, stats: Sequence[Stat] | Stat) -> NDArray[np.float64]:
        matrix = np.asarray(stats, dtype=np.float64).reshape(-1, 3 * BINS)
        sums: NDArray[np.float64] = matrix.sum(axis=0).reshape(3, BINS)
        return sums


class ErrorRanking(_OfWords):
    """AUROC of errors: how often a wrong word has a lower confidence than a right word.

    It is Mann and Whitney's U divided by the number of pairs; ties count half. At 0.5, confidence
    tells nothing about errors.
    """

    name = "AUROC of errors"
    unit = "AUROC, 0.5 is chance"
    meaning = "How often a wrong word has less confidence than a right one."
    higher_is_better = True

    def observe(self, row: Row, prediction: Prediction) -> Stat:
        """Numbers of right and of wrong words in each step of `LOG_ODDS`, [2 * steps]."""
        confidences, right = judged_words(row, prediction, self.language)
        safe = np.clip(confidences, 1e-6, 1 - 1e-6)
        places = np.digitize(np.log(safe / (1 - safe)), LOG_ODDS)
        steps = len(LOG_ODDS) + 1
        return np.concatenate(
            [np.bincount(places[some], minlength=steps) for some in (right, ~right)]
        ).astype(np.float64)

    def reduce(self, stats: Sequence[Stat] | Stat) -> float | None:
        """The AUROC over all words; None if no word is wrong or none is right."""
        matrix = np.asarray(stats, dtype=np.float64).reshape(-1, 2 * (len(LOG_ODDS) + 1))
        right, wrong = matrix.sum(axis=0).reshape(2, -1)
        pairs = right.sum() * wrong.sum()
        if not pairs:
            return None
        below = np.cumsum(wrong) - wrong / 2
        return float((right * below).sum() / pairs)


class BrierScore(_OfWords):
    """Brier score: mean squared distance of the confidence from 1 (right) or 0 (wrong) (1950)."""

    name = "Brier score"
    unit = "squared distance"
    meaning = "Mean squared distance of a word's confidence from 1 (right) or 0 (wrong)."
    higher_is_better = False

    def observe(self, row: Row, prediction: Prediction) -> Stat:
        """The sum of squared distances and the number of words."""
        confidences, right = judged_words(row, prediction, self.language)
        return np.array([((confidences - right) ** 2).sum(), len(right)], dtype=np.float64)

    def reduce(self, stats: Sequence[Stat] | Stat) -> float | None:
        """The mean over all words; None without words."""
        total, words = np.asarray(stats, dtype=np.float64).reshape(-1, 2).sum(axis=0)
        return float(total / words) if words else None
