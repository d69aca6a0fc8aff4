"""What several models that are asked together share, and that batches stand by themselves."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from mmtune.predict import Request
from mmtune.speech.transcription.predictor import SpeechPredictor
from mmtune.speech.whisper.base import load_base
from mmtune.speech.whisper.decode import DecodeOptions
from tests.speech.real import TINY, needs, real_rows
from tests.speech.test_compose import make

SHORT = DecodeOptions(max_new_tokens=4)


@needs(TINY)
@pytest.mark.parametrize("cut", [None, 3])
def test_what_lies_below_the_adapters_is_computed_once(tmp_path: Path, cut: int | None) -> None:
    folders = {"a": make(tmp_path / "a", 1), "b": make(tmp_path / "b", 2, cut=cut)}
    base = load_base(TINY)
    predictor = SpeechPredictor(base, folders, windows="trimmed", options=SHORT)
    rows = real_rows(3)
    heard: Counter[str] = Counter()  # clips that a layer of the encoder was given
    layers = base.model.model.encoder.layers
    for place in (0, len(layers) - 1):
        name = "first" if place == 0 else "last"
        layers[place].register_forward_hook(
            lambda _module, given, _out, name=name: heard.update({name: len(given[0])})
        )
    models: tuple[dict[str, float], ...] = ({}, {"a": 1.0}, {"b": 1.0})
    predictor.predict([Request(row, weights) for row in rows for weights in models])
    assert heard["first"] == len(rows)
    assert heard["last"] == len(rows) * (1 if cut is None else len(models))


@pytest.mark.slow
@needs(TINY)
def test_a_batch_alone_is_what_it_is_among_others(tmp_path: Path) -> None:
    adapters = {"a": make(tmp_path / "a", 1)}
    options = DecodeOptions(max_new_tokens=12)
    predictor = SpeechPredictor(
        load_base(TINY), adapters, windows="trimmed", options=options, batch_size=2
    )
    requests = [Request(row, weights) for row in real_rows(5) for weights in ({}, {"a": 1.0})]
    plan = predictor.batches(requests)
    assert sorted(place for batch in plan for place in batch) == list(range(len(requests)))
    assert len(plan) > 2
    whole = predictor.predict(requests)
    for batch in plan:
        some = [requests[place] for place in batch]
        assert predictor.batches(some) == [list(range(len(some)))]
        assert predictor.predict(some) == [whole[place] for place in batch]
