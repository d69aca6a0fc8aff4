import json
import os
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from mmtune.config import DataOptions
from mmtune.data.check import check, inspect_source
from mmtune.data.dataset import Dataset, describe
from mmtune.data.manifest import write_manifest
from mmtune.errors import DataError
from mmtune.system.hashing import hash_file
from tests.data.pieces import IMAGE, SPEECH, write_audio, write_image


def speech_set(folder: Path, rows: int = 12, **extra: Any) -> Path:
    values = []
    for i in range(rows):
        write_audio(folder / f"clips/{i}.flac", seed=i)
        values.append({"id": f"r{i}", "audio": f"clips/{i}.flac", "text": f"words {i}", **extra})
    write_manifest(folder / "manifest.jsonl", values)
    return folder / "manifest.jsonl"


def kinds(dataset: Dataset) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for finding in dataset.findings:
        found.setdefault(finding.kind, []).append(finding.row)
    return found


def test_a_good_manifest_becomes_a_dataset(tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []
    source = speech_set(tmp_path)
    data = check(source, SPEECH, progress=lambda done, of: seen.append((done, of)))
    assert kinds(data) == {"no-speakers": ["all rows"]}
    assert data.quarantined == ()
    assert [row.id for row in data.rows] == [f"r{i}" for i in range(12)]
    assert sum(len(data.split(name)) for name in ("train", "validation", "test")) == 12
    for row in data.rows:
        assert row.path.is_absolute()
        assert row.content == hash_file(row.path)
        assert data.facts[row.id]["duration_s"] == pytest.approx(0.3)
    assert seen == [(i, 12) for i in range(1, 13)]


def test_folders_of_both_modalities_need_no_manifest(tmp_path: Path) -> None:
    for i in range(4):
        write_audio(tmp_path / "a" / f"{i}.wav", seed=i)
        (tmp_path / "a" / f"{i}.txt").write_text(f"words {i}")
        write_image(tmp_path / "i" / f"thing-{'abcd'[i]}_01.png", seed=i)
    assert len(check(tmp_path / "a", SPEECH).rows) == 4
    images = check(tmp_path / "i", IMAGE)
    assert [row.reference for row in images.rows] == [f"thing {c}" for c in "abcd"]
    assert images.facts["thing-a_01"] == {"width": 48, "height": 32}


def test_nothing_but_a_check_makes_a_dataset(tmp_path: Path) -> None:
    with pytest.raises(TypeError, match="made by"):
        Dataset(tmp_path, "speech", (), (), (), {}, "")


def test_the_fingerprint_is_of_contents_and_fields_alone(tmp_path: Path) -> None:
    first = check(speech_set(tmp_path / "a"), SPEECH).fingerprint
    moved = speech_set(tmp_path / "elsewhere" / "b")
    lines = moved.read_text().splitlines()
    moved.write_text("\n".join(reversed(lines)))
    assert check(moved, SPEECH).fingerprint == first
    moved.write_text("\n".join(lines).replace("words 3", "words three"))
    changed = check(moved, SPEECH).fingerprint
    write_audio(moved.parent / "clips/3.flac", seed=99)
    assert len({first, changed, check(moved, SPEECH).fingerprint}) == 3


def test_bad_rows_are_left_out_and_too_many_end_it(tmp_path: Path) -> None:
    source = speech_set(tmp_path)
    (tmp_path / "clips/3.flac").unlink()
    with source.open("a") as file:
        file.write('{"id": "r20", "audio": "clips/1.flac"}\n')
    with pytest.raises(DataError) as caught:
        check(source, SPEECH)
    assert "2 of 13 rows can't be used; at most 1% of the rows may be" in caught.value.found
    assert "missing-key 1" in caught.value.found
    assert "clips/3.flac" in caught.value.found
    assert f"mmtune check {source}" in caught.value.cure
    allowed = float(caught.value.cure.rsplit(" ", 1)[1])
    data = check(source, SPEECH, DataOptions(max_bad=allowed))
    assert sorted(data.quarantined) == ["r20", "r3"]
    assert len(data.rows) == 11
    assert "r3" not in data.facts
    shown = check(source, SPEECH, strict=False)
    assert shown.fingerprint == data.fingerprint
    assert shown.bad == pytest.approx(2 / 13)


def test_a_refusal_shows_the_first_three_errors(tmp_path: Path) -> None:
    source = speech_set(tmp_path, rows=12)
    for i in range(2, 7):
        (tmp_path / f"clips/{i}.flac").unlink()
    with pytest.raises(DataError) as caught:
        check(source, SPEECH)
    head, *lines = caught.value.found.splitlines()
    assert "5 of 12 rows can't be used" in head
    assert [f"clips/{i}.flac" in line for i, line in enumerate(lines, start=2)] == [True] * 3


def test_nothing_left_is_an_error_whatever_is_allowed(tmp_path: Path) -> None:
    source = speech_set(tmp_path, rows=2)
    for path in (tmp_path / "clips").iterdir():
        path.write_bytes(b"")
    with pytest.raises(DataError, match="2 of 2 rows can't be used"):
        check(source, SPEECH, DataOptions(max_bad=1.0))
    assert check(source, SPEECH, strict=False).rows == ()


def test_duplicates(tmp_path: Path) -> None:
    source = speech_set(tmp_path, rows=6)
    for copy, original in ((4, 0), (5, 1)):
        data = (tmp_path / f"clips/{original}.flac").read_bytes()
        (tmp_path / f"clips/{copy}.flac").write_bytes(data)
    text = source.read_text().replace("words 4", "words 0")
    source.write_text(text + json.dumps({"id": "r2", "audio": "clips/2.flac", "text": "z"}) + "\n")
    data = check(source, SPEECH, strict=False)
    assert kinds(data)["duplicate-content"] == ["r4", "r5"]
    assert kinds(data)["duplicate-id"] == ["line 7"]
    same, other = (f for f in data.findings if f.kind == "duplicate-content")
    assert "(row 'r0')" in same.message
    assert "remove one" in same.cure
    assert "its text is 'words 5'" in other.message
    assert [row.id for row in data.rows] == ["r0", "r1", "r2", "r3"]


@pytest.mark.parametrize(
    ("lines", "rows", "lost"),
    [
        ([{"id": "line 2"}, "not json", {"id": "x"}], ["line 2", "x"], ["line 2"]),
        ([{"id": "line 3"}, {"id": "x"}, {"id": "y", "text": 5}], ["line 3", "x"], ["y"]),
        ([{"id": "line 3", "text": 5}, {"id": "x"}, "not json"], ["x"], ["line 3", "line 3"]),
        ([{"start": 0, "end": 0.1}, {"start": 0.1, "end": 0.2}], ["clips/0", "line 2"], []),
        ([{}, {"audio": "clips/0.wav"}], ["clips/0", "line 2"], []),
    ],
)  # fmt: skip
def test_a_label_of_a_line_is_no_id(
    tmp_path: Path, lines: list[dict[str, Any] | str], rows: list[str], lost: list[str]
) -> None:
    given = {"audio": "clips/{}.flac", "text": "words {}"}
    source = tmp_path / "manifest.jsonl"
    written = []
    for i, line in enumerate(lines):
        number = i if isinstance(line, dict) and "id" in line else 0
        write_audio(tmp_path / f"clips/{number}.flac", seed=number)
        row = {key: text.format(number) for key, text in given.items()}
        written.append(line if isinstance(line, str) else json.dumps(row | line))
    write_audio(tmp_path / "clips/0.wav", seed=9)
    source.write_text("\n".join(written))
    data = check(source, SPEECH, strict=False)
    assert sorted(row.id for row in data.rows) == sorted(rows)
    assert list(data.quarantined) == lost


def test_of_a_copy_in_two_splits_the_row_in_train_stays(tmp_path: Path) -> None:
    source = speech_set(tmp_path, rows=6)
    rows = [json.loads(line) for line in source.read_text().splitlines()]
    for row, split in zip(rows, ["test", None, "validation", "test", None, "train"], strict=True):
        row |= {"audio": f"clips/{int(row['id'][1:]) % 3}.flac", "split": split}
    rows[0]["audio"], rows[5]["audio"] = "clips/5.flac", "clips/5.flac"
    rows[3]["audio"] = "clips/2.flac"
    write_manifest(source, rows)
    data = check(source, SPEECH, strict=False)
    assert kinds(data)["duplicate-content"] == ["r0", "r2", "r4"]
    assert {row.id: row.split for row in data.rows if row.id != "r1"} == {
        "r3": "test", "r5": "train",
    }  # fmt: skip


def test_no_path_leads_out_of_the_folder(tmp_path: Path) -> None:
    secret = write_audio(tmp_path / "secret.flac", seed=50)
    folder = tmp_path / "data"
    source = speech_set(folder, rows=1)
    (folder / "link.flac").symlink_to(secret)
    (folder / "door").symlink_to(tmp_path)
    (folder / "loop.flac").symlink_to(folder / "loop.flac")
    outside = ["../secret.flac", str(secret), "link.flac", "door/secret.flac", "clips/../../x.wav"]
    inside = {"a\0b": "missing", "x" * 300: "missing", "https://x.y/a.wav": "missing",
              "clips": "not-a-file", "loop.flac": "missing", ".": "not-a-file"}  # fmt: skip
    inside |= {str(folder / "clips" / "0.flac"): "duplicate-content", "/dev/zero": "outside"}
    with source.open("a") as file:
        for i, path in enumerate([*outside, *inside]):
            file.write(json.dumps({"id": str(i), "audio": path, "text": f"t{i}"}) + "\n")
    data = check(source, SPEECH, strict=False)
    assert [row.id for row in data.rows] == ["r0"]
    found = {f.row: f.kind for f in data.findings if f.severity == "error"}
    expected = ["outside"] * len(outside) + list(inside.values())
    assert found == {str(i): kind for i, kind in enumerate(expected)}


def test_a_linked_folder_is_as_good_as_the_folder(tmp_path: Path) -> None:
    speech_set(tmp_path / "real", rows=3)
    (tmp_path / "link").symlink_to(tmp_path / "real")
    assert len(check(tmp_path / "link", SPEECH).rows) == 3
    assert len(check(tmp_path / "link" / "manifest.jsonl", SPEECH).rows) == 3


def test_a_pipe_blocks_nothing(tmp_path: Path) -> None:
    import os

    source = speech_set(tmp_path, rows=1)
    os.mkfifo(tmp_path / "pipe.wav")
    with source.open("a") as file:
        file.write('{"id": "p", "audio": "pipe.wav", "text": "x"}\n')
    assert kinds(check(source, SPEECH, strict=False))["not-a-file"] == ["p"]


def test_empty_splits_are_warnings_and_a_named_one_is_refused(tmp_path: Path) -> None:
    source = speech_set(tmp_path, rows=4, speaker="me")
    data = check(source, SPEECH)
    assert set(kinds(data)) == {"no-validation", "no-test"}
    text = source.read_text().replace('"id": "r1"', '"split": "test", "id": "r1"')
    source.write_text(text.replace('"id": "r2"', '"split": "train", "id": "r2"'))
    with pytest.raises(DataError, match="the only row of test would have to be left out"):
        check(source, SPEECH)
    data = check(source, SPEECH, strict=False)
    assert kinds(data)["leakage"] == ["r1"]
    assert [row.id for row in data.rows] == ["r0", "r2", "r3"]
    assert data.withheld == ("r1",)
    assert data.bad == 0
    data = check(source, SPEECH, DataOptions(shared=("speaker",)))
    assert len(data.rows) == 4
    # Without splits every usable row stays.
    assert len(check(source, SPEECH, divide=False).rows) == 4


def test_a_repeated_text_is_suspicious(tmp_path: Path) -> None:
    source = speech_set(tmp_path, rows=10)
    lines = [json.loads(line) for line in source.read_text().splitlines()]
    write_manifest(source, [line | {"text": "um"} for line in lines])
    assert "same-text" in kinds(check(source, SPEECH))
    for i in range(10):
        write_image(tmp_path / "i" / f"logo_{i}.png", seed=i).with_suffix(".txt").write_text("logo")
    assert "same-caption" in kinds(check(tmp_path / "i", IMAGE))


def test_an_inspection_that_breaks_is_a_finding(tmp_path: Path) -> None:
    class Breaks:
        name, row, scan = SPEECH.name, SPEECH.row, SPEECH.scan
        check_rows = staticmethod(SPEECH.check_rows)
        judge_rules = staticmethod(SPEECH.judge_rules)

        @staticmethod
        def inspect(row: Any) -> Any:
            if row.id == "r1":
                raise MemoryError("too much")
            return SPEECH.inspect(row)

    data = check(speech_set(tmp_path, rows=3), Breaks(), strict=False)  # type: ignore[arg-type]
    assert kinds(data)["unreadable"] == ["r1"]
    assert [row.id for row in data.rows] == ["r0", "r2"]


def test_what_is_printed(tmp_path: Path) -> None:
    source = speech_set(tmp_path, rows=6)
    for i in range(4):
        (tmp_path / f"clips/{i}.flac").unlink()
    evil = "clips/\x1b[31mred.wav"
    with source.open("a") as file:
        file.write(json.dumps({"id": "e", "audio": evil, "text": "x"}) + "\n")
    lines = describe(check(source, SPEECH, strict=False), examples=2)
    text = "\n".join(lines)
    assert "7: 2 usable" in text
    assert "5 left out (71.4%)" in text
    assert "duration_s   0.3 to 0.3, median 0.3, total 0.6" in text
    assert "error missing: 5" in text
    assert "  … and 3 more" in lines
    assert "\x1b" not in "\n".join(describe(check(source, SPEECH, strict=False), examples=9))
    assert "Cure: correct the path" in text


def test_checking_imports_no_torch_and_no_model_library() -> None:
    code = (
        "import sys, mmtune.data.check\n"
        "import mmtune.speech.corpus.check_recording, mmtune.image.corpus.check_picture\n"
        "heavy = {'torch', 'transformers', 'diffusers', 'librosa', 'rich', 'scipy'}\n"
        "assert not heavy & set(sys.modules), heavy & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_thousand_files_take_seconds(tmp_path: Path) -> None:
    source = speech_set(tmp_path, rows=1000)
    start = time.monotonic()
    assert len(check(source, SPEECH).rows) == 1000
    assert time.monotonic() - start < 30  # some 2 s on a quiet machine


@pytest.mark.parametrize("reader", [SPEECH, IMAGE], ids=["speech", "image"])
def test_the_text_of_a_file_is_looked_for_once(
    tmp_path: Path, reader: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    if reader is SPEECH:
        write_audio(tmp_path / "0.wav")
    else:
        write_image(tmp_path / "0.png")
    (tmp_path / "0.txt").write_text("words")
    asked: list[str] = []
    exists = os.path.lexists
    monkeypatch.setattr(os.path, "lexists", lambda path: asked.append(str(path)) or exists(path))
    assert [row.reference for row in check(tmp_path, reader).rows] == ["words"]
    assert asked.count(str(tmp_path / "0.txt")) <= 1


def test_rows_that_are_inspected_once_are_divided_in_several_ways(tmp_path: Path) -> None:
    source = speech_set(tmp_path)
    ways = [DataOptions(validation=0.2, test=0.2), DataOptions(validation=0.4, test=0.1)]
    wanted = [check(source, SPEECH, each) for each in ways]
    opened: list[str] = []

    def inspect(row: Any) -> Any:
        opened.append(row.id)
        return SPEECH.inspect(row)

    found = inspect_source(source, replace(SPEECH, inspect=inspect))
    assert [found.divided(each) for each in ways] == wanted
    assert wanted[0].fingerprint != wanted[1].fingerprint
    assert len(opened) == 12
