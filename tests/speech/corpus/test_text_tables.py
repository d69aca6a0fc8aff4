"""Texts are read from tables as an import reads them, and what is wrong is named with its cure."""

from __future__ import annotations

from pathlib import Path

import pytest

from mmtune.errors import DataError
from mmtune.speech.corpus.importers.columns import NAMES
from mmtune.speech.corpus.text_tables import FILES, HYPOTHESES, IDS, REFERENCES, read_texts

# A file's suffix and content, and the texts that are in it: by hand, as the import reads them.
READ: dict[str, tuple[str, str, list[str]]] = {
    "marks that enclose two rows": (
        ".csv", 'path,text\na.wav,"Yes\nb.wav,No"\nc.wav,ok\n', ['"Yes', 'No"', "ok"],
    ),
    "a mark without a partner": (
        ".tsv", 'path\ttext\na.wav\t"Yes\nb.wav\tno\n', ['"Yes', "no"],
    ),
    "a text in two lines": (".csv", 'path,text\na.wav,"Yes,\nsir"\nb.wav,no\n', ["Yes, sir", "no"]),
    "a second text": (".csv", "id,text,text\n1,this,that\n", ["this"]),
    "a list": (".json", '[{"id": 1, "text": "a"},\n {"id": 2, "text": ""}]', ["a", ""]),
    "one object in several lines": (".json", '{\n"id": "1",\n"text": "a"\n}\n', ["a"]),
    "objects in one line": (".ndjson", '{"id": 1, "text": "a"} {"id": 2, "text": "b"}', ["a", "b"]),
    "the import's columns": (".csv", "recording,normalized_text\n1.wav,a\n", ["a"]),
    "a caption": (".csv", "clip,caption\n1.wav,a\n", ["a"]),
}  # fmt: skip


@pytest.mark.parametrize("name", READ)
@pytest.mark.parametrize("columns", [REFERENCES, HYPOTHESES], ids=["references", "transcripts"])
def test_tables(tmp_path: Path, name: str, columns: tuple[str, ...]) -> None:
    suffix, content, wanted = READ[name]
    path = tmp_path / f"texts{suffix}"
    path.write_text(content, encoding="utf-8")
    rows = read_texts(path, columns)
    assert [row.text for row in rows] == wanted
    assert all(row.names for row in rows)


# A file's suffix and content, what is said of it, and the cure for references and transcripts.
WRONG: dict[str, tuple[str, str, str, str, str]] = {
    "a key twice in a list": (
        ".json", '[{"id": 1, "text": "a", "text": "b"}]', "texts.json, line 1: the line is no row",
        "correct the line", "correct the line",
    ),
    "a key twice in a line": (
        ".jsonl", '{"id": "1", "text": "a"}\n{"id": "2", "text": "a", "text": "b"}\n',
        "texts.jsonl, line 2: .* 'text' .*twice", "correct the line", "correct the line",
    ),
    "an entry that is no object": (
        ".json", '[{"id": "1", "text": "a"},\n "b"]', "texts.json, row 2: it is a JSON str",
        "correct the line", "correct the line",
    ),
    "no column": (
        ".csv", "id,heard\n1,a\n", "texts.csv, line 2: no column for the text",
        "name the text's column 'text'", "name the text's column: --column NAME",
    ),
    "no text": (
        ".json", '[{"id": "1", "text": ["a"]}]', "texts.json, row 1: text holds a JSON list",
        "name the text's column 'text'", "name the text's column: --column NAME",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", WRONG)
def test_what_is_wrong(tmp_path: Path, name: str) -> None:
    suffix, content, words, *cures = WRONG[name]
    path = tmp_path / f"texts{suffix}"
    path.write_text(content, encoding="utf-8")
    for columns, cure in zip((REFERENCES, HYPOTHESES), cures, strict=True):
        with pytest.raises(DataError, match=words) as caught:
            read_texts(path, columns)
        assert caught.value.cure == cure


def test_columns_are_those_of_the_import() -> None:
    assert set(NAMES["text"]) < set(REFERENCES)
    assert set(NAMES["text"]) < set(HYPOTHESES)
    assert set(NAMES["id"]) < set(IDS)
    assert IDS[0] == "id"
    assert IDS[-1] == "name"
    assert NAMES["audio"] == FILES
