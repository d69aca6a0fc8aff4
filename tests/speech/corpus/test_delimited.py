"""CSV and TSV: well-formed tables as Python's csv reads them; one bad line costs no other row."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mmtune.speech.corpus.importers import import_speech
from mmtune.speech.corpus.importers.delimited import read_delimited
from mmtune.speech.corpus.importers.places import Places
from mmtune.speech.corpus.importers.subtitle_names import SubtitleFiles
from mmtune.speech.corpus.importers.table import read_table
from tests.data.pieces import write_audio

CELL = st.text(
    st.one_of(st.sampled_from("\",;\t|\n'  ab"), st.characters(exclude_categories=["Cs", "Cc"])),
    max_size=12,
)


def read(path: Path, data: bytes | str, **options: Any) -> list[dict[str, Any]]:
    path.write_bytes(data.encode() if isinstance(data, str) else data)
    found = read_table(path) if not options else read_delimited(path, **options)
    return [dict(values) for _, values in found]


@settings(deadline=None, max_examples=150)
@given(rows=st.lists(st.tuples(CELL, CELL), max_size=6), separator=st.sampled_from(",;\t"))
def test_well_formed_tables_read_as_csv_reads_them(
    tmp_path_factory: pytest.TempPathFactory, rows: list[tuple[str, str]], separator: str
) -> None:
    path = tmp_path_factory.mktemp("t") / "t.csv"
    out = io.StringIO(newline="")
    writer = csv.writer(out, delimiter=separator, quoting=csv.QUOTE_ALL)
    writer.writerows([("path", "text"), *rows])
    found = read(path, out.getvalue())
    wanted = list(csv.DictReader(io.StringIO(out.getvalue(), newline=""), delimiter=separator))
    assert found == wanted


NAMES = [f"{name}.wav" for name in "abcdef"]
SENTENCE = st.text(st.sampled_from('" ,.abc'), max_size=10)


@settings(deadline=None, max_examples=150)
@given(texts=st.lists(SENTENCE, min_size=6, max_size=6))
def test_unquoted_sentences_stay_in_their_own_rows(
    tmp_path_factory: pytest.TempPathFactory, texts: list[str]
) -> None:
    path = tmp_path_factory.mktemp("t") / "t.tsv"
    lines = [f"{name}\t{text}" for name, text in zip(NAMES, texts, strict=True)]
    found = read(path, "\n".join(["path\ttext", *lines]))
    assert [row["path"] for row in found] == NAMES
    for row, text in zip(found, texts, strict=True):
        assert row["text"].replace('"', "") == text.replace('"', "")


@pytest.mark.parametrize(
    ("name", "data", "texts"),
    [
        ("t.csv", "path,text\na.wav,one\nb.wav,two\n", ["one", "two"]),
        ("t.csv", "path;text\na.wav;one, or two\n", ["one, or two"]),
        ("t.csv", "path|text\na.wav|one\n", ["one"]),
        ("t.csv", "path\ttext\na.wav\tone\n", ["one"]),
        ("t.csv", 'path,text\r\na.wav,"one\r\ntwo"\r\nb.wav,x\r\n', ["one\r\ntwo", "x"]),
        ("t.csv", 'path,text\na.wav,"he said ""no"""\n', ['he said "no"']),
        ("t.csv", 'path,text\na.wav,"open\nb.wav,two\nc.wav,"three"\n', ['"open', "two", "three"]),
        # Another mark before: two marks, and the cell goes on all the same.
        ("t.csv", 'path,text\na.wav","one\ntwo"\nb.wav,x\n', ["one\ntwo", "x"]),
        ("t.csv", 'path,text\na.wav,"open\nb.wav,two"\n', ['"open', 'two"']),
        ("t.csv", 'path,text\na.wav,5" pipe\nb.wav,x\n', ['5" pipe', "x"]),
        ("t.csv", 'text,path\n"one,\ntwo",a.wav\nx,b.wav\n', ["one,\ntwo", "x"]),
        # A cell in two lines that lost a quotation mark: the row isn't cut off, it is left out.
        ("t.csv", 'path,text\na.wav,one\ntwo"\nb.wav,x\n', ["x"]),
        ("t.csv", 'text,path\none\ntwo",a.wav\nx,b.wav\n', ["x"]),
        ("t.csv", 'path,text\na.wav,"one\ntwo\nb.wav,x\n', ["x"]),
        ("t.csv", "path,text\na.wav,one\ntotal: 2\nb.wav,x\n", ["one", "x"]),
        # A row without its last cell isn't cut elsewhere.
        ("t.csv", 'path,text,who\na.wav,"one, two"\nb.wav,x,s\n', ["x"]),
        ("t.csv", 'path,text\na.wav,"No," she said.\nb.wav,x\n', ["x"]),  # 3 cells: left out
        ("t.tsv", 'path\ttext\na.wav\t"No," she said.\nb.wav\tx\n', ['"No," she said.', "x"]),
        ("t.tsv", 'path\ttext\na.wav\t"Yes.\nb.wav\tNo."\n', ['"Yes.', 'No."']),
        ("t.csv", "path,text\n\na.wav,one\n\n", ["one"]),
        ("t.csv", "\ufeffpath,text\na.wav,ö\n", ["ö"]),
        ("t.csv", "path,text\na.wav,ö\n".encode("utf-16"), ["ö"]),
        ("t.csv", "\ufeffpath,text\na.wav,ö\n".encode("utf-16-be"), ["ö"]),
        ("t.csv", "path,text\na.wav,ö\n".encode("utf-16-be"), ["ö"]),
        ("t.csv", "path,text\na.wav,漢\n".encode("utf-16-le"), ["漢"]),
        ("t.csv", "path,text\na.wav,ö\n".encode("utf-32"), ["ö"]),
        ("t.csv", "path,text\na.wav,line\u2028break\n", ["line\u2028break"]),
    ],
)
def test_members(tmp_path: Path, name: str, data: bytes | str, texts: list[str]) -> None:
    found = read(tmp_path / name, data)
    assert [row["text"] for row in found if "text" in row] == texts


