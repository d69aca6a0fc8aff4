"""WER of the text as it is read: case and punctuation count."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence

import jiwer
import numpy as np

from mmtune.data.rows import Row
from mmtune.metrics.metric import Stat
from mmtune.metrics.text.wer import WordErrors
from mmtune.predict import Prediction

QUOTES = str.maketrans({"’": "'", "‘": "'", "“": '"', "”": '"', "…": "..."})
MARKS = frozenset(".,?!;:。，？！、؟।")


def is_formatted(texts: Sequence[str]) -> bool:
    """Whether most texts have punctuation: against a corpus without, a formatted WER means nothing.

    Args:
        texts: references.
    """
    return 2 * sum(bool(MARKS & set(text)) for text in texts) > len(texts)


class FormattedWordErrors(WordErrors):
    """WER without normalization. A word's punctuation is part of it: "end." is not "end".

    Only Unicode's forms (NFC), curly quotes and white space are made alike.
    """

    name = "formatted WER"
    unit = "formatted WER, per word spoken"
    meaning = "Wrong words, where case and punctuation count too."

    def observe(self, row: Row, prediction: Prediction) -> Stat:
        """(S, D, I, N) of one transcript as it is."""
        reference, hypothesis = (
            " ".join(unicodedata.normalize("NFC", text.translate(QUOTES)).split())
            for text in (row.reference, str(prediction.value))
        )
        found = jiwer.process_words([reference], [hypothesis])
        units = found.hits + found.substitutions + found.deletions
        return np.array(
            [found.substitutions, found.deletions, found.insertions, units], dtype=np.float64
        )
