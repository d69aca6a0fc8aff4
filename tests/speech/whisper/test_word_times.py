"""Word times: against transformers' own, and the pieces against other implementations."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mmtune.speech.sound.read import read_audio
from mmtune.speech.transcription.predictor import SpeechPredictor
from mmtune.speech.transcription.transcribe import timed_words
from mmtune.speech.whisper.decode import decode
from mmtune.speech.whisper.labels import prefix_ids
from mmtune.speech.whisper.word_times import (
    Word,
    align,
    alignment_heads,
    group,
    merge_punctuation,
    smooth,
    warp,
)
from tests.speech.real import BASE, TINY, loaded, needs, real_rows
from tests.speech.transcription.test_transcribe import SHORT, make_adapter


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 12), st.integers(1, 40), st.integers(0, 10**6), st.booleans())
def test_the_path_is_transformers_path(rows: int, columns: int, seed: int, ties: bool) -> None:
    from transformers.models.whisper.generation_whisper import _dynamic_time_warping

    cost = np.random.default_rng(seed).normal(size=(rows, columns)).astype(np.float32)
    cost = cost.round() if ties else cost
    theirs = _dynamic_time_warping(cost)
    for ours, other in zip(warp(cost), theirs, strict=True):
        assert ours.tolist() == other.tolist()


def test_the_median_is_scipys() -> None:
    from scipy.ndimage import median_filter

    values = torch.randn(2, 3, 40, generator=torch.Generator().manual_seed(0))
    expected = median_filter(values.numpy(), size=(1, 1, 7), mode="mirror")
    assert np.array_equal(smooth(values).numpy(), expected)


@needs(TINY)
def test_times_are_transformers_times() -> None:
    base = loaded(TINY)
    rows = real_rows(2, step=5)
    predictor = SpeechPredictor(base, {})
    for row in rows:
        audio = read_audio(row.path)
        words = timed_words(predictor, audio)
        features = base.feature_extractor(
            audio, sampling_rate=16_000, return_tensors="pt", return_attention_mask=True
        )
        theirs = base.model.generate(
            features.input_features,
            attention_mask=features.attention_mask,
            return_token_timestamps=True,
            return_dict_in_generate=True,
            max_new_tokens=24,
        )
        # There a token has the time at which it ends, and the first and last have none.
        tokens = base.tokenizer.convert_ids_to_tokens(theirs["sequences"][0].tolist())
        ends = theirs["token_timestamps"][0].tolist()
        places = [i for i, token in enumerate(tokens) if token.startswith("Ġ")]
        assert len(words) == len(places)
        for word, place in list(zip(words, places, strict=True))[2:]:
            assert word.start == pytest.approx(ends[place - 1], abs=0.1), (word, tokens)
        assert all(0 <= w.start <= w.end <= len(audio) / 16_000 + 0.02 for w in words)
        assert [w.start for w in words] == sorted(w.start for w in words)
        assert all(0 < w.probability <= 1 for w in words)


@needs(TINY)
def test_a_batch_changes_nothing_and_padding_is_left_out() -> None:
    base = loaded(TINY)
    predictor = SpeechPredictor(base, {}, options=SHORT)
    clips = [read_audio(row.path) for row in real_rows(3)]
    hidden = torch.stack(predictor.stage.encode_audio(clips, 30))
    spoken = decode(base.model, hidden, [prefix_ids(base, None)] * 3, SHORT)
    seconds = [len(clip) / 16_000 for clip in clips]
    ids = [*spoken[:2], []]
    together = align(base, hidden, ids, [None] * 3, seconds)
    alone = [align(base, hidden[i : i + 1], [ids[i]], [None], [seconds[i]])[0] for i in range(3)]
    assert together[2] == alone[2] == []
    for one, other in zip(together, alone, strict=True):
        assert [(w.text, w.start, w.end) for w in one] == [(w.text, w.start, w.end) for w in other]
    texts = [base.tokenizer.decode(each) for each in ids]
    assert ["".join(w.text for w in words) for words in together] == texts


@needs(TINY)
def test_the_active_adapter_is_heard(tmp_path: Path) -> None:
    from mmtune.speech.whisper.base import load_base

    audio = read_audio(real_rows(1)[0].path)
    adapted = SpeechPredictor(load_base(TINY), {"x": make_adapter(tmp_path / "x")}, options=SHORT)
    hidden = torch.stack(adapted.stage.encode_audio([audio], 30))
    ids = [adapted.base.tokenizer.encode(" thank you so much", add_special_tokens=False)]

    def found(weights: dict[str, float]) -> list[Word]:
        with adapted.adapters.on(weights):
            return align(adapted.base, hidden, ids, [None], [3.0])[0]

    plain = align(loaded(TINY), hidden, ids, [None], [3.0])[0]
    chances = [word.probability for word in plain]
    for weights in ({}, {"x": 0.0}):
        words = found(weights)
        assert [(w.start, w.end) for w in words] == [(w.start, w.end) for w in plain]
        assert [w.probability for w in words] == pytest.approx(chances, rel=1e-4)
    changed = [word.probability for word in found({"x": 1.0})]
    assert changed != pytest.approx(chances, rel=1e-2)
    assert not list(adapted.base.model.model.decoder.layers[0].encoder_attn.q_proj._forward_hooks)


@needs(TINY)
def test_heads_without_a_config(monkeypatch: pytest.MonkeyPatch) -> None:
    base = loaded(TINY)
    assert alignment_heads(base)[0] == (1, 0)
    monkeypatch.setattr(base.model.generation_config, "alignment_heads", None)
    assert alignment_heads(base) == [(layer, head) for layer in (2, 3) for head in range(6)]


@needs(BASE)
@pytest.mark.parametrize(
    ("language", "text", "words"),
    [
        ("en", ' It\'s 3.5 mg, "really".', [" It's", " 3.5", " mg,", ' "really".']),
        ("en", " a well-known fact", [" a", " well-known", " fact"]),
        ("de", " Grüße aus Köln!", [" Grüße", " aus", " Köln!"]),
        ("ja", "東京へ。", ["東", "京", "へ。"]),
        ("ru", " Привет, мир", [" Привет,", " мир"]),
        ("th", "สวัสดี", None),
    ],
)
def test_words_of_ids(language: str, text: str, words: list[str] | None) -> None:
    from transformers.models.whisper.tokenization_whisper import _combine_tokens_into_words

    tokenizer: Any = loaded(BASE).tokenizer
    ids = tokenizer.encode(text, add_special_tokens=False)
    found = group(tokenizer, ids, language)
    assert sum(count for _, count in found) == len(ids)
    assert "".join(each for each, _ in found) == text
    merged = [w.text for w in merge_punctuation([Word(0, 0, each, 1) for each, _ in found])]
    names = {"en": "english", "de": "german", "ja": "japanese", "ru": "russian", "th": "thai"}
    theirs, _, _ = _combine_tokens_into_words(tokenizer, ids, names[language])
    assert "".join(merged) == text
    if words is not None:
        assert merged == words
    if language in {"de", "ru"}:
        assert merged == theirs
