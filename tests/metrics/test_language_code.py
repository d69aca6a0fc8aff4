"""Languages: names, codes and tags become Whisper's code where they enter."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmtune.errors import ConfigError
from mmtune.metrics.text.language import LanguageAccuracy
from mmtune.metrics.text.language_code import LANGUAGES, language_code
from mmtune.metrics.text.normalize import normalize
from mmtune.metrics.text.wer import WordErrors
from mmtune.predict import Prediction
from mmtune.runs.recipes import load_recipe
from mmtune.speech.corpus.importers.piece import stated
from mmtune.speech.speech_row import SpeechRow


def test_codes_and_names_are_those_of_whispers_tokenizer() -> None:
    from transformers.models.whisper.tokenization_whisper import LANGUAGES as THEIRS
    from transformers.models.whisper.tokenization_whisper import TO_LANGUAGE_CODE

    assert LANGUAGES == THEIRS
    assert {name: language_code(name) for name in TO_LANGUAGE_CODE} == TO_LANGUAGE_CODE


@pytest.mark.parametrize(
    ("written", "code"),
    [
        *(("German", "de"), ("GERMAN", "de"), ("deu", "de"), ("ger", "de"), ("de-AT", "de")),
        *(("de_DE.UTF-8", None), ("<|de|>", "de"), (" de ", "de"), ("English (US)", "en")),
        *(("EN", "en"), ("eng", "en"), ("en-us", "en"), ("SV", "sv"), ("nl-NL", "nl")),
        *(("iw", "he"), ("in", "id"), ("ji", "yi"), ("mo", "ro"), ("sh", "sr"), ("tl", "tl")),
        *(
            ("jv", "jw"),
            ("jw", "jw"),
            ("nb", "no"),
            ("nb-NO", "no"),
            ("nn-NO", "nn"),
            ("fil", "tl"),
        ),
        *(("zh-TW", "zh"), ("zh_Hans_CN", "zh"), ("cmn", "zh"), ("Mandarin", "zh"), ("yue", "yue")),
        *(
            ("zh-yue", "yue"),
            ("yue-HK", "yue"),
            ("Cantonese", "yue"),
            ("arb", "ar"),
            ("pes", "fa"),
            ("Farsi", "fa"),
        ),
        *(("sr-Latn-RS", "sr"), ("pt_BR", "pt"), ("swh", "sw"), ("zsm", "ms"), ("ekk", "et")),
        *(("sdh", None), ("cc", None), ("sub", None), ("forced", None), ("orig", None)),
        *(("ga", None), ("und", None), ("mul", None), ("", None), ("x-klingon", None)),
    ],
)
def test_what_people_write(written: str, code: str | None) -> None:
    assert language_code(written) == code


@given(st.text(max_size=30))
def test_any_text_is_a_code_or_none(text: str) -> None:
    assert language_code(text) in {None, *LANGUAGES}


def test_a_row_and_a_setting_keep_the_code_and_refuse_the_rest() -> None:
    row = SpeechRow(id="1", audio="a.wav", text="x", language="German")
    assert row.language == "de"
    config = load_recipe("dialect", {"language": "zh-TW", "base": "b"})
    assert config.task.language == "zh"
    with pytest.raises(ValueError, match=r"'Germna' is no language .* did you mean german"):
        SpeechRow(id="1", audio="a.wav", text="x", language="Germna")
    with pytest.raises(ConfigError, match="klingon"):
        load_recipe("dialect", {"language": "klingon", "base": "b"})


@pytest.mark.parametrize("language", ["en", "English", "EN", "<|en|>", "eng", "en-GB"])
def test_a_name_scores_as_its_code(language: str) -> None:
    reference = "I'm here, Mr. Smith: it's twenty dollars, the colour is grey."
    heard = Prediction(
        "1", "I am here Mister Smith. It is $20, the color is gray.", {"heard": "en"}
    )
    row = SpeechRow(id="1", audio="a.wav", text=reference, language=language)
    wer, accuracy = WordErrors("de"), LanguageAccuracy("de")
    assert wer.reduce(wer.observe(row, heard)) == 0
    assert accuracy.reduce(accuracy.observe(row, heard)) == 1


@pytest.mark.parametrize(
    "cell", ["", " ", None, "N/A", "n/a", "None", "-", "NaN", "null", "<NA>", "?"]
)
def test_nobody_is_no_speaker(cell: object) -> None:
    assert stated(cell) is None


@pytest.mark.parametrize("cell", ["Na", "Ann", "0", 7, "n", "Norma"])
def test_a_name_is_a_speaker(cell: object) -> None:
    assert stated(cell) == str(cell)


@pytest.mark.parametrize("language", ["English", "EN", "<|en|>", "eng"])
def test_a_text_is_normalized_by_any_name_of_its_language(language: str) -> None:
    text = "I'm here, Mr. Smith, for twenty dollars"
    assert normalize(text, language) == normalize(text, "en") == "i am here mister smith for $20"
