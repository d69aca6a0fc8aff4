"""What `check` finds in recordings and transcripts, each planted."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import soxr
from hypothesis import example, given, settings
from hypothesis import strategies as st

from mmtune.cli import main
from mmtune.data.check import check
from mmtune.data.manifest import write_manifest
from mmtune.data.rows import Finding
from mmtune.runs.modalities import find_modality
from mmtune.speech.corpus.check_recording import check_rows, inspect
from mmtune.speech.corpus.check_transcript import check_terms, check_text, fewest_tokens
from mmtune.speech.sound.read import read_audio
from mmtune.speech.speech_row import SpeechRow
from tests.data.pieces import noise, write_audio
from tests.speech.real import TINY, loaded, needs, real_rows

SPEECH = find_modality("speech")


def findings(path: Path, samples: np.ndarray, rate: int = 16_000, **extra: Any) -> list[Finding]:
    soundfile.write(path, samples, rate)
    row = SpeechRow.model_validate({"id": "r", "audio": str(path), "text": "some words"} | extra)
    return inspect(row).findings


def kinds(found: list[Finding]) -> list[tuple[str, str]]:
    return [(finding.kind, finding.severity) for finding in found]


def of_text(text: str, seconds: float = 20.0, **extra: Any) -> list[Finding]:
    row = SpeechRow.model_validate({"id": "r", "audio": "a.wav", "text": text} | extra)
    return list(check_text(row, seconds))


def test_clipped_recordings(tmp_path: Path) -> None:
    t = np.arange(32_000) / 16_000
    loud = 0.98 * np.sin(2 * np.pi * 150 * t)
    assert findings(tmp_path / "a.wav", loud) == []
    (finding,) = findings(tmp_path / "b.wav", np.clip(1.5 * loud, -1, 1))
    assert (finding.kind, finding.severity) == ("clipped", "warning")
    share = float(np.mean(np.abs(1.5 * loud) >= 1))
    assert float(finding.message.split("%")[0].split()[-1]) == pytest.approx(100 * share, abs=2)
    once = 0.1 * loud
    once[5000] = 1.0  # a click is no clipping
    assert findings(tmp_path / "c.wav", once) == []


def test_what_was_a_telephone_once(tmp_path: Path) -> None:
    speech = soxr.resample(noise(0, 3.0, 8_000), 8_000, 16_000)
    assert kinds(findings(tmp_path / "a.wav", speech)) == [("narrowband", "warning")]
    assert findings(tmp_path / "b.wav", noise(0, 3.0, 8_000), 8_000) == []  # and says so
    up = soxr.resample(noise(0, 3.0, 8_000), 8_000, 48_000)
    (finding,) = findings(tmp_path / "c.flac", up, 48_000)
    assert "claims 48000 Hz" in finding.message
    assert findings(tmp_path / "d.wav", noise(0, 3.0)) == []
    assert findings(tmp_path / "e.wav", speech, channel="Telephone") == []  # so does its row
    assert kinds(findings(tmp_path / "e.wav", speech, channel="studio"))[0][0] == "narrowband"


def test_real_speech_is_neither_clipped_nor_narrow(tmp_path: Path) -> None:
    for row in real_rows(30, step=7):
        assert {f.kind for f in inspect(row).findings} <= {"text-ratio"}
        audio = soxr.resample(soxr.resample(read_audio(row.path), 16_000, 8_000), 8_000, 16_000)
        assert ("narrowband", "warning") in kinds(findings(tmp_path / "a.wav", audio))


def test_a_rate_that_is_not_the_real_one(tmp_path: Path) -> None:
    # 8 kHz samples in a file that claims 16 kHz: half as long as the corpus says.
    (finding,) = findings(tmp_path / "a.wav", noise(0, 2.0), duration_s=4.0)
    assert finding.kind == "duration"
    assert "its rate may be 8000 Hz instead of 16000 Hz" in finding.message
    (finding,) = findings(tmp_path / "a.wav", noise(0, 2.0), duration_s=3.1)
    assert "its rate" not in finding.message


@pytest.mark.parametrize(
    ("text", "seconds", "expected"),
    [
        ("one two three four five", 2.0, []),
        ("word " * 30, 2.0, [("text-ratio", "warning")]),
        ("word " * 60, 2.0, [("text-ratio", "error")]),
        ("Yes.", 3.0, []),
        ("Yes.", 12.0, [("text-ratio", "warning")]),
        ("我们今天去看医生因为他头疼", 2.5, []),
        ("我们今天去看医生因为他头疼" * 4, 2.5, [("text-ratio", "warning")]),
        ("[noise]", 1.0, [("sound-text", "warning")]),
        ("(laughs) yes", 1.0, []),
    ],
)
def test_text_that_does_not_fit_the_length(
    text: str, seconds: float, expected: list[tuple[str, str]]
) -> None:
    assert kinds(of_text(text, seconds)) == expected


def test_real_speech_has_an_ordinary_ratio() -> None:
    rows = real_rows(60, step=5)
    found = [f.row for row in rows for f in inspect(row).findings if f.kind == "text-ratio"]
    assert len(found) <= 3


def test_more_tokens_than_whisper_reads() -> None:
    assert kinds(of_text("a b " * 222 + "c", 30.0)) == []
    found = of_text("a b " * 224, 30.0)
    assert kinds(found) == [("too-many-tokens", "error")]
    assert "at least 450 tokens" in found[0].message
    assert kinds(of_text("a b " * 150, 30.0, prompt="x " * 300)) == [("many-tokens", "warning")]
    assert kinds(of_text("नमस्ते " * 75, 30.0)) == [("many-tokens", "warning")]


@needs(TINY)
@settings(max_examples=150, deadline=None)
@example("a.<|endoftext|> <|0.00|>b")
@given(
    st.text(
        st.characters(exclude_categories=("Cs", "Cn"), max_codepoint=0xFFFF)
        | st.sampled_from(" '_s"),
        max_size=60,
    )
)
def test_no_tokenizer_needs_fewer(text: str) -> None:
    ids = loaded(TINY).tokenizer.encode(" " + text.strip(), add_special_tokens=False)
    assert not text.strip() or fewest_tokens(text) <= len(ids)


def rows_of(texts: list[str], **extra: Any) -> list[SpeechRow]:
    return [
        SpeechRow.model_validate({"id": f"r{i}", "audio": f"{i}.wav", "text": text} | extra)
        for i, text in enumerate(texts)
    ]


def spelt(texts: list[str], terms: list[str], tmp_path: Path) -> list[tuple[str, str]]:
    path = tmp_path / "terms.txt"
    path.write_text("\n".join(terms))
    found = check_rows(rows_of(texts), path)
    return [(f.row, f.message) for f in found if f.kind == "term-spelling"]


def test_terms_that_transcripts_spell_otherwise(tmp_path: Path) -> None:
    texts = [
        "Start metphormin today.",
        "She takes Metformin.",
        "More metphormin, and met formin at night.",
        "The left anterior decending artery.",
        "He informs the ward of the metformins.",
    ]
    found = spelt(texts, ["metformin", "left anterior descending", "gout"], tmp_path)
    messages = dict(found)
    assert sorted(row for row, _ in found) == ["r0", "r2", "r3"]
    expected = "'metphormin' occurs 2 times; the list has 'metformin' (occurs once)"
    assert expected in messages["r0"]
    assert "'met formin'" in messages["r2"]
    assert "'left anterior decending'" in messages["r3"]
    assert spelt(["Take metformin.", "The weather is fine."], ["metformin"], tmp_path) == []


def test_a_row_whose_own_term_is_not_in_its_text() -> None:
    rows = rows_of(["Start metphormin today.", "Nothing to see."], terms=("metformin",))
    found = check_rows(rows)
    assert kinds(found) == [("term-missing", "warning")] * 2
    assert "its transcript has 'metphormin'" in found[0].message
    assert "its transcript has nothing similar" in found[1].message
    assert check_rows(rows_of(["Start Metformin, today."], terms=("metformin",))) == []


def planted(folder: Path, **extra: dict[str, Any]) -> Path:
    values = []
    for i in range(12):
        write_audio(folder / f"{i}.flac", seed=i, seconds=1.0)
        values.append({
            "id": f"r{i}", "audio": f"{i}.flac", "text": f"sentence number {i}",
            "speaker": f"s{i}", "split": ["train", "validation", "test"][i % 3],
        })  # fmt: skip
        values[-1] |= extra.get(f"r{i}", {})
    write_manifest(folder / "manifest.jsonl", values)
    return folder


def leaks(folder: Path) -> Iterator[str]:
    for finding in check(folder, SPEECH).findings:
        if finding.kind == "leakage":
            yield finding.message


def test_a_speaker_or_sentence_in_two_splits_is_reported(tmp_path: Path) -> None:
    assert list(leaks(planted(tmp_path / "clean"))) == []
    (message,) = leaks(planted(tmp_path / "speaker", r2={"speaker": "s0"}))
    assert "'speaker s0' is in train (row r0) and test (row r2)" in message
    (message,) = leaks(planted(tmp_path / "sentence", r1={"text": "Sentence number 0!"}))
    assert "sentence number 0" in message
    assert "validation (row r1)" in message
    parts = {"r3": {"audio": "3.flac", "end": 0.5}, "r4": {"audio": "3.flac", "start": 0.5}}
    (message,) = leaks(planted(tmp_path / "recording", **parts))
    assert "recording" in message


def test_check_takes_a_term_list(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = planted(tmp_path / "a", r5={"text": "start metphormin today"})
    (tmp_path / "terms.txt").write_text("metformin\n")
    assert main(["check", str(folder), "--terms", str(tmp_path / "terms.txt")]) == 0
    assert "warning term-spelling: 1" in capsys.readouterr().out
    assert main(["check", str(folder), "--terms", str(tmp_path / "none.txt")]) == 2
    assert "no such term list" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("term", "text", "missing"),
    [
        ("IT", "it was good", True),
        ("IT", "ask IT about it", False),
        ("C++", "written in C", True),
        ("C++", "written in C++", False),
        ("beta-blocker", "a beta blocker", False),
        ("O'Neil", "Mrs O\u02bcNeil", False),
        ("café au lait", unicodedata.normalize("NFD", "un café au lait"), False),
        ("metoprolol", "metoprolols", True),
    ],
)
def test_check_finds_terms_as_scoring_does(term: str, text: str, missing: bool) -> None:
    row = SpeechRow(id="a", audio="a", text=text, terms=(term,))
    found = [finding.kind for finding in check_terms([row], [term])]
    assert found == ["term-missing"] * missing


def test_words_in_a_row_without_speech_are_an_error(tmp_path: Path) -> None:
    folder = planted(tmp_path / "a", r5={"nonspeech": True})
    data = check(folder, SPEECH, strict=False)
    (finding,) = [f for f in data.findings if f.severity == "error"]
    assert (finding.kind, finding.row) == ("bad-value", "r5")
    assert "a nonspeech row must have no words" in finding.message


def test_rows_without_speech_pass_and_are_not_one_transcript(tmp_path: Path) -> None:
    changes = {f"r{i}": {"nonspeech": True, "text": ""} for i in range(9)}
    data = check(planted(tmp_path / "a", **changes), SPEECH)
    assert len(data.rows) == 12
    assert data.findings == ()
