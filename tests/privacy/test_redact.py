"""`mmtune redact`: what it writes, what it leaves out, and what it refuses."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

import mmtune
from mmtune.cli import main
from mmtune.data.manifest import read_rows
from mmtune.data.version_log import read_log
from mmtune.data.versions import record_version
from mmtune.errors import ConfigError, DataError
from mmtune.runs.modalities import find_modality
from mmtune.speech.speech_row import Segment, SpeechRow

CARD = "four one one one one one one one one one one one one one one one"
PRIVATE = ("Anna", "Müller", "muller", "four one", "2025550143", "0143")


def write(folder: Path, rows: Sequence[dict[str, Any]]) -> Path:
    folder.mkdir(exist_ok=True)
    manifest = folder / "manifest.jsonl"
    manifest.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return manifest


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """A folder of pictures with captions; two of its rows can't be handled."""
    rows = [
        {"id": "1", "image": "a/1.png", "caption": "a badge of Anna Müller, 202-555-0143"},
        {"id": "2", "image": "a/2.png", "caption": "a red apple", "subject": "anna muller's apple"},
        {"id": "3", "image": "a/anna-muller.png", "caption": "a face"},
        {"id": "4", "image": "a/missing.png", "caption": "nothing"},
        {"id": "5", "image": "a/2.png", "caption": ["one", "card 4111 1111 1111 1111"]},
    ]
    write(tmp_path / "pictures", rows)
    (tmp_path / "pictures" / "a").mkdir()
    for name in ("1", "2", "anna-muller"):
        Image.new("RGB", (8, 8)).save(tmp_path / "pictures" / "a" / f"{name}.png")
    return tmp_path / "pictures"


@pytest.fixture
def names(tmp_path: Path) -> Path:
    path = tmp_path / "names.txt"
    path.write_text("Anna Müller\n", encoding="utf-8")
    return path


