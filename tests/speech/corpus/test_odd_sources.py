"""Odd files, names and tables cost their own rows alone, are named, and end no import."""

from __future__ import annotations

import io
import os
from pathlib import Path
from typing import Any

import pytest
import soundfile

from mmtune.data.check import check
from mmtune.errors import ConfigError, DataError
from mmtune.speech.corpus.importers import import_speech, recognise
from mmtune.speech.corpus.importers.columns import times_of_original
from mmtune.speech.corpus.importers.delimited import read_delimited
from mmtune.speech.corpus.importers.piece import ImportOptions, Piece
from mmtune.speech.corpus.importers.places import Places
from mmtune.speech.corpus.importers.row_ids import RowIds
from tests.data.pieces import SPEECH, noise, write_audio
from tests.speech.corpus.test_cells import rows_of


def texts(folder: Path) -> list[str]:
    return sorted(row["text"] for row in rows_of(folder))


def kinds(result: Any) -> dict[str, str]:
    return {each.where: each.kind for each in result.left_out}


@pytest.mark.parametrize("name", ["b.wav", "x" * 300 + ".wav", "b\0.wav"])
def test_a_recording_that_cannot_be_opened_is_left_out(tmp_path: Path, name: str) -> None:
    source = tmp_path / "a"
    write_audio(source / "a.wav", seconds=1.0)
    (source / "b.wav").symlink_to("b.wav")
    (source / "wav.scp").write_text(f"u1 a.wav\nu2 {name}\n")
    (source / "text").write_text("u1 hello\nu2 bye\n")
    result = import_speech(source, tmp_path / "to")
    assert texts(tmp_path / "to") == ["hello"]
    assert kinds(result)["a/wav.scp u2"] == "missing"
    table = tmp_path / "a/list.csv"
    table.write_text(f"audio,text\na.wav,hello\n{name},bye\n")
    result = import_speech(table, tmp_path / "table")
    assert texts(tmp_path / "table") == ["hello"]
    assert kinds(result) == {"list.csv line 3": "missing"}


def test_a_link_to_itself_with_a_transcript_is_left_out(tmp_path: Path) -> None:
    write_audio(tmp_path / "a/a.wav", seconds=1.0)
    (tmp_path / "a/b.wav").symlink_to("b.wav")
    for name in "ab":
        (tmp_path / f"a/{name}.txt").write_text(name)
    result = import_speech(tmp_path / "a", tmp_path / "to")
    assert texts(tmp_path / "to") == ["a"]
    assert kinds(result) == {"b.wav": "missing"}


@pytest.mark.parametrize("keep", [0, 30, 0.6])
def test_a_damaged_piece_is_written_again(tmp_path: Path, keep: float) -> None:
    write_audio(tmp_path / "a.wav", seconds=1.0)
    (tmp_path / "list.csv").write_text("audio,text\na.wav,hello\n")
    import_speech(tmp_path / "list.csv", tmp_path / "to")
    (piece,) = (tmp_path / "to/audio").iterdir()
    data = piece.read_bytes()
    piece.write_bytes(data[: int(keep if keep > 1 else keep * len(data))])
    result = import_speech(tmp_path / "list.csv", tmp_path / "to")
    assert (result.rows, result.new, result.seconds) == (1, (), 1.0)
    assert piece.read_bytes() == data


@pytest.mark.parametrize("name", ["hex", "rot13", "base64", "undefined", "no-such"])
def test_an_encoding_is_one_of_text(tmp_path: Path, name: str) -> None:
    (tmp_path / "list.csv").write_text("audio,text\n")
    with pytest.raises(ConfigError, match="unknown encoding"):
        import_speech(tmp_path / "list.csv", tmp_path / "to", settings={"encoding": name})


