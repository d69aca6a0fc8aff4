"""`mmtune transcribe`: folders, formats, files that can't be read."""

from __future__ import annotations

import json
import signal
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
import soundfile

from mmtune import cli
from mmtune.errors import DataError
from mmtune.speech import command
from mmtune.speech.sound.read import read_audio
from mmtune.speech.transcription import transcribe as speech
from mmtune.speech.transcription.transcript import Transcript, TranscriptSegment, make_transcript
from mmtune.speech.whisper.word_times import Word
from mmtune.training.interrupt import StopRequest
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


class Watch:
    """Runs `mmtune transcribe --watch` for some rounds; `between` happens before each round."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
        self.monkeypatch, self.folder = monkeypatch, folder

    def __call__(self, *more: str, between: Sequence[Callable[[], object]] = ()) -> None:
        steps = iter([*between, lambda: None, lambda: None])

        def wait(seconds: float, stop: StopRequest) -> None:
            step = next(steps, None)
            if step is None:
                signal.raise_signal(signal.SIGTERM)
            else:
                step()

        self.monkeypatch.setattr(command, "_wait", wait)
        watch = ["--watch", str(self.folder), "--settle", "0"]
        assert cli.main(["transcribe", "--base", "x", *watch, *more]) == 0


@pytest.fixture
def watch(monkeypatch: pytest.MonkeyPatch, folder: Path) -> Watch:
    (folder / "a.flac").unlink()
    return Watch(monkeypatch, folder)


def test_a_watched_folder_is_transcribed_once(
    folder: Path, said: list[dict[str, object]], watch: Watch, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[object] = []
    monkeypatch.setattr(
        "mmtune.speech.transcription.predictor.open_predictor", lambda *_, **__: opened.append(1)
    )
    watch("--format", "srt")
    assert len(opened) == 1
    assert (folder / "a.srt").read_text().endswith("a\n")
    assert (folder / "may/b.srt").exists()
    assert len(said) == 2
    watch("--format", "srt")  # a restart
    assert len(said) == 2
    # A recording that is exported anew comes again, but not over what a person has corrected.
    soundfile.write(folder / "a.wav", np.zeros(9000, np.float32), 16_000)
    soundfile.write(folder / "may/b.wav", np.zeros(9000, np.float32), 16_000)
    (folder / "may/b.srt").write_text("corrected")
    watch("--format", "srt")
    assert len(said) == 4
    assert (folder / "may/b.srt").read_text() == "corrected"
    watch("--format", "srt")
    assert len(said) == 4


def test_a_recording_that_grows_is_waited_for(
    folder: Path, said: list[dict[str, object]], watch: Watch, tmp_path: Path
) -> None:
    counts = []

    def grow() -> None:
        counts.append(len(said))
        with (folder / "new.wav").open("ab") as file:
            file.write(b"more")

    watch("--out", str(tmp_path / "out"), between=[grow] * 4)
    assert counts[-1] == 2  # the two that didn't change
    assert len(said) == 3
    assert (tmp_path / "out/new.txt").read_text() == "new\n"
    assert sorted(p.name for p in folder.iterdir()) == [
        ".hidden.wav",
        "a.wav",
        "may",
        "new.wav",
        "notes.txt",
    ]


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.json", '{"queue": "billing", "agent": 17, "parts": [1], "note": null}'),
        ("a.csv", "\ufeffqueue;agent\nbilling;17\n"),
    ],
)
def test_what_the_recorder_wrote_is_kept_as_labels(
    folder: Path, said: list[dict[str, object]], watch: Watch, name: str, text: str
) -> None:
    (folder / name).write_text(text, encoding="utf-8")
    watch("--json")
    assert (folder / name).read_text(encoding="utf-8") == text
    place = folder / ("a.transcript.json" if name == "a.json" else "a.json")
    found = json.loads(place.read_text())
    assert found["labels"] == {"queue": "billing", "agent": "17"}
    assert found["text"] == "a"
    assert "labels" not in json.loads((folder / "may/b.json").read_text())


def test_a_recording_that_cannot_be_read_is_tried_once(
    folder: Path, said: list[dict[str, object]], watch: Watch, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "a.wav").rename(folder / "a.flac")  # see `said`
    watch()
    assert "is no audio" in capsys.readouterr().err
    watch()
    assert "is no audio" not in capsys.readouterr().err


def test_speakers_may_have_numbers(folder: Path, said: list[dict[str, object]]) -> None:
    b = str(folder / "may/b.wav")
    assert cli.main(["transcribe", "--base", "x", "--speakers", "customer=1,agent=0", b]) == 0
    assert said[-1]["names"] == ["agent", "customer"]
    for wrong in ("agent=0,customer=2", "agent=0,customer=0", "agent=0,customer"):
        assert cli.main(["transcribe", "--base", "x", "--speakers", wrong, b]) == 2
