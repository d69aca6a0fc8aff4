"""Prompts and retrieval beside an adapter, on real weights and synthetic speech."""

from __future__ import annotations

from pathlib import Path

import pytest

from mmtune.evaluation.answers import StoredPredictor
from mmtune.metrics.text.term_recall import FalseInsertions, TermPrecision, TermRecall
from mmtune.predict import Prediction, Request
from mmtune.speech.evaluation.items import Item, hear
from mmtune.speech.evaluation.measures import measures
from mmtune.speech.evaluation.term_baselines import (
    SYSTEMS,
    Prompted,
    TermList,
    beside,
    heard_beside,
)
from mmtune.speech.speech_options import SpeechOptions
from mmtune.speech.speech_row import SpeechRow
from tests.speech.real import ESPEAK, TINY, loaded, needs

TERMS = ("apixaban", "metoprolol")


def test_precision_by_hand() -> None:
    metric = TermPrecision(TERMS)
    pairs = [
        ("take apixaban", "take apixaban"),  # right
        ("take nothing", "take metoprolol and apixaban"),  # two that nobody said
        ("metoprolol twice", "something else"),  # missed: recall's business
    ]
    stats = [
        metric.observe(SpeechRow(id="r", audio="a", text=said), Prediction("r", written))
        for said, written in pairs
    ]
    assert metric.reduce(stats) == pytest.approx(1 / 3)
    assert metric.reduce(stats[2:]) is None
    assert FalseInsertions(TERMS).name != metric.name


@needs(TINY, ESPEAK)
def test_a_prompt_and_retrieval_find_terms_that_the_base_misses(tmp_path: Path) -> None:
    from mmtune.data.check import check
    from mmtune.runs.modalities import find_modality
    from mmtune.speech.corpus.synthesize import make_plan, synthesize
    from mmtune.speech.corpus.term_list import Term
    from mmtune.speech.transcription.predictor import SpeechPredictor

    listed = [Term(term, term, seen=False) for term in TERMS]
    seen = [Term("aspirin", "aspirin")]
    plan = [u for u in make_plan([*seen, *listed], SpeechOptions(utterances=1))
            if u.voice.name.startswith("espeak") and u.channel == "clean"]  # fmt: skip
    rows = check(synthesize(plan, tmp_path, "en"), find_modality("speech")).split("test")[:6]
    asked: list[Request] = []

    class Counting(SpeechPredictor):
        def predict(self, requests):  # type: ignore[no-untyped-def]
            asked.extend(requests)
            return super().predict(requests)

    model = Counting(loaded(TINY), {}, windows="trimmed")
    options = SpeechOptions(beside=("prompt", "retrieval"))
    ways = beside(options, TERMS)
    stored = StoredPredictor(tmp_path, "fingerprint", lambda: model, variants=ways)
    active = {"base": {}, "adapter": {}}
    heard = hear(stored, active, rows)
    assert len(asked) == len(rows)  # here the adapter is the base
    first = heard_beside(stored, options, TERMS, rows)
    prompts = {request.row.prompt for request in asked}
    assert "metoprolol, apixaban" in prompts  # the first of the list stands next to the speech
    items = [
        Item(row, own | more, ("sentence", row.text), frozenset(t for t in TERMS if t in row.text))
        for row, own, more in zip(rows, heard, first, strict=True)
    ]
    found = {(m.metric, m.slice): m for m in measures(items, set(), set(TERMS), options)}
    recall = found["term recall", "unseen terms"]
    assert set(recall.references) == {"base + prompt", "base + retrieval"}
    assert recall.references["base + prompt"].value > recall.base.value
    metric = TermRecall(TERMS)
    for name in ("base + prompt", "base + retrieval"):
        spoken = [i for i in items if i.terms]
        stats = [metric.observe(i.row, i.heard[name]) for i in spoken]
        assert recall.references[name].value == metric.reduce(stats)
    assert "base + prompt" in found["term precision", "test"].references
    # All answers are stored.
    asked.clear()
    again = StoredPredictor(tmp_path, "fingerprint", lambda: model, variants=ways)
    assert heard_beside(again, options, TERMS, rows) == first
    assert asked == []
    assert heard_beside(again, SpeechOptions(), TERMS, rows) == [{}] * len(rows)


@needs(TINY)
def test_a_long_list_fills_its_prompt_and_no_more() -> None:
    base = loaded(TINY)
    terms = TermList(tuple(f"metoprolol{i}" for i in range(200)), {})
    asked: list[Request] = []

    class Model:
        fingerprint = "f"

        def predict(self, requests):  # type: ignore[no-untyped-def]
            asked.extend(requests)
            return []

    model = Model()
    model.base = base  # type: ignore[attr-defined]
    row = SpeechRow(id="r", audio="a", text="t", prompt="Earlier words.")
    Prompted(model, terms).predict([Request(row)])  # type: ignore[arg-type]
    (request,) = asked
    ids = base.tokenizer.encode(" " + request.row.prompt, add_special_tokens=False)
    assert 200 < len(ids) <= 223
    assert request.row.prompt.startswith("Earlier words. ")
    assert request.row.prompt.endswith(" metoprolol0")
    assert {system.name for system in SYSTEMS.values()} == {
        "base + prompt", "base + retrieval", "adapter + prompt", "adapter + retrieval",
    }  # fmt: skip
