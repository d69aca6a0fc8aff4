"""A repeated import changes only its own files, and never its source."""

from __future__ import annotations

import json
import shutil
from importlib import import_module
from pathlib import Path

import pytest

from mmtune.errors import ConfigError, DataError, MmtuneError
from mmtune.speech.corpus.importers import import_speech
from mmtune.system.locks import Locked, locked
from tests.speech.corpus.test_import import fingerprint, transcripts


def names(folder: Path) -> set[str]:
    return {path.name for path in (folder / "audio").iterdir()}


@pytest.mark.parametrize("what", ["no file", "unreadable files"])
def test_a_source_without_rows_keeps_the_earlier_import(tmp_path: Path, what: str) -> None:
    source, to = transcripts(tmp_path / "source"), tmp_path / "to"
    import_speech(source, to)
    before = fingerprint(to)
    table = tmp_path / "table.csv"
    table.write_text("audio,text\n" + ("" if what == "no file" else "missing.wav,words\n"))
    with pytest.raises(DataError, match=r"gives no row.*the earlier import of 4 rows"):
        import_speech(table, to, "table")
    assert fingerprint(to) == before


def test_a_linked_audio_folder_is_refused_and_its_files_stay(tmp_path: Path) -> None:
    source, to = transcripts(tmp_path / "source"), tmp_path / "to"
    import_speech(source, to)
    elsewhere = tmp_path / "elsewhere"
    (to / "audio").rename(elsewhere)
    (elsewhere / "family.flac").write_bytes(b"mine")
    (to / "audio").symlink_to(elsewhere)
    (source / "call 0.txt").write_text("other words\n")
    before = fingerprint(elsewhere)
    with pytest.raises(ConfigError, match=r"audio is a link.*\n.*choose another folder"):
        import_speech(source, to)
    assert fingerprint(elsewhere) == before


def test_foreign_files_and_links_in_audio_stay(tmp_path: Path) -> None:
    source, to = transcripts(tmp_path / "source"), tmp_path / "to"
    import_speech(source, to)
    outside = tmp_path / "outside.flac"
    piece = next(iter(sorted(names(to))))
    (to / "audio" / piece).rename(outside)
    (to / "audio" / piece).symlink_to(outside)  # under a name that the import has given
    (to / "audio" / "foreign.flac").write_bytes(b"mine")
    (to / "audio" / "notes").mkdir()
    (to / "audio" / ".123.partial").write_bytes(b"left by an interrupted import")
    for path in source.glob("call [0-2].*"):
        path.unlink()
    assert import_speech(source, to).rows == 1
    left = names(to)
    assert {piece, "foreign.flac", "notes"} < left
    assert len(left) == 4  # and the row that is left
    assert outside.is_file()


def test_a_file_that_was_imported_from_is_never_removed(tmp_path: Path) -> None:
    to = tmp_path / "to"
    import_speech(transcripts(tmp_path / "source"), to)
    table = tmp_path / "table.csv"
    first, *others = sorted(names(to))
    table.write_text(f"id,audio,text\nnew,{to / 'audio' / first},new words\n")
    import_speech(table, to)
    assert first in names(to)
    assert not names(to) & set(others)


@pytest.mark.parametrize("inside", ["", "audio", "manifest.jsonl"])
def test_a_source_inside_the_target_is_refused(tmp_path: Path, inside: str) -> None:
    to = tmp_path / "to"
    import_speech(transcripts(tmp_path / "source"), to)
    before = fingerprint(to)
    with pytest.raises(ConfigError, match="is inside"):
        import_speech(to / inside, to)
    assert fingerprint(to) == before


def test_a_target_inside_the_source_is_refused(tmp_path: Path) -> None:
    source = transcripts(tmp_path / "source")
    before = fingerprint(source)
    (tmp_path / "link").symlink_to(source)
    for to in (source / "to", tmp_path / "link" / "to"):
        with pytest.raises(ConfigError, match="is inside"):
            import_speech(source, to)
    assert fingerprint(source) == before


def test_a_damaged_earlier_manifest_removes_nothing(tmp_path: Path) -> None:
    source, to = transcripts(tmp_path / "source"), tmp_path / "to"
    import_speech(source, to)
    before = names(to)
    (to / "manifest.jsonl").write_bytes(b"\xff\xfe[")
    (source / "call 0.wav").unlink()
    assert import_speech(source, to).rows == 3
    assert names(to) == before
    assert len((to / "manifest.jsonl").read_text().splitlines()) == 3


def test_two_imports_into_one_folder_are_refused(tmp_path: Path) -> None:
    source, to = transcripts(tmp_path / "source"), tmp_path / "to"
    import_speech(source, to)
    before = fingerprint(to)
    shutil.rmtree(source)
    with locked(to), pytest.raises(Locked, match="is in use by"):
        import_speech(transcripts(source), to)
    assert fingerprint(to) == before
    assert json.loads((to / "import.json").read_text())["rows"] == 4


def test_an_import_that_failed_beside_its_new_manifest_removes_the_old_pieces_when_repeated(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    to = tmp_path / "to"
    import_speech(transcripts(tmp_path / "first"), to)
    source = transcripts(tmp_path / "second")
    for path in source.glob("call [0-2].*"):
        path.unlink()

    def full(*given: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(import_module("mmtune.speech.corpus.importers.write"), "_remove_pieces", full)
        with pytest.raises((OSError, MmtuneError)):
            import_speech(source, to)
    assert len(names(to)) == 4
    assert import_speech(source, to).rows == 1
    assert len(names(to)) == 1
    assert not (to / ".replaced.json").exists()


def test_an_import_that_failed_at_its_start_can_be_repeated(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, to = transcripts(tmp_path / "source"), tmp_path / "to"

    def full(*given: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(import_module("mmtune.speech.corpus.importers.write"), "_mark", full)
        with pytest.raises((OSError, MmtuneError)):
            import_speech(source, to)
    (to / ".partial-0123.json").write_text("{")  # of a process that was killed
    assert import_speech(source, to).rows == 4
