"""A repeated import changes only its own files, and never its source."""

from __future__ import annotations

import json
import shutil
from importlib import import_module
from pathlib import Path

import pytest

from mmtune.cli import main
from mmtune.errors import ConfigError, DataError, MmtuneError
from mmtune.speech.corpus.importers import import_speech
from mmtune.system.locks import Locked, locked
from tests.data.pieces import write_audio
from tests.speech.corpus.layouts import SAMPLES, fingerprint, transcripts


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


def rows(folder: Path) -> dict[str, str]:
    """The lines of a manifest by id."""
    lines = (folder / "manifest.jsonl").read_text().splitlines()
    return {json.loads(line)["id"]: line for line in lines}


@pytest.mark.parametrize("name", ["table", "commonvoice", "transcripts", "srt", "kaldi"])
def test_only_what_is_new_is_decoded_and_earlier_rows_stay(
    tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, to = SAMPLES[name](tmp_path / "source"), tmp_path / "to"
    settings = {"recordings": str(tmp_path / "source")}
    import_speech(source, to, settings=settings)
    before, mtimes = rows(to), {p: p.stat().st_mtime_ns for p in (to / "audio").iterdir()}
    folder = source if source.is_dir() else source.parent
    # A recording of another suffix comes first, and would have the earlier one's id.
    write_audio(folder / "audio/0.flac" if name == "table" else folder / "new.wav", seed=9)
    if name == "table":
        with source.open("a") as file:
            file.write("0.flac;new words;s9\n")
    elif name == "commonvoice":
        write_audio(folder / "clips/new.mp3", seed=9)
        with (source / "dev.tsv").open("a") as file:
            file.write("c9\tnew.mp3\tnew words\t2\tteens\t\ten\n")
    elif name == "kaldi":
        with (folder / "test/text").open("a") as file:
            file.write("u9 new words\n")
        with (folder / "test/segments").open("a") as file:
            file.write("u9 call-test 30 31\n")
    else:
        write_audio(folder / "call 0.flac", seed=8)  # before "call 0.wav"
        (folder / "new.txt").write_text("new words")
        (folder / "new.srt").write_text("1\n00:00:00,000 --> 00:00:00,200\nnew words\n")
    decoded = []
    module = import_module("mmtune.speech.corpus.importers.write")
    read = module.read_row
    monkeypatch.setattr(
        module, "read_row", lambda row, **o: decoded.append(row.text) or read(row, **o)
    )
    result = import_speech(source, to, settings=settings)
    after = rows(to)
    assert before.items() <= after.items()
    assert sorted(result.new) == sorted(after.keys() - before.keys())
    assert result.new
    assert len(decoded) == len(result.new)
    assert result.removed == ()
    assert {path: path.stat().st_mtime_ns for path in mtimes} == mtimes
    assert f"{len(result.new)} rows are new" in " ".join(result.describe())
    once = fingerprint(to)
    assert import_speech(source, to, settings=settings).new == ()
    assert fingerprint(to) == once


def test_corrected_words_keep_the_id(tmp_path: Path) -> None:
    source, to = SAMPLES["srt"](tmp_path / "source"), tmp_path / "to"
    import_speech(source, to)
    before = rows(to)
    path = source / "talk.srt"
    path.write_text(path.read_text().replace("00:00:02,000", "00:00:02,500"))
    result = import_speech(source, to)
    assert rows(to).keys() == before.keys()
    assert (result.new, result.removed) == ((), ())


def test_removed_sources_are_named(tmp_path: Path) -> None:
    source, to = transcripts(tmp_path / "source"), tmp_path / "to"
    import_speech(source, to)
    (source / "call 2.wav").unlink()
    result = import_speech(source, to, dry=True)
    assert result.removed == ("call 2",)
    assert "1 rows of the earlier import are no longer in the source and would be removed: call 2" \
        in result.describe()  # fmt: skip
    assert len(rows(to)) == 4
    assert import_speech(source, to).removed == ("call 2",)
    assert len(rows(to)) == 3


@pytest.mark.parametrize("name", SAMPLES)
def test_a_dry_run_tells_all_and_writes_nothing(
    tmp_path: Path, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    source, to = SAMPLES[name](tmp_path / "source"), tmp_path / "to"
    command = ["import", str(source), "--to", str(to), "--recordings", str(tmp_path)]
    before = fingerprint(tmp_path)
    assert main([*command, "--dry-run"]) == 0
    assert "would be written" in capsys.readouterr().out
    assert fingerprint(tmp_path) == before
    assert not to.exists()
    assert main([*command, "--dry-run", "--json"]) == 0
    dry = json.loads(capsys.readouterr().out)
    assert main([*command, "--json"]) == 0
    wet = json.loads(capsys.readouterr().out)
    assert wet["version"]
    assert dry == wet | {"dry": True, "version": ""}


def test_audio_lies_in_another_folder(tmp_path: Path) -> None:
    source, far = tmp_path / "source", tmp_path / "far"
    for i in range(2):
        write_audio(far / f"day/{i}.wav", seed=i)
    write_audio(far / "spare.wav", seed=8)
    source.mkdir()
    table = source / "list.csv"
    table.write_text("path,text\nexport/day/0.wav,zero\nC:\\x\\day\\1.wav,one\nno.wav,none\n")
    result = import_speech(table, tmp_path / "to", settings={"audio_dir": str(far)})
    assert result.rows == 2
    missing, spare = result.left_out
    assert f"looked in {far} and its folders" in missing.found
    assert f"; {source} and its folders" in missing.found
    assert (spare.where, spare.kind) == (f"{far}/spare.wav", "unused-recording")
    assert [g.value for g in result.guesses if g.what == "place"] == [f"{far}/the end of the path"]


def test_one_file_under_two_paths_is_left_out(tmp_path: Path) -> None:
    write_audio(tmp_path / "far/0.wav")
    table = tmp_path / "list.csv"
    table.write_text("path,text\nin/0.wav,the agent\nout/0.wav,the customer\n")
    result = import_speech(table, tmp_path / "to", settings={"audio_dir": str(tmp_path / "far")})
    assert result.rows == 0
    assert [each.kind for each in result.left_out] == ["ambiguous", "ambiguous", "unused-recording"]
    assert "out/0.wav" in result.left_out[0].found
