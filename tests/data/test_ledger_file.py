"""The file of a split ledger: its place, its damage, other files in its place, commands at once."""

from __future__ import annotations

import json
import os
import threading
from pathlib import Path

import pytest

import mmtune
from mmtune.data.ledger import Ledger
from mmtune.data.split_ledger import (
    KIND,
    ledger_elsewhere,
    ledger_path,
    read_ledger,
)
from mmtune.errors import ConfigError, DataError
from mmtune.system.contents import SPLITS_FILE, hash_contents
from tests.data.test_split_ledger import change, kinds, look, sides, speech_set


def test_the_ledger_of_a_manifest_of_another_name_is_its_own(tmp_path: Path) -> None:
    speech_set(tmp_path, 12)
    for name in ("calls.jsonl", "train.jsonl"):
        (tmp_path / name).write_text((tmp_path / "manifest.jsonl").read_text())
    look(tmp_path / "calls.jsonl")
    assert (tmp_path / f"calls.{SPLITS_FILE}").is_file()
    assert not (tmp_path / SPLITS_FILE).exists()
    for each in (tmp_path, tmp_path / "manifest.jsonl", tmp_path / "train.jsonl"):
        assert ledger_path(each) == tmp_path / SPLITS_FILE


def test_a_folder_that_cannot_be_written_has_its_ledger_in_the_cache(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MMTUNE_CACHE", str(tmp_path / "cache"))
    source = speech_set(tmp_path / "data", 12)
    allowed = os.access
    monkeypatch.setattr(
        os,
        "access",
        lambda path, mode: not str(path).startswith(str(source)) and allowed(path, mode),
    )
    before = sides(look(source))
    elsewhere = ledger_elsewhere(source)
    assert elsewhere.is_relative_to(tmp_path / "cache")
    assert not (source / SPLITS_FILE).exists()
    data = look(speech_set(source, 12, start=12))
    assert before.items() <= sides(data).items()
    (note,) = (each for each in data.findings if each.kind == "split-ledger")
    assert note.severity == "note"
    assert str(elsewhere) in note.message


def test_a_ledger_that_cannot_be_written_at_all_is_a_warning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(path: Path, text: str) -> None:
        raise OSError(28, "No space left on device", str(path))

    monkeypatch.setattr("mmtune.data.split_ledger.write_bytes", refuse)
    data = look(speech_set(tmp_path, 12))
    (finding,) = (each for each in data.findings if each.kind == "split-ledger")
    assert (finding.severity, "No space left" in finding.message) == ("warning", True)


def test_damaged_lines_are_named_and_the_others_are_read(tmp_path: Path) -> None:
    before = sides(look(speech_set(tmp_path, 12)))
    path = tmp_path / SPLITS_FILE
    lines = path.read_text().splitlines()
    lines[3] = lines[3][:20]
    lines[5] = lines[5].replace('"split": "', '"split": "un')
    path.write_text("\n".join(lines) + '\n{"id": "cut o')
    data = look(tmp_path)
    assert sides(data) == before  # the other rows of the speakers tell
    (finding,) = (each for each in data.findings if each.kind == "split-ledger")
    assert "3 damaged lines (line 4, 6, 14)" in finding.message


@pytest.mark.parametrize(
    ("text", "error", "says"),
    [
        ('{"a": 1}\n', DataError, "isn't the split ledger"),
        ("\0\0\n", DataError, "isn't the split ledger"),
        (json.dumps({"format": 99, "kind": KIND}), ConfigError, "has format 99"),
    ],
)
def test_a_file_that_is_no_ledger(
    tmp_path: Path, text: str, error: type[Exception], says: str
) -> None:
    (speech_set(tmp_path, 3) / SPLITS_FILE).write_text(text)
    with pytest.raises(error, match=says):
        look(tmp_path)
    assert (tmp_path / SPLITS_FILE).read_text() == text


def test_nothing_is_written_through_a_link(tmp_path: Path) -> None:
    source = speech_set(tmp_path / "data", 3)
    (source / SPLITS_FILE).symlink_to(tmp_path / "elsewhere")
    with pytest.raises(DataError, match="is a link"):
        look(source)
    assert not (tmp_path / "elsewhere").exists()


def test_commands_at_the_same_time_write_each_row_once(tmp_path: Path) -> None:
    speech_set(tmp_path, 12)
    found: list[dict[str, str]] = []
    threads = [threading.Thread(target=lambda: found.append(sides(look(tmp_path)))) for _ in "abc"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found[0] == found[1] == found[2]
    assert len((tmp_path / SPLITS_FILE).read_text().splitlines()) == 13


def test_the_public_check_keeps_splits_and_takes_what_may_be_shared(tmp_path: Path) -> None:
    speech_set(tmp_path, 12, split="train")
    change(tmp_path, r0={"split": "test"})
    data = mmtune.check(tmp_path)
    assert kinds(data)["split-refused"] == ["all rows"]
    data = mmtune.check(tmp_path, shared=["speaker"])
    assert sides(data)["r0"] == "test"
    assert "shared" in kinds(data)
    assert (tmp_path / SPLITS_FILE).is_file()  # the validation is drawn from train
    (guess,) = (each for each in data.guesses if each.value == "validation")
    assert "drawn from train" in guess.source


def test_the_ledger_is_no_content_and_no_data(tmp_path: Path) -> None:
    before = hash_contents(speech_set(tmp_path, 12))
    look(tmp_path)
    assert hash_contents(tmp_path) == before
    (finding,) = (each for each in Ledger([tmp_path]).findings() if each.row == SPLITS_FILE)
    assert (finding.kind, finding.severity) == ("hidden", "note")


def test_an_empty_ledger_knows_nothing(tmp_path: Path) -> None:
    (speech_set(tmp_path, 3) / SPLITS_FILE).touch()
    assert not read_ledger(tmp_path).known.sides


def test_a_ledger_that_grows_has_no_empty_lines(tmp_path: Path) -> None:
    source = speech_set(tmp_path, 12)
    look(source)
    before = (tmp_path / SPLITS_FILE).read_bytes()
    speech_set(tmp_path, 24)
    look(source)
    after = (tmp_path / SPLITS_FILE).read_bytes()
    assert after.startswith(before)
    assert len(after) > len(before)
    assert b"\n\n" not in after
    (tmp_path / SPLITS_FILE).write_bytes(after.removesuffix(b"\n"))  # an editor may do so
    speech_set(tmp_path, 36)
    look(source)
    assert (tmp_path / SPLITS_FILE).read_bytes().startswith(after)
