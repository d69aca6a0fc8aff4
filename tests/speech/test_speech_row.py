"""The door of the modality: rows of other modalities are refused, and metrics know speech rows."""

from __future__ import annotations

import pytest

from mmtune.data.rows import Row
from mmtune.metrics.text.transcribed_row import TranscribedRow, row_language, stated_seconds
from mmtune.speech.speech_row import SpeechRow, speech_row, speech_rows


class OtherRow(Row):
    media = "file"

    @property
    def reference(self) -> str:
        return "words"


def test_a_row_of_another_modality_is_refused() -> None:
    row = SpeechRow(id="a", audio="a.flac", text="words")
    assert speech_row(row) is row
    with pytest.raises(TypeError, match="row 'b' is a OtherRow; speech needs a SpeechRow"):
        speech_rows([row, OtherRow(id="b")])


def test_metrics_read_the_language_and_length_of_a_speech_row() -> None:
    row = SpeechRow(id="a", audio="a.flac", text="Worte", language="de", duration_s=2.5)
    assert isinstance(row, TranscribedRow)
    assert (row_language(row, "en"), stated_seconds(row)) == ("de", 2.5)
    unnamed = SpeechRow(id="a", audio="a.flac", text="words")
    assert (row_language(unnamed, "en"), stated_seconds(unnamed)) == ("en", 0.0)
    assert (row_language(OtherRow(id="b"), "en"), stated_seconds(OtherRow(id="b"))) == ("en", 0.0)
