"""What tables state of consent and licence comes with the rows of an import."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from mmtune.data.manifest import read_rows
from mmtune.runs.public_functions import import_data
from mmtune.speech.corpus.importers.huggingface import licensed
from mmtune.speech.corpus.importers.piece import Piece
from mmtune.speech.corpus.speech_reader import READER
from tests.data.pieces import write_audio

RIGHTS = {"subject", "consent", "licence", "source"}


def imported(folder: Path, name: str, text: str) -> tuple[list[dict[str, Any]], list[Any]]:
    """The statements of the rows of an import, and what was left out."""
    for i in range(3):
        write_audio(folder / "source" / f"{i}.wav", seed=i)
    (folder / "source" / name).write_text(text)
    done = import_data(folder / "source" / name, folder / "to", "speech", layout="table")
    rows, findings = read_rows(folder / "to", READER) if done.rows else ([], [])
    assert findings == []
    dumped = [row.model_dump(mode="json", include=RIGHTS, exclude_none=True) for row in rows]
    return dumped, list(done.left_out)


def test_columns_of_a_table(tmp_path: Path) -> None:
    rows, left_out = imported(
        tmp_path,
        "calls.csv",
        "path,text,speaker,subject,consent,consent_until,license,source\n"
        '0.wav,one,a,p1,"train, show",2027-12-31,cc-by-4.0,calls\n'
        "1.wav,two,b,,no,,,\n"
        "2.wav,three,c,n/a,unknown,,N/A,-\n",
    )
    assert rows == [
        {
            "subject": "p1",
            "consent": {"purpose": ["show", "train"], "until": "2027-12-31"},
            "licence": "CC-BY-4.0",
            "source": "calls",
        },
        {"consent": {"purpose": ["nothing"]}},
        {},
    ]
    assert [each.kind for each in left_out if each.kind == "unused-columns"] == []


def test_values_of_json(tmp_path: Path) -> None:
    lines: list[dict[str, Any]] = [
        {"consent": {"purpose": ["train"], "until": "2027-12-31"}},
        {"consent": ["train", "show"]},
        {"consent": False},
    ]
    text = "".join(
        json.dumps({"audio": f"{i}.wav", "text": f"word {i}", **line}) + "\n"
        for i, line in enumerate(lines)
    )
    rows, _ = imported(tmp_path, "calls.jsonl", text)
    assert [row["consent"]["purpose"] for row in rows] == [
        ["train"],
        ["show", "train"],
        ["nothing"],
    ]


@pytest.mark.parametrize("cell", ["train until soon", "until 31.12.2027"])
def test_a_row_with_a_wrong_day_is_left_out(cell: str, tmp_path: Path) -> None:
    """It doesn't become a row without a consent."""
    table = f"path,text,consent\n0.wav,one,{cell}\n1.wav,two,train\n"
    rows, left_out = imported(tmp_path, "calls.csv", table)
    assert len(rows) == 1
    [wrong] = [each for each in left_out if each.kind == "left-out"]
    assert "calls.csv line 2" in wrong.where
    assert "consent.until" in wrong.found
    assert "2027-12-31" in wrong.found


def test_the_licence_of_a_saved_data_set() -> None:
    own = Piece(Path("a.wav"), "a.wav", "one", "row 1", row={"licence": "MIT"})
    other = Piece(Path("b.wav"), "b.wav", "two", "row 2")
    found = [item for item in licensed(iter([own, other]), "cc-by-4.0") if isinstance(item, Piece)]
    assert [piece.row["licence"] for piece in found] == ["MIT", "cc-by-4.0"]
    assert list(licensed(iter([other]), "")) == [other]
