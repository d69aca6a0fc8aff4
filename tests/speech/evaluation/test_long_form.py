"""Long recordings: joined, transcribed, and divided among their sentences again."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from mmtune.evaluation.answers import StoredPredictor
from mmtune.metrics.text.drift import Drift, StartError, start_figures
from mmtune.metrics.text.wer import WordErrors
from mmtune.predict import Prediction, Request
from mmtune.speech.evaluation.items import Item, hear
from mmtune.speech.evaluation.long_form import (
    LONG,
    PARTS,
    LongForm,
    Recording,
    divide,
    first_word,
    long_form,
)
from mmtune.speech.evaluation.measures import measures
from mmtune.speech.sound.read import SAMPLE_RATE, read_row
from mmtune.speech.speech_options import SpeechOptions
from mmtune.speech.speech_row import Segment, SpeechRow
from tests.speech.real import TINY, loaded, needs, real_rows


def recording(*said: tuple[float, str]) -> Recording:
    rows = [SpeechRow(id=str(i), audio="a", text=text) for i, (_, text) in enumerate(said)]
    whole = SpeechRow(id="long/000", audio="a", text=" ".join(text for _, text in said))
    return Recording(
        whole, tuple(Item(row, {}, row.id) for row in rows), tuple(at for at, _ in said)
    )


def answer(*words: tuple[str, float]) -> Prediction:
    timed = [[word, at, at + 0.2] for word, at in words]
    return Prediction("long/000", "".join(word for word, _ in words), {"words": timed})


def test_words_go_to_their_sentences() -> None:
    whole = recording((0.5, "the boat left"), (3.0, "Nobody waved"), (6.0, "it was late"))
    found = divide(
        whole,
        answer((" The", 0.6), (" boat", 0.9), (" left", 1.2), (",", 1.3), (" um", 2.0),
               (" somebody", 3.2), (" waved.", 3.6), (" was", 6.4), (" late", 6.6)),
        "en",
    )  # fmt: skip
    texts = [each.value for each in found]
    assert texts == ["The boat left, um", "somebody waved.", "was late"]
    assert found[0].details == {"known": 0.5, "heard": 0.6}
    assert found[1].details == {"known": 3.0, "heard": 3.2}  # wrong, but in its place
    assert found[2].details == {"known": 6.0, "heard": None}  # its first word is missing
    nothing = divide(whole, answer(), "en")
    assert [(each.value, each.details["heard"]) for each in nothing] == [("", None)] * 3


def test_drift_is_the_slope_of_a_line() -> None:
    rng = np.random.default_rng(1)
    known = np.sort(rng.uniform(0, 300, 40))
    heard = known + 0.1 + 0.02 / 60 * known + rng.normal(0, 0.05, 40)
    row = SpeechRow(id="r", audio="a", text="t")
    told = [
        Prediction("r", "", {"known": k, "heard": h}) for k, h in zip(known, heard, strict=True)
    ]
    lost = Prediction("r", "", {"known": 7.0, "heard": None})
    late = np.abs(heard - known)
    median, high, drift = (
        metric.reduce([metric.observe(row, each) for each in [*told, lost]])
        for metric in start_figures()
    )
    assert (median, high) == (
        pytest.approx(np.median(late)),
        pytest.approx(np.quantile(late, 0.95)),
    )
    assert drift == pytest.approx(60 * abs(np.polyfit(known, heard - known, 1)[0]))
    for metric in (StartError(0.5, "median start error", "a meaning"), Drift()):
        assert metric.reduce([metric.observe(row, lost)]) is None


@needs(TINY)
def test_joined_rows_are_heard_where_they_were_put(tmp_path: Path) -> None:
    from mmtune.speech.transcription.predictor import SpeechPredictor

    rows = real_rows(8, step=30)
    predictor = SpeechPredictor(loaded(TINY), {}, windows="trimmed")
    active = {"base": {}, "adapter": {}}
    heard = hear(predictor, active, rows)
    items = [Item(r, h, ("sentence", r.text)) for r, h in zip(rows, heard, strict=True)]
    options = SpeechOptions(long_form=3)
    asked: list[Request] = []

    class Counting(SpeechPredictor):
        @property
        def fingerprint(self) -> str:
            asked.append(Request(rows[0]))
            return predictor.fingerprint

    counting = Counting.__new__(Counting)
    counting.__dict__ = predictor.__dict__
    stored = StoredPredictor(tmp_path, "fingerprint", lambda: counting, variants={LONG: LongForm})
    found = long_form(stored, active, items, options, tmp_path)
    joined = [item for item in found if item.kind == LONG]
    alone = [item for item in found if item.kind == PARTS]
    # All that there is makes one recording; a second would be shorter than a window.
    assert len(joined) == len(alone) == 8
    assert {item.cluster for item in found} == {item.cluster for item in items}  # one isn't enough
    samples = read_row(SpeechRow(id="l", audio=str(tmp_path / "data/long/000.flac"), text="t"))
    lengths = sum(len(read_row(row)) for row in rows)
    assert lengths + 7 * 0.2 * SAMPLE_RATE <= len(samples) <= lengths + 7 * 1.5 * SAMPLE_RATE
    figures = {(m.metric, m.slice): m for m in measures([*items, *found], set(), set(), options)}
    assert figures["WER", LONG].base.value < figures["WER", PARTS].base.value + 0.15
    assert figures["start error, median s", LONG].base.value < 0.2
    assert figures["drift, s/min", LONG].base.value < 2.0
    assert figures["drift, s/min", LONG].difference.value == 0
    spoken = sum(item.heard["base"].value.split() != [] for item in joined)
    assert spoken >= 7
    # Sentence by sentence, the errors are those of the whole.
    metric = WordErrors()
    pieces = sum(metric.observe(i.row, i.heard["base"])[:3].sum() for i in joined)
    whole = SpeechRow(id="w", audio="a", text=" ".join(i.row.reference for i in joined))
    text = " ".join(i.heard["base"].value for i in joined)
    assert pieces == pytest.approx(metric.observe(whole, Prediction("w", text))[:3].sum(), abs=2)
    # Where a row says when it is said, that counts.
    told = rows[0].model_copy(
        update={"segments": (Segment(start=0.4, end=1.0, text=rows[0].text),)}
    )
    assert first_word(told) == 0.4
    assert 0.4 < first_word(rows[0]) < 0.8
    # The second time nothing is asked.
    asked.clear()
    stored = StoredPredictor(tmp_path, "fingerprint", lambda: counting, variants={LONG: LongForm})
    again = long_form(stored, active, items, options, tmp_path)
    assert [i.heard for i in again] == [i.heard for i in found]
    assert asked == []
    assert long_form(stored, active, items, SpeechOptions(), tmp_path) == []