@pytest.mark.parametrize(
    "encoding", ["utf-8", "UTF8", "utf-8-sig", "utf-16", "utf-16-le", "utf-32"]
)
def test_a_byte_order_mark_is_no_letter_whatever_encoding_is_named(
    tmp_path: Path, encoding: str
) -> None:
    mark = "" if encoding in ("utf-8-sig", "utf-16", "utf-32") else "\ufeff"
    path = tmp_path / "t.csv"
    path.write_bytes((mark + "path,text\na.wav,ö\n").encode(encoding))
    for each in (encoding, None):
        found = [values for _, values in read_delimited(path, encoding=each)]
        assert found == [{"path": "a.wav", "text": "ö"}]
    with pytest.raises(DataError, match="byte order mark of utf"):
        list(read_delimited(path, encoding="cp1252"))


@pytest.mark.parametrize("end", ["\x85", "\u2028", "\u2029", "\x0b", "\x0c", "\x1c"])
def test_only_line_feed_and_carriage_return_end_a_line(tmp_path: Path, end: str) -> None:
    path = tmp_path / "t.csv"
    path.write_text(f'path,text,note\na.wav,"Hi, you",ok{end}\nb.wav,"one{end}two",x\n')
    found = [values["text"] for _, values in read_delimited(path)]
    assert found == ["Hi, you", f"one{end}two"]


def test_unpaired_marks_are_looked_after_once(tmp_path: Path) -> None:
    count = 300
    path = tmp_path / "t.tsv"
    path.write_text("path\ttext\n" + "".join(f'c{i}\t"And then\n' for i in range(count)))
    looked = []
    rows = list(read_delimited(path, begins_row=lambda cells: looked.append(cells) or False))
    assert len(rows) == count
    assert len(looked) < 4 * count


def test_a_hundred_rows_of_one_id_are_numbered_without_search() -> None:
    class Counting(set[str]):
        asked = 0

        def __contains__(self, name: object) -> bool:
            Counting.asked += 1
            return super().__contains__(name)

    found: list[str] = []
    group = {"recording": "a.wav"}
    earlier = {f"Ann-{i}": {"group": group} for i in range(2, 300)}
    for known in ({}, earlier):
        ids = RowIds(known)
        ids.taken = Counting()
        for i in range(400):
            piece = Piece(Path("a.wav"), "a.wav", "x", str(i), id="Ann")
            found.append(ids.new(piece, group))
            ids.taken.add(found[-1])
    assert found[:400] == ["Ann", *(f"Ann-{i}" for i in range(2, 401))]
    assert len(set(found[400:])) == 400
    assert Counting.asked < 4 * 800


MAC = b"\x00\x05\x16\x07\x00\x02\x00\x00Mac OS X        \xff\xfe\x00\x80"


@pytest.mark.parametrize("name", ["._list.csv", "~$list.csv", ".hidden.csv"])
def test_tables_that_programs_leave_behind_are_skipped(tmp_path: Path, name: str) -> None:
    write_audio(tmp_path / "a/a.wav", seconds=1.0)
    (tmp_path / "a/list.csv").write_text("audio,text\na.wav,hello\n")
    (tmp_path / "a" / name).write_bytes(MAC)
    result = import_speech(tmp_path / "a", tmp_path / "to")
    assert texts(tmp_path / "to") == ["hello"]
    assert kinds(result) == {name: "hidden"}


@pytest.mark.parametrize("layout", ["table", "audiofolder", "huggingface", "kaldi", "transcripts"])
@pytest.mark.parametrize("folder", ["__MACOSX", "@eaDir", "#recycle", ".cache"])
def test_folders_that_programs_leave_behind_hold_no_data(
    tmp_path: Path, layout: str, folder: str
) -> None:
    place = tmp_path / "a" / folder
    write_audio(place / "a.wav", seconds=1.0)
    files = {"table": "list.csv", "audiofolder": "metadata.csv", "huggingface": "train.parquet",
             "kaldi": "wav.scp", "transcripts": "a.txt"}  # fmt: skip
    (place / files[layout]).write_text("file_name,text\na.wav,hello\n")
    assert recognise(tmp_path / "a") is None


