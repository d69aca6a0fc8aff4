"""Repeating rows: the share of transcripts in which the model repeats itself."""

from __future__ import annotations

import re
import zlib
from collections.abc import Sequence

import numpy as np

from mmtune.data.rows import Row
from mmtune.metrics.metric import Stat
from mmtune.predict import Prediction

COPIES = 4  # a phrase that stands so often in a row is a repeat
SPOKEN_COPIES = 2  # and so much more often than anything in the reference
LONGEST_PHRASE = 20  # words
COMPRESSION = 2.4  # zlib's ratio of a text that repeats itself (openai/whisper, transcribe.py)
# Letters and digits; a character of a script without spaces is a word.
WORD = re.compile(r"[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff]|[^\W_]+")


class Repeats:
    """The share of transcripts that repeat themselves. Statistic: (repeats, transcripts).

    Whisper can fall into a loop and write a phrase until its window is full. One such row can have
    more errors than a hundred others, so WER is also measured without these rows.
    """

    name = "repeating rows"
    unit = "share of rows"
    meaning = "The share of recordings in whose transcript the model repeats a phrase in a loop."
    says = "Recordings in which the model repeats itself: {adapter} of {total}, before {base}."
    higher_is_better = False
    rare = True

    def observe(self, row: Row, prediction: Prediction) -> Stat:
        """(1, 1) if the transcript repeats itself and its reference doesn't, else (0, 1)."""
        return np.array([float(repeats(str(prediction.value), row.reference)), 1.0])

    def reduce(self, stats: Sequence[Stat] | Stat) -> float | None:
        """Repeats per transcript; None without transcripts."""
        found, n = np.asarray(stats, dtype=np.float64).reshape(-1, 2).sum(axis=0)
        return float(found / n) if n else None


def repeats(text: str, reference: str = "") -> bool:
    """Whether a transcript repeats itself more than what was spoken.

    Examples:
        >>> repeats("thank you thank you thank you thank you")
        True
        >>> repeats("no no no no", "no no no")
        False
    """
    copies, spoken = most_copies(text), most_copies(reference)
    if copies >= COPIES and copies > spoken + SPOKEN_COPIES:
        return True
    return compression(text) > COMPRESSION > compression(reference)


def most_copies(text: str) -> int:
    """How often the most repeated phrase of a text stands there without a break; case is ignored.

    A phrase has up to `LONGEST_PHRASE` words. A text without any repetition has 1, an empty one 0.
    """
    words = WORD.findall(text.casefold())
    most = min(len(words), 1)
    for size in range(1, min(LONGEST_PHRASE, len(words) // 2) + 1):
        same = 0
        for at in range(size, len(words)):
            same = same + 1 if words[at] == words[at - size] else 0
            most = max(most, same // size + 1)
    return most


def compression(text: str) -> float:
    """Return the compression ratio of a text with zlib; 0 for an empty one."""
    data = text.encode()
    return len(data) / len(zlib.compress(data)) if data else 0.0
