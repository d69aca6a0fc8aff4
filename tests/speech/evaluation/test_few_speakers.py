"""A few speakers can't show that an adapter helps, whatever they say."""

from __future__ import annotations

import math

import pytest

from mmtune.evaluation.comparison import Comparison
from mmtune.evaluation.suite import Suite, load_suite
from mmtune.evaluation.verdict import judge
from mmtune.metrics.text.wer import WordErrors
from mmtune.pages.figures import reading
from mmtune.predict import Prediction
from mmtune.speech.evaluation.items import Item
from mmtune.speech.evaluation.measures import measure
from mmtune.speech.speech_row import SpeechRow


def items(speakers: int, each: int = 12) -> list[Item]:
    """The base gets two or three of ten words wrong, the adapter one or none."""
    found = []
    for s in range(speakers):
        for i in range(each):
            words = [f"word{s}x{i}x{k}" for k in range(10)]
            wrong = 2 + (i + s) % 2
            base, adapter = (
                ["no"] * wrong + words[wrong:],
                ["no"] * (wrong - 2) + words[wrong - 2 :],
            )
            row = SpeechRow(id=f"{s}-{i}", audio="a.wav", text=" ".join(words), speaker=f"s{s}")
            heard = {
                "base": Prediction(row.id, " ".join(base)),
                "adapter": Prediction(row.id, " ".join(adapter)),
            }
            # As `mmtune evaluate` chooses: speakers are resampled if there are ten.
            own = ("speaker", row.speaker) if speakers >= 10 else ("sentence", row.reference)
            found.append(Item(row, heard, own))
    return found


@pytest.fixture(scope="module")
def suite() -> Suite:
    return load_suite("dialect")


@pytest.mark.parametrize("speakers", range(1, 13))
def test_fewer_than_six_speakers_cannot_pass(suite: Suite, speakers: int) -> None:
    found = measure(WordErrors("en"), suite.main[0].slice, items(speakers))
    assert found.units == speakers
    assert found.difference.high < 0
    verdict = judge(suite, Comparison("speech", [found], "headline"))
    assert verdict.main.status == ("passed" if speakers >= 6 else "not enough data")
    assert "not enough speakers" in found.note
    assert reading(found) == ("no clear difference" if speakers == 1 else "better")


@pytest.mark.parametrize("count", [2, 12])
def test_the_interval_of_one_speaker_covers_the_sentences(count: int) -> None:
    found = measure(WordErrors("en"), "test", items(1, count))
    assert found.base.low < found.base.value < found.base.high
    assert "covers this speaker's items, and no other speaker" in found.note


def test_one_item_gives_no_better_and_no_worse() -> None:
    found = measure(WordErrors("en"), "test", items(1, 1))
    assert math.isfinite(found.difference.value)
    assert reading(found) == "no clear difference"