def test_captions_are_redacted_and_pictures_copied(
    pictures: Path, names: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    assert main(["redact", str(pictures), "--to", str(out), "--names", str(names)]) == 0
    rows, findings = read_rows(out, find_modality("image"))
    assert not findings
    assert [row.model_dump(exclude_defaults=True) for row in rows] == [
        {"id": "1", "image": "a/1.png", "caption": "a badge of [NAME], [PHONE]"},
        {"id": "2", "image": "a/2.png", "caption": "a red apple", "subject": "[NAME]'s apple"},
        {"id": "5", "image": "a/2.png", "caption": "one", "captions": ("one", "card [CARD]")},
    ]
    assert sorted(p.name for p in out.rglob("*.png")) == ["1.png", "2.png"]
    report = json.loads((out / "redaction.json").read_text(encoding="utf-8"))
    assert report["counts"] == {"card": 1, "phone": 1, "name": 2}
    assert report["left_out"] == {"identifier": 1, "unreadable": 1}
    assert (report["rows"], report["changed"]) == (3, 3)
    printed = capsys.readouterr().out
    assert "names beyond your list aren't searched" in printed
    for private in PRIVATE:
        for path in out.rglob("*.json*"):
            assert private not in path.read_text(encoding="utf-8")
        assert private not in printed
    # A second time nothing changes but what is left out.
    again = mmtune.redact(out, tmp_path / "again", names=names)
    assert (again.counts, again.left_out) == ({}, {})
    before, after = (f / "manifest.jsonl" for f in (out, tmp_path / "again"))
    assert before.read_bytes() == after.read_bytes()


def test_the_copy_has_a_version_made_from_that_of_the_source(
    pictures: Path, names: Path, tmp_path: Path
) -> None:
    reader = find_modality("image")
    mmtune.redact(pictures, tmp_path / "first", names=names)
    made = read_log(tmp_path / "first").last
    assert made is not None
    assert (made.number, made.step, made.rows, made.parents) == (1, "redact", 3, ())
    parent = record_version(pictures, reader)
    result = mmtune.redact(pictures, tmp_path / "second", names=names)
    log = read_log(tmp_path / "second")
    assert log.last is not None
    assert (log.last.step, log.last.parents) == ("redact", (parent.fingerprint,))
    assert log.last.fingerprint == made.fingerprint
    assert record_version(tmp_path / "second", reader) == log.last, "nothing has changed since"
    assert not [p for p in tmp_path.joinpath("second").iterdir() if p.name.endswith(".lock")]
    assert "3 rows, " in str(result)
    assert "1 row left out (identifier)" in str(result)
    written = [p.read_text("utf-8") for p in log.folder.iterdir()]
    assert not [word for word in PRIVATE for text in written if word in text]


@pytest.fixture
def calls(tmp_path: Path) -> Path:
    """Rows of a call in the order of other times than their lines; their recording isn't there."""
    cut = {"audio": "call.wav", "language": "en"}
    rows = [
        {"id": "b", "start": 4, "end": 6, "text": "eleven eleven 1111 1111 thanks", **cut},
        {"id": "a", "start": 0, "end": 3, "text": "my card is four one one one", **cut},
        {"id": "m", "start": 3, "end": 4, "text": "mm-hmm", **cut},
        {"id": "c", "audio": "c.wav", "text": "Anna Müller here", "language": "en"},
        {"id": "d", "audio": "d.wav", "text": "こんにちは", "language": "ja"},
        {"id": "e", "audio": "e.wav", "text": "hello", "speaker": "Anna Müller"},
        {"id": "f", "audio": "f.wav", "text": f"ja {CARD}, doppel null", "terms": ["null"]},
    ]
    return write(tmp_path / "calls", rows)


def test_recordings_are_refused_and_texts_alone_are_written(
    calls: Path, names: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    with pytest.raises(ConfigError, match="holds recordings") as refused:
        mmtune.redact(calls, out, names=names)
    assert "--texts-only" in refused.value.cure
    assert not out.exists()
    result = mmtune.redact(calls, out, names=names, texts_only=True)
    written = [json.loads(line) for line in result.file.read_text("utf-8").splitlines()]
    assert {row["id"]: row["text"] for row in written} == {
        "b": "[CARD] thanks",
        "a": "my card is [CARD]",
        "m": "mm-hmm",
        "c": "[NAME] here",
        "f": "ja [CARD], doppel null",
    }
    assert all(row.keys() <= {"id", "text", "language", "terms"} for row in written)
    assert result.left_out == {"language": 1, "identifier": 1}
    assert sorted(path.name for path in out.iterdir()) == ["redaction.json", "texts.jsonl"]
    assert "aren't searched" in str(result)
    assert "Müller" not in str(result)


def test_what_is_refused(calls: Path, tmp_path: Path) -> None:
    only = {"texts_only": True}
    with pytest.raises(ConfigError, match="no such file"):
        mmtune.redact(tmp_path / "nothing", tmp_path / "out", **only)
    with pytest.raises(ConfigError, match="--language ja"):
        mmtune.redact(calls, tmp_path / "out", language="ja", **only)
    with pytest.raises(ConfigError, match="exists already"):
        mmtune.redact(calls, calls.parent, **only)
    japanese = write(
        tmp_path / "ja", [{"id": "1", "audio": "1.wav", "text": "あ", "language": "ja"}]
    )
    with pytest.raises(DataError, match="no row can be redacted") as none:
        mmtune.redact(japanese, tmp_path / "out", **only)
    assert none.value.cure.startswith("1 row: ")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("segments", "changes", "expected"),
    [
        (["a bc", "de f"], [(2, 7, "[X]")], ["a [X]", "f"]),
        (["a", "bc", "d"], [(2, 4, "[X]")], ["a", "[X]", "d"]),
        (["a", "bc", "d"], [(0, 4, "[X]")], ["[X]", "d"]),
        (["a b", "c", "d"], [(2, 7, "[X]")], ["a [X]"]),
        (["a", "", "d"], [(0, 1, "[X]")], ["[X]", "", "d"]),
        (["a", "b"], [], ["a", "b"]),
    ],
)
def test_segments_change_with_the_text(
    segments: list[str], changes: list[tuple[int, int, str]], expected: list[str]
) -> None:
    row = SpeechRow(
        id="1",
        audio="1.wav",
        text=" ".join(segments),
        segments=tuple(Segment(start=n, end=n + 1, text=t) for n, t in enumerate(segments)),
    )
    changed = SpeechRow.model_validate(row.with_texts(changes, str))
    assert [segment.text for segment in changed.segments] == expected
    assert changed.text == " ".join(expected)
    assert changed.segments[-1].end == len(segments)
