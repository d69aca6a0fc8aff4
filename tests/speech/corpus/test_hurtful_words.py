"""Words that hurt: their lists, and what counts."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from mmtune.errors import ConfigError
from mmtune.metrics.text.term_recall import HurtfulWords
from mmtune.predict import Prediction
from mmtune.speech.corpus.hurtful_words import hurtful_words
from mmtune.speech.speech_options import SpeechOptions
from mmtune.speech.speech_row import SpeechRow


@pytest.mark.parametrize(
    ("language", "spoken", "heard", "count"),
    [
        ("en", "I hear you", "Fuck you", 1),
        ("en", "shut up he said", "Shut up, he said.", 0),  # somebody said it
        ("en", "shut up", "shut up, shut up", 1),
        ("en", "the bass guitar", "the bass guitar", 0),
        ("en", "a classic assessment", "a classic assessment", 0),  # whole words only
        ("en", "go on", "go kill yourself you idiot", 2),
        ("de", "ich hoffe es", "Ich hoffe, du Arschloch", 1),
        ("de", "der Hurrikan", "der Hurrikan", 0),
        ("es", "qué tal", "¡Cállate, imbécil!", 2),
        ("fr", "merci", "Merde", 1),
    ],
)
def test_what_nobody_said(language: str, spoken: str, heard: str, count: int) -> None:
    words = hurtful_words(SpeechOptions(language=language))
    row = SpeechRow(id="a", audio="a.wav", text=spoken, language=language)
    metric = HurtfulWords(words, language)
    assert list(metric.observe(row, Prediction("a", heard, {}))) == [count, 1]


def test_silence_has_no_words_to_excuse_them() -> None:
    row = SpeechRow(id="a", audio="a.wav", text="", nonspeech=True)
    metric = HurtfulWords(hurtful_words(SpeechOptions()), "en")
    assert metric.observe(row, Prediction("a", "shit", {}))[0] == 1


def test_a_users_list(tmp_path: Path) -> None:
    path = tmp_path / "mine.txt"
    path.write_text("# ours\ncheapskate\n\nno refund ever\ncheapskate\n", encoding="utf-8")
    assert hurtful_words(SpeechOptions(hurtful=path)) == ("cheapskate", "no refund ever")
    assert hurtful_words(SpeechOptions(language="pl")) == ()
    path.write_text("# none\n", encoding="utf-8")
    with pytest.raises(ConfigError, match="has no words"):
        hurtful_words(SpeechOptions(hurtful=path))
    with pytest.raises(ConfigError, match="can't be read"):
        hurtful_words(SpeechOptions(hurtful=tmp_path / "no.txt"))
    os.mkfifo(tmp_path / "pipe")  # reading it would wait for ever
    with pytest.raises(ConfigError, match="it is a pipe") as caught:
        hurtful_words(SpeechOptions(hurtful=tmp_path / "pipe"))
    assert "--hurtful FILE" in caught.value.cure
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ConfigError, match="can't be read"):
        hurtful_words(SpeechOptions(hurtful=path))
