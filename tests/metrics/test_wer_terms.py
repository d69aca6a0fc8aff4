"""Error rates against jiwer's own corpus figures; terms by hand-counted cases and by property."""

from __future__ import annotations

import jiwer
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mmtune.metrics.text.hallucination import HallucinatedWords
from mmtune.metrics.text.normalize import normalize
from mmtune.metrics.text.term_recall import FalseInsertions, TermRecall
from mmtune.metrics.text.wer import CharacterErrors, WordErrors
from mmtune.predict import Prediction
from mmtune.speech.speech_row import SpeechRow


def row(text: str, language: str | None = None) -> SpeechRow:
    return SpeechRow(id="r", audio="a.wav", text=text, language=language)


def said(text: str) -> Prediction:
    return Prediction("r", text)


words = st.lists(st.sampled_from(["apple", "river", "green", "walks", "under"]), max_size=6).map(
    " ".join
)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(words.filter(bool), words), min_size=1, max_size=8))
def test_corpus_rates_are_jiwers(pairs: list[tuple[str, str]]) -> None:
    references, hypotheses = zip(*pairs, strict=True)
    for metric, expected in (
        (WordErrors(), jiwer.wer(list(references), list(hypotheses))),
        (CharacterErrors(), jiwer.cer(list(references), list(hypotheses))),
    ):
        stats = [metric.observe(row(r), said(h)) for r, h in pairs]
        assert metric.reduce(stats) == pytest.approx(expected)


def test_silence_that_is_heard_as_words_counts() -> None:
    metric = WordErrors()
    silence = metric.observe(row(""), said("Thanks for watching!"))
    assert silence.tolist() == [0, 0, 3, 0]
    assert metric.reduce([silence]) is None  # no word to divide by
    spoken = metric.observe(row("one two three four five six"), said("one two three four five six"))
    assert spoken[3] == 1  # Whisper's normalizer writes the digits as one number
    assert metric.reduce([silence, spoken]) == 3.0
    # The mean of the utterances, with the empty one dropped, would have been 0.


def test_corpus_rate_is_not_the_mean_of_utterances() -> None:
    metric = WordErrors()
    stats = [
        metric.observe(row("yes"), said("no")),
        metric.observe(row("the boat went under the old bridge today"), said("the boat went "
                       "under the old bridge today")),
    ]  # fmt: skip
    assert metric.reduce(stats) == pytest.approx(1 / 9)


def test_english_is_normalized_by_meaning() -> None:
    assert normalize("Dr. O'Neil's colour isn't grey, um, it's 20%!") == normalize(
        "doctor o'neil's color is not gray it is 20%"
    )


@pytest.mark.parametrize(
    ("language", "text"),
    [("hi", "कि"), ("ta", "தமிழ்"), ("bn", "কী"), ("my", "ကျေး"), ("th", "ที่")],
)
def test_vowel_signs_are_kept(language: str, text: str) -> None:
    assert normalize(text, language).replace(" ", "") == text
    assert normalize("कि", "hi") != normalize("का", "hi")


def test_unspaced_scripts_count_characters() -> None:
    stat = WordErrors("ja").observe(row("東京都"), said("東京部"))
    assert stat.tolist() == [1, 0, 0, 3]


def test_a_row_states_its_own_language() -> None:
    stat = WordErrors("en").observe(row("क्या", "hi"), said("की"))
    assert stat[3] == 1
    assert stat[0] == 1


TERMS = ["metoprolol", "atrial fibrillation", "fibrillation", "COVID-19"]


@pytest.mark.parametrize(
    ("reference", "hypothesis", "recall", "insertions"),
    [
        ("Take metoprolol now.", "take Metoprolol, now", [1, 1], 0),
        ("Take metoprolol now.", "take metro pearl now", [0, 1], 0),
        ("Take metoprolol now.", "metoprolol metoprolol", [1, 1], 1),
        ("metoprolol and metoprolol", "metoprolol", [1, 2], 0),
        ("Take aspirin now.", "take metoprolol now", [0, 0], 1),
        ("It is atrial fibrillation.", "it is fibrillation", [0, 1], 1),
        ("It is atrial fibrillation.", "it is atrial fibrillation", [1, 1], 0),
        ("metoprolols", "metoprolol", [0, 0], 1),
        ("a covid 19 test", "a COVID-19 test", [1, 1], 0),
        ("", "metoprolol", [0, 0], 1),
    ],
)
def test_terms(reference: str, hypothesis: str, recall: list[int], insertions: int) -> None:
    assert TermRecall(TERMS).observe(row(reference), said(hypothesis)).tolist() == recall
    stat = FalseInsertions(TERMS).observe(row(reference), said(hypothesis))
    assert stat.tolist() == [insertions, 1]


def test_term_rates_sum_over_items() -> None:
    assert TermRecall(TERMS).reduce(np.array([[1, 2], [0, 0], [1, 1]])) == pytest.approx(2 / 3)
    assert TermRecall(TERMS).reduce(np.array([[0, 0]])) is None
    assert FalseInsertions(TERMS).reduce(np.array([[1, 1], [0, 1]])) == 0.5
    assert FalseInsertions([]).observe(row("a"), said("b")).tolist() == [0, 1]


def test_words_heard_in_silence_are_counted_by_the_minute() -> None:
    metric = HallucinatedWords()
    rows = [
        SpeechRow(id=str(i), audio="a", text="", nonspeech=True, duration_s=seconds)
        for i, seconds in enumerate((30, 15, 15))
    ]
    heard = ["Thank you.", "", "thank you very much"]
    stats = [
        metric.observe(row, Prediction(row.id, text)) for row, text in zip(rows, heard, strict=True)
    ]
    assert metric.reduce(stats) == 6
    assert metric.reduce(stats[1:2]) == 0
    assert metric.reduce([]) is None
