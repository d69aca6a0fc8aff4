"""`mmtune transcribe`: folders, formats, files that can't be read."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import soundfile

from mmtune import cli
from mmtune.errors import DataError
from mmtune.speech.sound.read import read_audio
from mmtune.speech.transcription import transcribe as speech
from mmtune.speech.transcription.transcript import Transcript, TranscriptSegment, make_transcript
from mmtune.speech.whisper.word_times import Word
from tests.speech.real import TINY, needs, real_rows


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    root = tmp_path / "calls"
    (root / "may").mkdir(parents=True)
    quiet = np.zeros(8000, np.float32)
    for name in ("a.wav", "a.flac", "may/b.wav", ".hidden.wav"):
        soundfile.write(root / name, quiet, 16_000)
    (root / "notes.txt").write_text("no recording")
    return root


@pytest.fixture
def said(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, object]]:
    """Every file says its own name; what was asked for is kept."""
    asked: list[dict[str, object]] = []

    def transcribe(path: Path, predictor: object, **options: object) -> Transcript:
        if path.name == "a.flac":
            raise DataError(f"{path} is no audio that can be read", "convert it")
        asked.append(options)
        words = (Word(0.0, 0.5, f" {path.stem}", 0.9),)
        return make_transcript([TranscriptSegment(0.0, 0.5, path.stem, None, words)], "en", (), 0.5)

    monkeypatch.setattr(speech, "transcribe", transcribe)
    monkeypatch.setattr(
        "mmtune.speech.transcription.predictor.open_predictor", lambda *_, **__: None
    )
    return asked


def test_a_folder_becomes_a_folder(
    folder: Path, said: list[dict[str, object]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    arguments = ["transcribe", "--base", "x", "--format", "srt", "--out", str(out), str(folder)]
    assert cli.main(arguments) == 2  # one file can't be read; the others are done
    printed = capsys.readouterr()
    assert "a.flac is no audio" in printed.err
    written = sorted(str(p.relative_to(out)) for p in out.rglob("*") if p.is_file())
    assert written == ["a.wav.srt", "may/b.srt"]
    assert (out / "may/b.srt").read_text() == "1\n00:00:00,000 --> 00:00:00,500\nb\n"
    assert [options["words"] for options in said] == [True, True]
    assert printed.out.split() == [str(out / "a.wav.srt"), str(out / "may/b.srt")]


def test_text_and_json_go_to_the_terminal(
    folder: Path, said: list[dict[str, object]], capsys: pytest.CaptureFixture[str]
) -> None:
    a, b = folder / "a.wav", folder / "may" / "b.wav"
    assert cli.main(["transcribe", "--base", "x", str(a)]) == 0
    assert capsys.readouterr().out == "a\n"
    assert cli.main(["transcribe", "--base", "x", str(a), str(b)]) == 0
    assert capsys.readouterr().out == f"{a}: a\n{b}: b\n"
    terms = folder / "terms.txt"
    terms.write_text("metoprolol\n")
    more = ["--json", "--speakers", "agent, customer", "--channels", "split", "--terms", str(terms)]
    assert cli.main(["transcribe", "--base", "x", *more, str(b)]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["file"], found["text"]) == (str(b), "b")
    assert (said[-1]["names"], said[-1]["channels"]) == (["agent", "customer"], "split")
    assert said[-1]["words"] is False


def test_what_is_not_there(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    empty = folder / "empty"
    empty.mkdir()
    for path, message in (
        (folder / "none.wav", "no such file"),
        (empty, "holds no recording"),
    ):
        assert cli.main(["transcribe", "--base", "x", str(path)]) == 2
        assert message in capsys.readouterr().err
    assert cli.main(["transcribe", "--base", "x", "--out", str(folder / "a.wav"), "a"]) == 2
    assert "cure" in capsys.readouterr().err


@needs(TINY)
def test_a_real_recording(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "one.wav"
    soundfile.write(path, read_audio(real_rows(1)[0].path), 16_000)
    assert cli.main(["transcribe", "--base", TINY, "--format", "json", "--words", str(path)]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["text"] == "Thank you so much for it."
    (segment,) = found["segments"]
    assert "".join(word["text"] for word in segment["words"]).strip() == segment["text"]
