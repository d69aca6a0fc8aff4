"""What the confidence of a written word is worth: does it say how often, and where, it is right?

A word of the normalized transcript is right where the alignment of WER finds it equal to the
reference's; its confidence is that of the written word that it comes from
(`mmtune.speech.whisper.word_times.word_confidences`). Words that are missing have none.
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

BINS = 15  # of equal width, as in Guo et al., "On Calibration of Modern Neural Networks", 2017
# Confidences crowd near 1, so that ranks are taken on a grid of log odds: half-open steps of 0.1.
LOG_ODDS = np.arange(-7.0, 10.0, 0.1)


def judged_words(
    row: Row, prediction: Prediction, language: str
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """(confidence, right) of each word of a transcript that a written word corresponds to.

    Args:
        prediction: with "words" in its details, [text, confidence] each; without, there are none.
        language: of rows that don't name theirs.
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
    """Judges the confidence of words.

    Args:
        language: of rows that don't name theirs.
    """

    def __init__(self, language: str = "en") -> None:
        self.language = language


class CalibrationError(_OfWords):
    """Expected calibration error: how far accuracy is from confidence, bin by bin (Guo et al.).

    An item's statistic is, for each of `BINS` bins, its words, the sum of their confidences, and
    how many are right. Of few words it is above 0 even for an honest model.
    """

    name = "calibration error"
    unit = "share of words"
    meaning = "How far the confidence of words is from how often they are right."
    higher_is_better = False

    def observe(self, row: Row, prediction: Prediction) -> Stat:
        """[3 * BINS]: words, summed confidences, right words."""
        confidences, right = judged_words(row, prediction, self.language)
        # A bin holds its upper end.
        places = np.clip(np.ceil(confidences * BINS).astype(int) - 1, 0, BINS - 1)
        parts = [None, confidences, right.astype(np.float64)]
        return np.concatenate([np.bincount(places, part, BINS) for part in parts])

    def reduce(self, stats: Sequence[Stat] | Stat) -> float | None:
        """The mean over words of |accuracy - confidence| of their bin; None without words."""
        words, confidences, right = self._sums(stats)
        total = words.sum()
        return float(np.abs(right - confidences).sum() / total) if total else None

    def bins(self, stats: Sequence[Stat] | Stat) -> list[Bin]:
        """The bins that hold words, in rising order."""
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
    """AUROC of errors: how often a wrong word has less confidence than a right one; ties are half.

    It is Mann and Whitney's U over the pairs. 0.5 is chance: low confidences then point nowhere.
    """

    name = "AUROC of errors"
    unit = "AUROC, 0.5 is chance"
    meaning = "How often a wrong word has less confidence than a right one."
    higher_is_better = True

    def observe(self, row: Row, prediction: Prediction) -> Stat:
        """Right and wrong words of each step of `LOG_ODDS`, [2 * steps]."""
        confidences, right = judged_words(row, prediction, self.language)
        safe = np.clip(confidences, 1e-6, 1 - 1e-6)
        places = np.digitize(np.log(safe / (1 - safe)), LOG_ODDS)
        steps = len(LOG_ODDS) + 1
        return np.concatenate(
            [np.bincount(places[some], minlength=steps) for some in (right, ~right)]
        ).astype(np.float64)

    def reduce(self, stats: Sequence[Stat] | Stat) -> float | None:
        """None where no word is wrong, or none right."""
        matrix = np.asarray(stats, dtype=np.float64).reshape(-1, 2 * (len(LOG_ODDS) + 1))
        right, wrong = matrix.sum(axis=0).reshape(2, -1)
        pairs = right.sum() * wrong.sum()
        if not pairs:
            return None
        below = np.cumsum(wrong) - wrong / 2
        return float((right * below).sum() / pairs)


class BrierScore(_OfWords):
    """Mean squared distance of confidence to what came of it, 1 or 0 (Brier, 1950)."""

    name = "Brier score"
    unit = "squared distance"
    meaning = "How far each word's confidence is from right or wrong, squared."
    higher_is_better = False

    def observe(self, row: Row, prediction: Prediction) -> Stat:
        """(sum of squares, words)."""
        confidences, right = judged_words(row, prediction, self.language)
        return np.array([((confidences - right) ** 2).sum(), len(right)], dtype=np.float64)

    def reduce(self, stats: Sequence[Stat] | Stat) -> float | None:
        """None without words."""
        total, words = np.asarray(stats, dtype=np.float64).reshape(-1, 2).sum(axis=0)
        return float(total / words) if words else None
