"""Formatted WER: word error rate in which case and punctuation count."""

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
    """Whether most references have punctuation; without it, formatted WER means nothing.

    Args:
        texts: the references.
    """
    return 2 * sum(bool(MARKS & set(text)) for text in texts) > len(texts)


class FormattedWordErrors(WordErrors):
    """WER without normalization: punctuation is part of a word, so "end." differs from "end".

    Only Unicode's normal form (NFC), curly quotes and white space are unified.
    """

    name = "formatted WER"
    unit = "formatted WER, per word spoken"
    meaning = "Wrong words, where case and punctuation count too."

    def observe(self, row: Row, prediction: Prediction) -> Stat:
        """(S, D, I, N) of one transcript, not normalized."""
        reference, hypothesis = (
            " ".join(unicodedata.normalize("NFC", text.translate(QUOTES)).split())
            for text in (row.reference, str(prediction.value))
        )
        found = jiwer.process_words([reference], [hypothesis])
        units = found.hits + found.substitutions + found.deletions
        return np.array(
            [found.substitutions, found.deletions, found.insertions, units], dtype=np.float64
        )