def test_one_unreadable_table_of_several_is_left_out(tmp_path: Path) -> None:
    source = tmp_path / "a"
    for i in range(3):
        write_audio(source / f"{i}.wav", seed=i, seconds=1.0)
    (source / "good.csv").write_text("audio,text\n0.wav,zero\n")
    (source / "head.csv").write_bytes("audio,text\n1.wav,für\n".encode("cp1252"))
    lines = "audio,text\n2.wav,two\n" + "none\n" * 2000
    (source / "tail.csv").write_bytes(lines.encode() + b"1.wav,f\xfcr\n")
    result = import_speech(source, tmp_path / "to")
    assert texts(tmp_path / "to") == ["two", "zero"]
    unreadable = [each for each in result.left_out if each.kind == "unreadable-table"]
    assert [each.file for each in unreadable] == ["head.csv", "tail.csv"]
    assert all("--encoding" in each.cure for each in unreadable)
    for counts in result.lines.values():
        assert counts["found"] == counts["used"] + counts["left_out"]
    (source / "good.csv").unlink()
    (source / "tail.csv").unlink()
    with pytest.raises(DataError, match="can't be read"):
        import_speech(source, tmp_path / "to")


def test_one_kaldi_folder_without_transcripts_is_left_out(tmp_path: Path) -> None:
    for name in ("train", "unlabelled"):
        write_audio(tmp_path / f"a/{name}/a.wav", seconds=1.0)
        (tmp_path / f"a/{name}/wav.scp").write_text("u1 a.wav\n")
    (tmp_path / "a/train/text").write_text("u1 hello\n")
    result = import_speech(tmp_path / "a", tmp_path / "to")
    assert texts(tmp_path / "to") == ["hello"]
    assert kinds(result)["unlabelled"] == "unreadable-table"


@pytest.mark.parametrize(
    ("table", "layout"),
    [("path\tsentence\tclient_id", "commonvoice"), ("path\ttext\tspk", "table")],
)
def test_two_paths_share_no_file_in_any_layout(tmp_path: Path, table: str, layout: str) -> None:
    write_audio(tmp_path / "far/1.wav")
    path = tmp_path / "list.tsv"
    path.write_text(f"{table}\nx/1.wav\tone\ts1\ny/1.wav\ttwo\ts2\n")
    assert recognise(path) == layout
    result = import_speech(path, tmp_path / "to", settings={"audio_dir": str(tmp_path / "far")})
    assert result.rows == 0
    assert [each.kind for each in result.left_out[:2]] == ["ambiguous", "ambiguous"]


