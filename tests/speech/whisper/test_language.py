"""Which language is heard: the decoder's own answer, and its accuracy by slice."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from mmtune.predict import Prediction
from mmtune.speech.corpus.synthesize import synthesize
from mmtune.speech.evaluation.items import GENERAL, Item
from mmtune.speech.evaluation.measures import measures
from mmtune.speech.sound.read import read_audio
from mmtune.speech.speech_options import SpeechOptions
from mmtune.speech.speech_row import SpeechRow
from mmtune.speech.whisper.decode import DecodeOptions, decode_scored, detect_language
from mmtune.speech.whisper.labels import prefix_ids
from mmtune.speech.whisper.stages import AudioStage
from tests.speech.everyday import everyday_speech
from tests.speech.real import BASE, ESPEAK, TINY, loaded, needs, real_rows


def item(name: str, language: str | None, base: str, adapter: str, kind: str) -> Item:
    row = SpeechRow(id=name, audio="a", text=f"word {name}", language=language)
    heard = {
        model: Prediction(name, row.text, {"heard": code})
        for model, code in (("base", base), ("adapter", adapter))
    }
    return Item(row, heard, ("sentence", row.text), kind=kind)


def test_accuracy_is_told_by_slice() -> None:
    german = f"{GENERAL}, de"
    items = [
        item("a", None, "en", "en", "test"),
        item("b", "en", "en", "de", "test"),
        item("c", None, "de", "en", GENERAL),
        *(item(f"d{i}", "de", "de", "en", german) for i in range(3)),
    ]
    found = {
        m.slice: (m.base.value, m.adapter.value)
        for m in measures(items, set(), set(), SpeechOptions())
        if m.metric == "language accuracy"
    }
    assert found == {"test": (1, 0.5), GENERAL: (0, 1), german: (1, 0)}


@needs(BASE, ESPEAK)
def test_decoding_hears_what_detection_hears_whatever_it_is_told(tmp_path: Path) -> None:
    base = loaded(BASE)
    manifest = synthesize(everyday_speech("de")[:1], tmp_path, "de")
    german = next(manifest.parent.glob("audio/*"))
    clips = [read_audio(real_rows(1)[0].path), read_audio(german)]
    hidden = torch.stack(AudioStage(base).encode_audio(clips, 30))
    assert detect_language(base.model, hidden) == ["en", "de"]
    prefixes = [prefix_ids(base, "fr"), prefix_ids(base, "en", "some words before it")]
    for beams in (1, 2):
        options = DecodeOptions(beams=beams, max_new_tokens=2)
        spoken = decode_scored(base.model, hidden, prefixes, options)
        assert [each.language for each in spoken] == ["en", "de"]


@needs(TINY)
def test_a_base_of_one_language_hears_none() -> None:
    base = loaded(TINY)
    hidden = torch.stack(AudioStage(base).encode_audio([read_audio(real_rows(1)[0].path)], 5))
    (spoken,) = decode_scored(
        base.model, hidden, [prefix_ids(base, None)], DecodeOptions(max_new_tokens=2)
    )
    assert spoken.language is None
    with pytest.raises(ValueError, match="one language"):
        detect_language(base.model, hidden)
