"""The state and the names of a watched folder, and what a recorder writes beside a recording."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from mmtune.errors import ConfigError
from mmtune.speech.corpus.importers import import_speech, recognise, stored_transcript
from mmtune.speech.corpus.importers.subtitle_names import SubtitleFiles
from mmtune.speech.transcription import watched_folder
from mmtune.speech.transcription.watched_folder import (
    EARLIER_STATE,
    STATE,
    WatchedFolder,
    recorder_labels,
)
from tests.data.pieces import write_audio

JSON = json.dumps({"segments": [{"start": 0.0, "end": 1.0, "text": "hi"}], "text": "hi"})


def complete(folder: Path, suffix: str = "vtt") -> tuple[WatchedFolder, list[Path]]:
    watched = WatchedFolder(folder, folder, suffix, 0)
    watched.complete(0)
    return watched, watched.complete(1)


def record(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"sound of " + name.encode())


@pytest.mark.parametrize(
    "names",
    [
        ["call.wav"],
        ["call.wav", "call.flac"],
        ["call.wav", "call.wav.mp3"],
        ["call.wav", "call.flac", "call.wav.mp3"],
        ["call.wav", "call.2.wav", "call.2.mp3"],
        ["a/call.wav", "b/call.flac", "b/call.wav"],
    ],
)
@pytest.mark.parametrize("suffix", ["vtt", "srt", "json"])
def test_a_transcript_is_found_beside_its_recording(
    tmp_path: Path, names: list[str], suffix: str
) -> None:
    record(tmp_path, *names)
    watched, recordings = complete(tmp_path, suffix)
    assert len(recordings) == len(names)
    places = [watched.write(path, JSON) for path in recordings]
    assert None not in places
    assert len(set(places)) == len(names)
    files = SubtitleFiles()
    assert [files.of(path)[0] for path in recordings] == places
    assert recognise(tmp_path) == "subtitles"


def test_a_text_is_found_beside_its_recording(tmp_path: Path) -> None:
    for name in ("call.wav", "call.flac", "b.wav"):
        write_audio(tmp_path / "calls" / name, seed=len(name), seconds=1.0)
    watched, recordings = complete(tmp_path / "calls", "txt")
    for path in recordings:
        watched.write(path, f"words of {path.suffix[1:]}")
    assert import_speech(tmp_path / "calls", tmp_path / "to").layout == "transcripts"
    rows = map(json.loads, (tmp_path / "to/manifest.jsonl").read_text().splitlines())
    assert {row["group"]["recording"]: row["text"] for row in rows} == {
        "call.wav": "words of wav",
        "call.flac": "words of flac",
        "b.wav": "words of wav",
    }


def test_a_transcript_beside_metadata_is_found(tmp_path: Path) -> None:
    record(tmp_path, "call.wav")
    (tmp_path / "call.json").write_text('{"queue": "billing"}')
    watched, [recording] = complete(tmp_path, "json")
    assert watched.write(recording, JSON) == tmp_path / "call.transcript.json"
    assert SubtitleFiles().of(recording) == [tmp_path / "call.transcript.json"]
    assert recognise(tmp_path) == "subtitles"


def test_a_restart_repeats_nothing(tmp_path: Path) -> None:
    record(tmp_path, *(f"{i}.wav" for i in range(5)))
    watched, recordings = complete(tmp_path)
    for path in recordings[:3]:
        watched.write(path, "WEBVTT\n")
    watched.failed(recordings[3], "is no audio")
    lines = (tmp_path / STATE).read_text().splitlines()
    assert [json.loads(line)["recording"] for line in lines] == [f"{i}.wav" for i in range(4)]
    assert complete(tmp_path)[1] == [tmp_path / "4.wav"]
    # A kill cuts the last line off.
    (tmp_path / STATE).write_text("\n".join([*lines[:3], lines[3][:20]]))
    watched, recordings = complete(tmp_path)
    assert recordings == [tmp_path / "3.wav", tmp_path / "4.wav"]
    watched.write(recordings[0], "WEBVTT\n")
    assert complete(tmp_path)[1] == [tmp_path / "4.wav"]


def test_the_state_of_an_earlier_version_counts(tmp_path: Path) -> None:
    record(tmp_path, "0.wav", "1.wav")
    watched, recordings = complete(tmp_path)
    for path in recordings:
        watched.write(path, "WEBVTT\n")
    kept = {}
    for line in (tmp_path / STATE).read_text().splitlines():
        facts = json.loads(line)
        kept[facts.pop("recording")] = facts
    (tmp_path / EARLIER_STATE).write_text(json.dumps(kept, indent=2))
    (tmp_path / STATE).unlink()
    assert complete(tmp_path)[1] == []
    record(tmp_path, "1.wav.new")
    (tmp_path / "1.wav.new").replace(tmp_path / "1.wav")  # exported again
    watched, recordings = complete(tmp_path)
    assert recordings == [tmp_path / "1.wav"]
    assert watched.write(recordings[0], "WEBVTT\n\nNOTE new\n") is not None
    assert complete(tmp_path)[1] == []


@pytest.mark.parametrize(
    ("name", "text"),
    [
        (EARLIER_STATE, '{"0.wav": 3}'),
        (EARLIER_STATE, '{"0.wav": null}'),
        (EARLIER_STATE, '{"0.wav": {}}'),
        (EARLIER_STATE, '{"0.wav": {"size": "big"}}'),
        (EARLIER_STATE, '["0.wav"]'),
        (EARLIER_STATE, '{"0.wav": {"size": 3'),
        (EARLIER_STATE, "[" * 100_000),
        (STATE, '{"size": 3, "changed": 4}\n'),
        (STATE, '{"recording": "0.wav"}\n'),
        (STATE, '{"recording": ["0.wav"], "size": 3}\n'),
        (STATE, '{"recording": "0.wav", "size": null}\n'),
    ],
)
def test_a_damaged_state_is_an_error_with_its_cure(tmp_path: Path, name: str, text: str) -> None:
    record(tmp_path, "0.wav")
    (tmp_path / name).write_text(text)
    with pytest.raises(ConfigError, match="delete it") as caught:
        complete(tmp_path)
    assert str(tmp_path / name) in str(caught.value)


def test_the_state_grows_by_a_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing that is done once for each recording looks at all of them."""
    record(tmp_path, *(f"{i}.wav" for i in range(30)))
    watched, recordings = complete(tmp_path)
    real = watched_folder.append_text
    sizes: list[int] = []

    def append(path: Path, text: str, *, private: bool) -> None:
        sizes.append(len(text))
        real(path, text, private=private)

    monkeypatch.setattr(watched_folder, "append_text", append)
    monkeypatch.setattr(Path, "iterdir", lambda path: pytest.fail("the folder is listed"))
    for path in recordings:
        watched.write(path, "WEBVTT\n")
    assert len(sizes) == 30
    assert max(sizes) < 300


