"""Speakers who read the same sentences: the interval of whichever matters more."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy import stats as stats_of_scipy

from mmtune.metrics.bootstrap import Interval, crossed, paired_bootstrap, wider
from mmtune.metrics.text.term_recall import TermPrecision
from mmtune.metrics.text.wer import WordErrors
from mmtune.predict import Prediction
from mmtune.speech.evaluation.items import Item
from mmtune.speech.evaluation.measures import measure
from mmtune.speech.speech_row import SpeechRow

SPEAKERS, SENTENCES, WORDS = 24, 10, 40


def test_what_crosses() -> None:
    speakers, sentences = ["a", "a", "b", "b"], [1, 2, 1, 2]
    assert crossed(speakers, sentences)
    assert crossed(sentences, speakers)
    assert not crossed(speakers, [1, 2, 3, 4])  # each sentence is one speaker's
    assert not crossed(["a", "b", "c", "d"], sentences)  # each speaker reads one
    assert not crossed(["a"] * 4, sentences)
    assert not crossed([], [])
    assert crossed([*speakers, "c"], [*sentences, 3])  # one that is alone changes nothing


def test_the_wider_one() -> None:
    narrow, wide = Interval(0.1, 0.0, 0.2), Interval(0.1, -0.2, 0.1)
    undefined = Interval(*[float("nan")] * 3)
    assert wider(narrow, wide) is wide
    assert wider(wide, narrow) is wide
    assert wider(undefined, narrow) is narrow
    assert wider(narrow, undefined) is narrow


def test_a_model_keeps_its_interval_where_the_other_has_none() -> None:
    # A base that writes no term has no precision; the adapter's is known all the same.
    base, adapter = (
        [np.array([0.0, 0.0])] * 8,
        [np.array([float(i % 4 > 0), 1.0]) for i in range(8)],
    )
    own, other, gap = paired_bootstrap(base, adapter, TermPrecision([]).reduce)
    assert np.isnan([own.value, own.low, gap.value, gap.high]).all()
    assert other.value == 0.75
    assert other.low < 0.75 < other.high


def items(by: str, repeat: bool = True) -> list[Item]:
    """Errors that depend on the sentence, or on the speaker, alone."""
    rng = np.random.default_rng(3)
    rates = rng.uniform(0, 0.6, SENTENCES if by == "sentence" else SPEAKERS)
    found = []
    for speaker in range(SPEAKERS):
        for sentence in range(SENTENCES):
            name = f"{speaker}-{sentence}"
            mark = "abcdefghij"[sentence] + ("" if repeat else f" {'xyz'[speaker % 3] * speaker}q")
            text = " ".join(["word"] * (WORDS - 1) + [mark])
            row = SpeechRow(id=name, audio="a", text=text, speaker=f"s{speaker}")
            wrong = int(rates[sentence if by == "sentence" else speaker] * WORDS)
            heard = {
                "base": Prediction(name, text),
                "adapter": Prediction(name, " ".join(["other"] * wrong + text.split()[wrong:])),
            }
            found.append(Item(row, heard, ("speaker", row.speaker)))
    return found


@pytest.mark.parametrize("by", ["sentence", "speaker"])
def test_the_effect_that_dominates_sets_the_width(by: str) -> None:
    some = items(by)
    found = measure(WordErrors(), "test", some)
    assert "sentences and speakers cross: " in found.note
    metric = WordErrors()
    stats = {m: [metric.observe(i.row, i.heard[m]) for i in some] for m in ("base", "adapter")}

    def width(labels: list[str]) -> float:
        gap = paired_bootstrap(stats["base"], stats["adapter"], metric.reduce, clusters=labels)[2]
        return gap.high - gap.low

    own = found.difference.high - found.difference.low
    speakers = width([i.row.speaker for i in some])
    sentences = width([i.row.text for i in some])
    assert own == pytest.approx(max(speakers, sentences))
    if by == "sentence":
        # By speakers every resample has each sentence as often: no width at all.
        assert speakers < 0.01 < 0.1 < own == pytest.approx(sentences)
        # Student's interval over few sentences; studentized ends lie a little farther out.
        reach = stats_of_scipy.t.ppf(0.985, SENTENCES - 1)
        truth = 2 * reach * np.std(_rates(some), ddof=1) / np.sqrt(SENTENCES)
        assert truth * 0.98 < own < truth * 1.4
    else:
        assert sentences < 0.01 < 0.1 < own == pytest.approx(speakers)


def _rates(some: list[Item]) -> list[float]:
    metric = WordErrors()
    first = [i for i in some if i.row.speaker == "s0"]
    return [metric.observe(i.row, i.heard["adapter"])[:3].sum() / WORDS for i in first]


def test_few_speakers_are_not_resampled() -> None:
    some = [replace(i, cluster=("sentence", i.row.reference)) for i in items("speaker")]
    few = [i for i in some if int(i.row.speaker[1:]) < 4]
    assert " cross: " in measure(WordErrors(), "test", some).note
    assert " cross: " not in measure(WordErrors(), "test", few).note


def test_nothing_is_said_where_nothing_crosses() -> None:
    found = measure(WordErrors(), "test", items("speaker", repeat=False))
    assert " cross: " not in found.note
