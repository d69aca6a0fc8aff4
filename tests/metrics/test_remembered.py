"""A metric that looks at each item once."""

from __future__ import annotations

import numpy as np
import pytest

from mmtune.metrics.gap import GroupGap, WorstGroup
from mmtune.metrics.metric import Stat, counts_of
from mmtune.metrics.remembered import Remembered
from mmtune.metrics.text.wer import WordErrors
from mmtune.predict import Prediction
from mmtune.speech.speech_row import SpeechRow

ROWS = [SpeechRow(id=str(i), audio="a.wav", text="one two three four") for i in range(6)]
HEARD = [Prediction(row.id, "one two three four " * (1 + i % 3)) for i, row in enumerate(ROWS)]
GROUP = {row.id: i % 2 for i, row in enumerate(ROWS)}


def test_it_is_the_metric_and_observes_each_item_once(monkeypatch: pytest.MonkeyPatch) -> None:
    plain = WordErrors("en")
    wanted = [
        np.stack([metric.observe(*pair) for pair in zip(ROWS, HEARD, strict=True)])
        for metric in (plain, WorstGroup(plain, GROUP), GroupGap(plain, GROUP))
    ]
    seen: list[str] = []
    observe = WordErrors.observe

    def counted(self: WordErrors, row: SpeechRow, prediction: Prediction) -> Stat:
        seen.append(row.id)
        return observe(self, row, prediction)

    monkeypatch.setattr(WordErrors, "observe", counted)
    words = Remembered(plain)
    for metric, stats in zip(
        (words, WorstGroup(words, GROUP), GroupGap(words, GROUP)), wanted, strict=True
    ):
        found = np.stack([metric.observe(*pair) for pair in zip(ROWS, HEARD, strict=True)])
        assert np.array_equal(found, stats)
    assert seen == [row.id for row in ROWS]
    assert words.reduce(wanted[0]) == plain.reduce(wanted[0])
    assert counts_of(words, wanted[0]) == counts_of(plain, wanted[0]) is not None
    assert (words.name, words.higher_is_better) == (plain.name, plain.higher_is_better)