@pytest.mark.parametrize("name", ["call.json", "call.csv"])
def test_metadata_that_are_too_large_are_no_labels(tmp_path: Path, name: str) -> None:
    text = {"call.json": '{"a": "%s"}', "call.csv": "a;b\n%s;1\n"}[name]
    (tmp_path / name).write_text(text % "yes")
    assert recorder_labels(tmp_path / "call.wav")["a"] == "yes"
    (tmp_path / name).write_text(text % ("y" * watched_folder.MAX_METADATA))
    assert recorder_labels(tmp_path / "call.wav") == {}


@pytest.mark.parametrize(
    ("name", "lines", "layout"),
    [
        ("train.json", '{"audio_filepath": "a.wav", "text": "hello"}\n', "table"),
        ("a.json", JSON, None),
        ("list/train.json", '{"audio_filepath": "a.wav", "text": "hello"}\n', "table"),
    ],
)
def test_a_file_that_is_too_large_is_no_transcript(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, lines: str, layout: str | None
) -> None:
    monkeypatch.setattr(stored_transcript, "MAX_BYTES", 1000)
    record(tmp_path, "a.wav", "list/a.wav")
    path = tmp_path / name
    path.write_text(lines * (1000 // len(lines) + 1))
    assert recognise(path) == ("table" if layout is None else layout)
    assert recognise(path.parent) == layout