def test_two_paths_of_a_parquet_file_share_no_file(tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets")
    write_audio(tmp_path / "far/1.wav")
    values = {"audio": ["x/1.wav", "y/1.wav"], "text": ["one", "two"]}
    whole = datasets.Dataset.from_dict(values)
    whole.to_parquet(str(tmp_path / "list.PARQUET"))
    whole.save_to_disk(str(tmp_path / "saved"))
    for source in (tmp_path / "list.PARQUET", tmp_path / "saved"):
        settings = {"audio_dir": str(tmp_path / "far")}
        result = import_speech(source, tmp_path / f"to {source.name}", settings=settings)
        assert [each.kind for each in result.left_out[:2]] == ["ambiguous", "ambiguous"]


def test_files_of_the_audio_folder_have_names_of_their_own(tmp_path: Path) -> None:
    write_audio(tmp_path / "far/a.wav", seconds=1.0)
    table = tmp_path / "list.csv"
    for path in (table, tmp_path / "far/list.csv"):
        path.write_text("audio,text\na.wav,hello\n")
    far = str(tmp_path / "far")
    result = import_speech(table, tmp_path / "to", settings={"audio_dir": far})
    assert kinds(result) == {f"{far}/list.csv": "unused-table"}
    assert result.files == {"found": 2, "used": 1, "left_out": 1}


def test_the_folder_of_recordings_exists_and_is_accounted_for(tmp_path: Path) -> None:
    far = tmp_path / "far"
    for name in ("a", "spare", "to/audio/old"):
        write_audio(far / f"{name}.wav", seconds=1.0)
    (far / "to/import.json").write_text("{}")
    (far / "notes.txt").write_text("not of the source")
    source = tmp_path / "a"
    source.mkdir()
    (source / "wav.scp").write_text(f"u1 {far}/a.wav\n")
    (source / "text").write_text("u1 hello\n")
    result = import_speech(source, far / "to", settings={"recordings": str(far)})
    assert texts(far / "to") == ["hello"]
    assert kinds(result) == {f"{far}/spare.wav": "unused-recording"}
    assert result.files == {"found": 4, "used": 3, "left_out": 1}
    with pytest.raises(ConfigError, match=r"--recordings .*: no such folder"):
        import_speech(source, far / "to", settings={"recordings": str(tmp_path / "gone")})


@pytest.mark.parametrize(
    ("channels", "side", "kept"),
    [(1, "B", None), (2, "B", "1"), (2, "2", "1"), (1, "C", None), (2, "C", "")],
)
def test_a_side_counts_if_the_file_has_several(
    tmp_path: Path, channels: int, side: str, kept: str | None
) -> None:
    source = tmp_path / "a"
    source.mkdir()
    samples = [noise(i, 1.0) for i in range(channels)]
    soundfile.write(source / "b.wav", list(zip(*samples, strict=True)), 16_000)
    (source / "wav.scp").write_text("r-B b.wav\n")
    (source / "text").write_text("r-B hello\n")
    (source / "reco2file_and_channel").write_text(f"r-B r {side}\n")
    result = import_speech(source, tmp_path / "to")
    found = [row["group"].get("recording_channel") for row in rows_of(tmp_path / "to")]
    assert found == ([] if kept == "" else [kept])
    assert any("side 'C'" in each.found for each in result.left_out) == (kept == "")


@pytest.mark.parametrize("path", [None, "audio.wav"])
def test_embedded_clips_have_files_of_their_own(path: str | None) -> None:
    file = io.BytesIO()
    soundfile.write(file, noise(1, 2.0), 16_000, format="WAV")
    audio = {"bytes": file.getvalue(), "path": path}
    row = {"audio": audio, "text": "x"}
    rows = [(f"row {i}", row | {"begin_time": 100.0 + i, "end_time": 102.0 + i}) for i in range(3)]
    assert times_of_original(rows, Places(Path())) == ("begin_time", "end_time")


def test_speakers_are_named_in_any_case() -> None:
    options = ImportOptions.model_validate({"speakers": {"Ann Lee ": 0, "BOB": 1}})
    assert options.speakers == {"ann lee": 0, "bob": 1}
    with pytest.raises(ValueError, match="twice"):
        ImportOptions.model_validate({"speakers": {"Ann": 0, "ann": 1}})


@pytest.mark.parametrize("suffix", [".TXT", ".Txt", ".txt"])
def test_the_suffix_of_a_transcript_may_be_in_capitals(tmp_path: Path, suffix: str) -> None:
    write_audio(tmp_path / "a/b.wav", seconds=1.0)
    (tmp_path / f"a/b{suffix}").write_text("hello")
    result = import_speech(tmp_path / "a", tmp_path / "to")
    assert (result.rows, result.left_out) == (1, ())
    data = check(tmp_path / "a", SPEECH)
    assert [row.reference for row in data.rows] == ["hello"]
    assert {finding.kind for finding in data.findings} == {"no-validation", "no-test"}


def test_a_file_is_resolved_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from mmtune.data.ledger import Ledger

    write_audio(tmp_path / "a.wav")
    ledger = Ledger([tmp_path], tmp_path)
    asked, real = [], os.path.realpath
    monkeypatch.setattr(os.path, "realpath", lambda path: asked.append(path) or real(path))
    for _ in range(100):
        ledger.use_items(tmp_path / "a.wav", 1)
        ledger.use_items(str(tmp_path / "a.wav"), 1)
    assert ledger.items["a.wav"].used == 200
    assert len(asked) < 4
