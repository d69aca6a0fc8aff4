"""Word error rate of recordings with several speakers, in which each word must have its speaker.

This is cpWER, the concatenated minimum-permutation word error rate (CHiME-6; MeetEval computes the
same): the words of each speaker are joined, each reference speaker gets one stream of the
transcript so that the errors are the fewest, and missing speakers or streams are empty.
"""

from __future__ import annotations

from collections.abc import Sequence

import jiwer
import numpy as np
from scipy.optimize import linear_sum_assignment  # type: ignore[import-untyped]

from mmtune.data.rows import Row
from mmtune.metrics.metric import Stat
from mmtune.metrics.text.normalize import normalize
from mmtune.metrics.text.transcribed_row import row_language
from mmtune.metrics.text.variants import STRICT, Variants
from mmtune.metrics.text.wer import reduce_errors
from mmtune.predict import Prediction

# Keys in a prediction's details: texts of the reference's speakers, and of the transcript's.
REFERENCES, STREAMS = "references", "streams"


class SpeakerWordErrors:
    """cpWER. Statistic: (S, D, I, N) = substitutions, deletions, insertions, words.

    Args:
        language: language of rows that don't name theirs.
        variants: spellings that count as right, in reference and transcript.
    """

    name = "cpWER"
    unit = "cpWER, wrong words per word spoken"
    meaning = (
        "Words that are wrong, left out, made up or given to another speaker, per word spoken."
    )
    says = "Words wrong or given to another speaker: {adapter} of {total}, before {base}."
    higher_is_better = False

    def __init__(self, language: str = "en", variants: Variants = STRICT) -> None:
        self.language, self.variants = language, variants

    def observe(self, row: Row, prediction: Prediction) -> Stat:
        """(S, D, I, N) of one recording, with the best assignment of streams to speakers."""
        language = row_language(row, self.language)
        spoken, heard = (
            [self.variants(normalize(str(text), language)) for text in prediction.details[key]]
            for key in (REFERENCES, STREAMS)
        )
        size = max(len(spoken), len(heard))
        spoken += [""] * (size - len(spoken))
        heard += [""] * (size - len(heard))
        counts = np.array([[_errors(one, other) for other in heard] for one in spoken])
        pairs = linear_sum_assignment(counts[:, :, :3].sum(axis=2))
        found: Stat = counts[pairs].sum(axis=0)
        return found

    def reduce(self, stats: Sequence[Stat] | Stat) -> float | None:
        """(S + D + I) / N over all recordings; None if no reference has any words."""
        return reduce_errors(stats)


def _errors(reference: str, transcript: str) -> list[float]:
    found = jiwer.process_words([reference], [transcript])
    words = found.hits + found.substitutions + found.deletions
    return [float(n) for n in (found.substitutions, found.deletions, found.insertions, words)]
