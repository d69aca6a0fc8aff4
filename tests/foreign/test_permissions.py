"""Who may read what a run writes: transcripts, recordings, answers and pages are the owner's."""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mmtune.adapters.card import Card, read_card
from mmtune.cli import main
from mmtune.data.manifest import write_manifest
from mmtune.image.pictures.encode import save_picture
from mmtune.speech.corpus.importers import import_speech
from mmtune.speech.sound.encode import save_sound
from mmtune.system.files import SHARED, append_text, stream_aside, write_text
from tests.data.pieces import write_audio
from tests.pages.test_review import data_of, speech_run


@pytest.fixture(autouse=True)
def usual_umask(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.delenv(SHARED, raising=False)
    before = os.umask(0o022)
    yield
    os.umask(before)


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def text(folder: Path) -> Path:
    write_text(folder / "a.txt", "x", private=True)
    return folder / "a.txt"


def appended(folder: Path) -> Path:
    append_text(folder / "b.txt", "x\n", private=True)
    return folder / "b.txt"


def streamed(folder: Path) -> Path:
    with stream_aside(folder / "a.png", private=True) as file:
        file.write(b"x")
    return folder / "a.png"


def sound(folder: Path) -> Path:
    save_sound(folder / "a.flac", np.zeros(160, dtype=np.float32), private=True)
    return folder / "a.flac"


def picture(folder: Path) -> Path:
    save_picture(Image.new("RGB", (2, 2)), folder / "a.png", private=True)
    return folder / "a.png"


def manifest(folder: Path) -> Path:
    write_manifest(folder / "a.jsonl", [{"id": "x"}])
    return folder / "a.jsonl"


WRITERS = (text, appended, streamed, sound, picture, manifest)


@pytest.mark.parametrize("write", WRITERS)
def test_private_files(
    write: Callable[[Path], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert written(write, tmp_path) == 0o600
    tmp_path.chmod(0o2770)
    assert written(write, tmp_path) == 0o640, "a group shares the folder"
    os.umask(0o077)
    assert written(write, tmp_path) == 0o600, "the umask applies"
    tmp_path.chmod(0o700)
    os.umask(0o022)
    monkeypatch.setenv(SHARED, "1")
    assert written(write, tmp_path) == 0o644


def written(write: Callable[[Path], Path], folder: Path) -> int:
    for path in folder.iterdir():
        path.unlink()
    return mode(write(folder))


@pytest.mark.parametrize("write", [appended, text])
def test_a_file_that_others_could_read_becomes_private(
    write: Callable[[Path], Path], tmp_path: Path
) -> None:
    for name in ("a.txt", "b.txt"):
        (tmp_path / name).write_text("readable before\n")
    assert mode(write(tmp_path)) == 0o600


def private_below(folder: Path, *names: str) -> None:
    found = {path.name: mode(path) for path in folder.rglob("*") if path.is_file()}
    assert {name: f"{found[name]:o}" for name in names} == dict.fromkeys(names, "600")


def test_pages_keys_and_results(tmp_path: Path) -> None:
    run = speech_run(tmp_path / "calls")
    assert main(["report", str(run)]) == 0
    assert main(["review", str(run)]) == 0
    page = data_of(run / "review" / "review.html")
    given = {item["id"]: "A" for item in page["items"]}
    answers = {"review": page["review"], "rater": "x", "answers": given}
    (tmp_path / "answers.json").write_text(json.dumps(answers))
    assert main(["review", str(run), "--answers", str(tmp_path / "answers.json")]) == 0
    private_below(run, "report.html", "review.html", "review_key.json", "review.json")


def test_imported_recordings_and_transcripts(tmp_path: Path) -> None:
    source = tmp_path / "source"
    write_audio(source / "a.wav", seed=1, seconds=1.0)
    (source / "a.txt").write_text("take metformin")
    import_speech(source, tmp_path / "to", "transcripts")
    audio = [path.name for path in (tmp_path / "to").rglob("*.flac")]
    assert len(audio) == 1
    private_below(tmp_path / "to", *audio, "manifest.jsonl", "left_out.jsonl")


def test_cards_hold_no_absolute_path(tmp_path: Path) -> None:
    settings = {
        "data": {"path": "/home/me/calls"},
        "task": {"terms": "terms/mine.txt", "retention": "/home/me/own.jsonl", "trigger": "a/b"},
        "out": "~/runs",
    }
    card = Card(
        name="n",
        recipe="r",
        modality="speech",
        base="starter:whisper-tiny",
        base_hash="",
        dataset="fingerprint",
        rows={},
        settings=settings,
    )
    card.write(tmp_path)
    written = read_card(tmp_path)
    assert written.settings == {
        "data": {"path": "calls"},
        "task": {"terms": "terms/mine.txt", "retention": "own.jsonl", "trigger": "a/b"},
        "out": "runs",
    }
    assert written.dataset == "fingerprint"
    assert "/home/me" not in "".join(path.read_text() for path in tmp_path.iterdir())
