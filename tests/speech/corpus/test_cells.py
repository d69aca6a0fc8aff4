"""Cells and columns of tables: what each means, and what is no text, time, channel or split."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from mmtune.speech.corpus.importers import cells, import_speech
from mmtune.speech.corpus.importers.columns import NAMES, columns, guessed_columns
from mmtune.speech.corpus.importers.json_rows import read_json
from mmtune.speech.speech_row import SpeechRow
from tests.data.pieces import noise, write_audio

NAN = math.nan


def rows_of(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "manifest.jsonl").read_text().splitlines()]


# Times as FFmpeg's manual has them ("Time duration": [HH:]MM:SS[.m...] or S+[.m...]), with a
# decimal comma as in SRT and German tables, and as pandas writes missing and small numbers.
@pytest.mark.parametrize(
    ("cell", "wanted"),
    [
        ("12.5", 12.5), ("12,5", 12.5), (12.5, 12.5), (7, 7.0), ("0:12.5", 12.5),
        ("00:00:12", 12.0),
        ("01:02:12.25", 3732.25), ("90:00", 5400.0), ("1e-05", 1e-5), (".5", 0.5), ("5.", 5.0),
        ("", None), (" ", None), (None, None), (NAN, None), ("nan", None), ("N/A", None),
        ("00:00:12:05", ValueError), ("0:00:00:01.5", ValueError), ("1:-5", ValueError),
        ("0:75", ValueError), ("1:60:00", ValueError), ("-3", ValueError), ("1_0", ValueError),
        ("soon", ValueError), ("5:", ValueError), (":5", ValueError), ("inf", ValueError),
        ("1e9", ValueError), (math.inf, ValueError), (True, ValueError), ([1], ValueError),
    ],
)  # fmt: skip
def test_times(cell: Any, wanted: Any) -> None:
    if wanted is ValueError:
        with pytest.raises(ValueError, match="is not a time"):
            cells.seconds(cell)
    else:
        assert cells.seconds(cell) == wanted


@pytest.mark.parametrize(
    ("cell", "wanted"),
    [
        (0, 0), (1, 1), ("1", 1), (" 1 ", 1), ("1.0", 1), (1.0, 1), ("0.", 0), ("7", 7),
        ("mix", "mix"), (" mix", "mix"), ("Both", "mix"), ("all", "mix"), ("mixed", "mix"),
        ("", None), (None, None), (NAN, None), ("nan", None), ("-", None), ("telephone", None),
        ("left", None), ("-1", ValueError), ("1.5", ValueError), (0.5, ValueError),
        (-1, ValueError), (True, ValueError), ("1,5", ValueError),
    ],
)  # fmt: skip
def test_channels(cell: Any, wanted: Any) -> None:
    if wanted is ValueError:
        with pytest.raises(ValueError, match="is no channel"):
            cells.channel(cell)
    else:
        assert cells.channel(cell) == wanted
        if wanted is not None:  # a manifest may have it, too
            row = SpeechRow(id="1", audio="a", text="b", channel=cell)
            assert row.channel == wanted


@pytest.mark.parametrize(
    ("cell", "wanted"),
    [
        ("hello", "hello"), (" a ", " a "), (5, "5"), (1.5, "1.5"), (10**400, "1" + "0" * 400),
        ("nan", "nan"), ("None", "None"), ("", None), (" \t", None), (None, None), (NAN, None),
        (["hello", "you"], ValueError), ({"en": "hello"}, ValueError), (True, ValueError),
        (math.inf, ValueError), (b"hello", ValueError), (("a",), ValueError), ([], ValueError),
    ],
)  # fmt: skip
def test_text(cell: Any, wanted: Any) -> None:
    if wanted is ValueError:
        with pytest.raises(ValueError, match="'words' holds"):
            cells.words(cell, "words")
    else:
        assert cells.words(cell, "words") == wanted


@pytest.mark.parametrize(
    ("cell", "wanted"),
    [
        ("a; b c;;", ("a", "b c")), (["a", " b "], ("a", "b")), (None, ()), (NAN, ()), ("", ()),
        ([None, NAN, "a", ""], ("a",)), (5, ("5",)),
    ],
)  # fmt: skip
def test_terms(cell: Any, wanted: tuple[str, ...]) -> None:
    assert cells.terms(cell) == wanted


@pytest.mark.parametrize(
    ("header", "field", "column", "others"),
    [
        ("audio label transcript", "text", "transcript", "label"),
        ("path description transcription", "text", "transcription", "description"),
        ("audio caption sentence", "text", "sentence", "caption"),
        ("audio text normalized_text", "text", "text", "normalized_text"),
        ("audio Text label", "text", "Text", "label"),
        ("audio text text.1", "text", "text", "text.1"),
        ("audio text name utt_id", "id", "utt_id", "name"),
        ("audio text key uid", "id", "uid", "key"),
        ("file recording text", "audio", "file", "recording"),
        ("audio text client_id speaker", "speaker", "speaker", "client_id"),
        ("audio text partition split", "split", "split", "partition"),
        ("audio text", "text", "text", None),
        ("audio label", "text", "label", ""),
        ("file_name description", "text", "description", ""),
    ],
)
def test_the_surest_column_is_chosen_and_told(
    header: str, field: str, column: str, others: str | None
) -> None:
    values = dict.fromkeys(header.split())
    assert columns(values)[field] == column
    told = {guess.what: guess for guess in guessed_columns(values)}
    if others is None:
        assert told == {}
    else:
        assert told[f"column of {field}"].value == column
        assert others in told[f"column of {field}"].source


def test_every_name_that_a_manifest_suggests_is_known() -> None:
    known = [set(names) for names in NAMES.values()]
    assert all(any(names <= each for each in known) for names in SpeechRow.synonyms)


def table(folder: Path, lines: str, name: str = "list.csv") -> Path:
    for i in range(3):
        write_audio(folder / f"{i}.wav", seed=i, seconds=1.0)
    (folder / name).write_text(lines)
    return folder / name


@pytest.mark.parametrize(
    ("name", "lines", "texts", "found"),
    [
        ("list.csv", "audio,label,transcript\n0.wav,angry,hello there\n", ["hello there"], {}),
        ("list.csv", "audio,text,text\n0.wav,one,two\n", ["one"], {}),
        ("list.jsonl", '{"audio":"0.wav","text":NaN}\n{"audio":"1.wav","text":["a","b"]}\n', [],
         {1: "the transcript is empty", 2: "'text' holds a list, not text: ['a', 'b']"}),
        ("list.jsonl", '{"audio":NaN,"text":"a"}\n{"audio":["0.wav"],"text":"a"}\n', [],
         {1: "the row names no file", 2: "'audio' holds a list"}),
        ("list.jsonl", '{"audio":"0.wav","text":"a","speaker":{"id":3}}\n', [],
         {1: "'speaker' holds an object"}),
        ("list.jsonl", '{"audio":"0.wav","text":"a","text":"b"}\n', [], {1: "'text' occurs twice"}),
        ("list.csv", "audio,text,split\n0.wav,a,heldout\n1.wav,b,dev\n2.wav,c,N/A\n", ["b", "c"],
         {2: "split is 'heldout', which is no split"}),
        ("list.csv", "audio,text,channel\n0.wav,a,-1\n1.wav,b,\n", ["b"],
         {2: "'-1' is no channel"}),
        ("list.csv", "audio,text,start,end\n0.wav,a,0,00:00:00:05\n1.wav,b,NaN,NaN\n", ["b"],
         {2: "'00:00:00:05' is not a time"}),
        ("list.jsonl", '{"audio":"0.wav","utterance":"x"}\n' * 3, [],
         {1: "has no column for text; its columns are audio, utterance"}),
    ],
)  # fmt: skip
def test_rows_of_tables(
    tmp_path: Path, name: str, lines: str, texts: list[str], found: dict[int, str]
) -> None:
    result = import_speech(table(tmp_path / "a", lines, name), tmp_path / "to")
    written = rows_of(tmp_path / "to") if (tmp_path / "to").exists() else []
    assert [row["text"] for row in written] == texts
    left = {int(each.where.split()[-1]): each.found for each in result.left_out}
    assert left.keys() == found.keys()
    assert all(found[line] in left[line] for line in found)
    (counts,) = result.lines.values()
    assert (
        counts["found"]
        == counts["used"] + counts["left_out"]
        == len(lines.splitlines()) - (name == "list.csv")
    )


def test_labels_are_found_whatever_the_case_of_their_columns(tmp_path: Path) -> None:
    lines = "Audio,Text,Gender, Channel ,AGE\n0.wav,hello,male,telephone,\n"
    import_speech(table(tmp_path / "a", lines), tmp_path / "to")
    (row,) = rows_of(tmp_path / "to")
    assert row["group"] == {"recording": "0.wav", "gender": "male", "channel": "telephone"}


ROWS = [{"audio": "0.wav", "text": "one"}, {"audio": "1.wav", "text": "two"}]


@pytest.mark.parametrize(
    ("data", "texts"),
    [
        (json.dumps(ROWS).encode(), ["one", "two"]),
        (json.dumps(ROWS, indent=2).encode(), ["one", "two"]),
        (b"\xef\xbb\xbf\n" + json.dumps(ROWS, indent=2).encode(), ["one", "two"]),
        (json.dumps(ROWS, indent=2).encode("utf-16"), ["one", "two"]),
        ("\n".join(json.dumps(row) for row in ROWS).encode(), ["one", "two"]),
        ("\n".join(json.dumps(row, indent=1) for row in ROWS).encode(), ["one", "two"]),
        (json.dumps(ROWS[0], indent=1).encode(), ["one"]),
        (json.dumps([ROWS[0], 7, ROWS[1]], indent=1).encode(), ["one", "", "two"]),
        (b"{\n" + json.dumps(ROWS[1]).encode(), ["", "two"]),
        (b"[1]\n" + json.dumps(ROWS[1]).encode(), ["", "two"]),
        (b"[]", []),
    ],
)
def test_json_in_each_form(tmp_path: Path, data: bytes, texts: list[str]) -> None:
    path = tmp_path / "list.json"
    path.write_bytes(data)
    assert [values.get("text", "") for _, values in read_json(path)] == texts


def test_a_list_that_is_cut_off_is_one_finding(tmp_path: Path) -> None:
    path = table(tmp_path / "a", json.dumps(ROWS, indent=1)[:-5], "list.json")
    (tmp_path / "a/good.csv").write_text("audio,text\n2.wav,three\n")
    result = import_speech(tmp_path / "a", tmp_path / "to", "table")
    assert [row["text"] for row in rows_of(tmp_path / "to")] == ["three"]
    (finding,) = (each for each in result.left_out if each.where == path.name)
    assert finding.kind == "unreadable-table"
    assert "is no list of rows" in finding.found


def sides(left: float, right: float, common: float = 0.0) -> np.ndarray:
    shared = common * noise(9, 1.0)
    return np.stack([left * noise(1, 1.0) + shared, right * noise(2, 1.0) + shared], 1)


@pytest.mark.parametrize(
    ("samples", "guess"),
    [
        (lambda: sides(1, 0), ("0", "the only channel that holds sound")),
        (lambda: sides(0, 1), ("1", "the only channel that holds sound")),
        (lambda: sides(0.3, 0.3, 1), ("mix", "its channels hold one source in stereo")),
        (lambda: sides(0, 0, 1), None),
        (lambda: noise(1, 1.0), None),
    ],
)
def test_a_chosen_channel_is_a_guess_also_when_the_import_is_repeated(
    tmp_path: Path, samples: Callable[[], np.ndarray], guess: tuple[str, str] | None
) -> None:
    path = table(tmp_path / "a", "audio,text\n0.wav,hello\n")
    soundfile.write(tmp_path / "a/0.wav", samples(), 16_000)
    for dry in (True, False, False, True):
        result = import_speech(path, tmp_path / "to", dry=dry)
        found = [(each.value, each.source) for each in result.guesses if each.what == "channel"]
        assert found == ([] if guess is None else [guess])
        assert result.rows == 1
    path.write_text("audio,text,channel\n0.wav,hello,0\n")
    assert [g for g in import_speech(path, tmp_path / "to").guesses if g.what == "channel"] == []
