"""Which rows of a named manifest a comparison of several adapters scores."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from pathlib import Path

import pytest

from mmtune.adapters.combinations import TestSet, Ways, constant
from mmtune.adapters.members import read_members
from mmtune.predict import Prediction, Request
from mmtune.runs.try_ways import test_sets_of as sets_of
from mmtune.runs.try_ways import try_out
from mmtune.speech.evaluation import try_combinations
from tests.conformance.test_stored_runs import STORED


class Echo:
    """A predictor that hears each row's reference."""

    language = "en"

    def __init__(self, *_: object) -> None:
        pass

    def predict(self, requests: Sequence[Request]) -> list[Prediction]:
        return [Prediction(each.row.id, each.row.reference) for each in requests]


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "speech"
    shutil.copytree(STORED / "speech", folder)
    monkeypatch.chdir(folder)
    monkeypatch.setattr(try_combinations, "SpeechPredictor", Echo)
    return folder


def ways() -> Ways:
    parts = read_members({Path("trained/finished"): 1.0})
    choices = {"base": constant({}), "1": constant({"1": 1.0})}
    return Ways("speech", "base", {"1": parts[0].folder}, choices, parts)


def rewritten(split: str | None) -> Path:
    """The stored data under another name, with one row more; `split` is that of six of its rows."""
    lines = Path("data/manifest.jsonl").read_text().splitlines()
    rows = [json.loads(line) for line in lines]
    rows.append(rows[0] | {"id": "one more", "text": "alpha alpha bravo", "start": 0.1})
    for place, row in enumerate(rows):
        row.pop("split", None)
        if split is not None:
            row["split"] = split if place < 6 else "train"
    path = Path("data/other.jsonl")
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def scored(found: Sequence[TestSet]) -> list[str]:
    table = try_out(ways(), found)
    return [title for title in table[0] if title.startswith("WER")]


def test_all_rows_of_a_manifest_without_splits_are_scored(place: Path) -> None:
    [found] = sets_of(ways(), rewritten(None))
    assert (found.whole, found.note) == (True, "")
    assert scored([found]) == ["WER, other (13 rows)"]


def test_a_manifest_with_splits_gives_its_test_rows_and_says_so(place: Path) -> None:
    [found] = sets_of(ways(), rewritten("test"))
    assert found.note.startswith("6 of 13 rows of data/other.jsonl are compared: those whose")
    assert scored([found]) == ["WER, other (6 rows)"]


def test_data_that_a_part_was_trained_on_gives_its_test_rows_and_says_so(place: Path) -> None:
    [found] = sets_of(ways(), Path("data"))
    total = len(found.dataset.rows)
    test = len(found.dataset.split("test"))
    assert 0 < test < total
    assert found.note == (
        f"{test} of {total} rows of data are compared, the test rows: "
        "finished was trained on this data"
    )
    assert scored([found]) == [f"WER, data ({test} rows)"]