def test_columns_of_one_name_are_numbered_as_pandas_numbers_them(tmp_path: Path) -> None:
    (found,) = read(tmp_path / "t.csv", "a,b,a,a.1,a,b\n1,2,3,4,5,6\n")
    # pandas 3.1.1: list(read_csv(io.StringIO("a,b,a,a.1,a,b\n")).columns)
    assert list(found) == ["a", "b", "a.2", "a.1", "a.3", "b.1"]
    assert list(found.values()) == list("123456")
    (found,) = read(tmp_path / "t.csv", ",".join(["x"] * 20_000) + "\n" + ",".join("1" * 20_000))
    assert len(found) == 20_000


def test_a_line_of_other_columns_is_named_and_costs_no_other(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text("path,text\na.wav,one,too many\nb.wav\nc.wav,three\n")
    found = dict(read_table(path))
    assert found["t.csv line 2"] == {"": "the line has 3 columns, the first line 2"}
    assert found["t.csv line 3"] == {"": "the line has 1 columns, the first line 2"}
    assert found["t.csv line 4"] == {"path": "c.wav", "text": "three"}


@pytest.mark.parametrize(
    "name", [r"audio\a.wav", r".\audio\a.wav", r"C:\calls\2024\a.wav", "audio/a.wav", "a", r"..\a"]
)
def test_paths_of_windows_are_found(tmp_path: Path, name: str) -> None:
    (tmp_path / "audio").mkdir()
    (tmp_path / "audio/a.wav").touch()
    path = Places(tmp_path).find(name).path
    assert path is not None
    assert path.resolve() == tmp_path / "audio/a.wav"


@pytest.mark.parametrize(
    ("recording", "wanted"),
    [
        ("call.wav", ["call.srt", "call.de.vtt"]),
        ("call.2.wav", ["call.2.srt"]),
        ("call.2.b.wav", ["call.2.b.en.srt"]),
        ("talk.mp3", []),
    ],
)
def test_subtitles_are_those_of_the_longest_name(
    tmp_path: Path, recording: str, wanted: list[str]
) -> None:
    names = ["call.wav", "call.2.wav", "call.2.b.wav", "talk.mp3", "call.srt", "call.de.vtt",
             "call.2.srt", "call.2.b.en.srt", "talking.srt", "talk.a.b.srt"]  # fmt: skip
    for name in names:
        (tmp_path / name).touch()
    assert [path.name for path in SubtitleFiles().of(tmp_path / recording)] == wanted


def test_the_exact_name_is_used_and_the_others_are_listed(tmp_path: Path) -> None:
    source = tmp_path / "source"
    for name in ("call", "call.de", "call.sdh"):
        write_audio(source / "call.wav", seconds=3.0)
        (source / f"{name}.srt").write_text(f"1\n00:00:00,500 --> 00:00:02,000\nI am {name}\n")
    result = import_speech(source, tmp_path / "to")
    (row,) = map(json.loads, (tmp_path / "to/manifest.jsonl").read_text().splitlines())
    assert row["text"] == "I am call"
    assert {each.where for each in result.left_out} == {"call.de.srt", "call.sdh.srt"}
    result = import_speech(source, tmp_path / "de", settings={"language": "German"})
    (row,) = map(json.loads, (tmp_path / "de/manifest.jsonl").read_text().splitlines())
    assert (row["text"], row["language"]) == ("I am call.de", "de")
