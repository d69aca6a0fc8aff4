"""A run's adapter is tested on rows that the run didn't train on, whatever became of the data."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from mmtune.config import DataOptions, RunConfig
from mmtune.data.check import _fingerprint, check
from mmtune.data.dataset import Dataset
from mmtune.data.split import assign
from mmtune.errors import ConfigError, DataError
from mmtune.evaluation.comparison import Comparison, read_comparison
from mmtune.runs import pipeline
from mmtune.runs.folder import record_data
from mmtune.runs.recipes import load_recipe
from mmtune.runs.trained_rows import DATA, ROWS, read_recorded_rows, without_trained
from mmtune.runs.verify import verify
from mmtune.speech import SpeechModality
from mmtune.system.contents import SPLITS_FILE
from mmtune.system.files import write_text
from mmtune.system.formats import with_format
from tests.data.pieces import SPEECH, write_audio
from tests.data.test_split_ledger import change, speech_set

NAMED = {f"r{i}": {"split": "test" if i < 3 else "validation"} for i in range(6)}


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Twelve rows of four speakers: a test speaker, a validation speaker, and two to train on."""
    folder = speech_set(tmp_path / "data", 12, split="train")
    change(folder, **NAMED)
    return folder


def look(folder: Path, **options: Any) -> Dataset:
    return check(folder, SPEECH, DataOptions(**options), strict=False)


def begin(folder: Path, data: Path) -> Path:
    folder.mkdir()
    record_data(folder, look(data))
    return folder


def scored(run: Path, data: Path) -> tuple[list[str], list[str]]:
    left, notes = without_trained(run, look(data))
    return [row.id for row in left.split("test")], notes


def test_a_run_records_the_split_of_each_row(tmp_path: Path, data: Path) -> None:
    run = begin(tmp_path / "run", data)
    entries = read_recorded_rows(run)
    assert entries is not None
    assert {each.id: each.split for each in entries} == {r.id: r.split for r in look(data).rows}
    assert (run / ROWS).stat().st_mode & 0o077 == 0
    assert "words" not in (run / ROWS).read_text()
    assert scored(run, data) == (["r0", "r1", "r2"], [])


# What happens to a trained row before it comes into the test; the run's data folder has no ledger.
CHANGED: dict[str, dict[str, Any]] = {
    "nothing": {},
    "its text": {"text": "other words"},
    "its speaker": {"speaker": "somebody else"},
    "its file": {"audio": "clips/new.wav", "speaker": "somebody else"},
    "its id": {"id": "another", "speaker": None},
    "all but its speaker": {"id": "another", "audio": "clips/new.wav", "text": "other words"},
    "all but its words": {"id": "another", "audio": "clips/new.wav", "speaker": None},
}  # fmt: skip


@pytest.mark.parametrize("what", CHANGED)
def test_a_trained_row_is_left_out_with_a_note(tmp_path: Path, data: Path, what: str) -> None:
    run = begin(tmp_path / "run", data)
    write_audio(data / "clips/new.wav", seed=99)
    # The rest of its speaker goes, for else the check leaves the row out.
    change(data, r6={"split": "test", **CHANGED[what]}, r7=None, r8=None)
    rows, [note] = scored(run, data)
    assert rows == ["r0", "r1", "r2"]
    assert "1 of 4 test rows are left out" in note
    assert note.endswith(CHANGED[what].get("id", "r6"))


def test_rows_that_chose_the_weights_are_left_out(tmp_path: Path, data: Path) -> None:
    run = begin(tmp_path / "run", data)
    change(data, **{f"r{i}": {"split": "test"} for i in (3, 4, 5)})
    rows, [note] = scored(run, data)
    assert rows == ["r0", "r1", "r2"]
    assert "3 of 6" in note


def test_new_test_rows_are_measured_and_the_change_is_said(tmp_path: Path, data: Path) -> None:
    run = begin(tmp_path / "run", data)
    speech_set(data, 3, start=12, split="test")
    rows, [note] = scored(run, data)
    assert rows == ["r0", "r1", "r2", "r12", "r13", "r14"]
    assert "the data has changed since the run was trained (fingerprint " in note
    assert note.endswith("no test row is one of its training rows")


def test_a_test_of_trained_rows_alone_is_refused(tmp_path: Path, data: Path) -> None:
    run = begin(tmp_path / "run", data)
    change(data, r0=None, r1=None, r2=None, r6={"split": "test", "speaker": "x"})
    with pytest.raises(DataError, match=r"trained on each of the 1 test rows, .* \(r6\)"):
        scored(run, data)


def test_what_splits_may_share_is_measured(tmp_path: Path, data: Path) -> None:
    change(data, **{f"r{i}": {"speaker": "me"} for i in range(12)})
    run = tmp_path / "run"
    run.mkdir()
    dataset = look(data, shared=("speaker",))
    record_data(run, dataset, ("speaker",))
    left, notes = without_trained(run, dataset, ("speaker",))
    assert (left.rows, notes) == (dataset.rows, [])


def test_a_run_of_an_earlier_version(tmp_path: Path, data: Path) -> None:
    run = begin(tmp_path / "run", data)
    (run / ROWS).unlink()
    assert scored(run, data) == (["r0", "r1", "r2"], [])
    change(data, r6={"split": "test", "speaker": "x"})
    rows, [note] = scored(run, data)
    assert rows == ["r0", "r1", "r2", "r6"]
    assert "trained rows may be in the test" in note
    (run / DATA).unlink()
    assert scored(run, data) == (rows, [])


def test_figures_of_an_earlier_version_stay_where_rows_leak(tmp_path: Path, data: Path) -> None:
    clean = look(data).fingerprint
    change(data, r0={"speaker": "s3"})
    rows = [
        row.model_copy(update={"split": NAMED.get(row.id, {"split": "train"})["split"]})
        for row in check(data, SPEECH, divide=False).rows
    ]
    kept = assign(rows, 0.1, 0.1, keep_leaks=True)
    fingerprint = _fingerprint(kept.rows)
    assert [row.id for row in look(data).split("test")] == ["r1", "r2"]
    dataset = check(data, SPEECH, earlier=[fingerprint])
    assert dataset.fingerprint == fingerprint != clean
    assert [row.id for row in dataset.split("test")] == ["r0", "r1", "r2"]
    (run := tmp_path / "run").mkdir()
    (run / DATA).write_text(json.dumps({"fingerprint": fingerprint}))
    left, [note] = without_trained(run, dataset)
    assert left.rows == dataset.rows
    assert "1 of 3 test rows share a speaker" in note
    assert "r0" in note
    assert len(check(data, SPEECH, earlier=[clean]).split("test")) == 2


@pytest.mark.parametrize("text", ["", "{\n", '{"format": 1}\n', "[]\n"])
def test_a_damaged_record_is_an_error(tmp_path: Path, data: Path, text: str) -> None:
    run = begin(tmp_path / "run", data)
    (run / ROWS).write_text(text)
    with pytest.raises(ConfigError, match=ROWS):
        scored(run, data)
    (run / "log.jsonl").touch()
    assert ROWS in {file.path for file in verify(run).damaged}


def test_a_damaged_line_is_an_error(tmp_path: Path, data: Path) -> None:
    run = begin(tmp_path / "run", data)
    text = (run / ROWS).read_text().replace('"split": "test"', '"split": "tested"', 1)
    (run / ROWS).write_text(text)
    with pytest.raises(ConfigError, match="a line has no split or no keys"):
        scored(run, data)


class Measured(SpeechModality):
    """Instead of comparing, it keeps the ids of the test rows."""

    def __init__(self) -> None:
        self.rows: list[str] = []

    def compare(
        self, config: RunConfig, dataset: Dataset, folder: Path, task: Any = None
    ) -> Comparison:
        self.rows = [row.id for row in dataset.split("test")]
        return Comparison("speech", [], "measured")


@pytest.fixture
def measured(monkeypatch: pytest.MonkeyPatch) -> Iterator[Measured]:
    modality = Measured()

    def keep(config: RunConfig, found: Comparison) -> None:
        write_text(
            config.folder / "comparison.json", with_format(json.dumps(found.to_json(), indent=2))
        )

    monkeypatch.setattr(pipeline, "find_modality", lambda name: modality)
    monkeypatch.setattr(pipeline, "keep_comparison", keep)  # there is no adapter with a card
    monkeypatch.setattr(pipeline, "check_adapter", lambda folder: None)
    monkeypatch.setattr(pipeline, "require_consent", lambda config: None)
    monkeypatch.setattr(pipeline, "write_report", lambda *args, **kwargs: None)
    return modality


def test_evaluate_scores_what_the_adapter_never_saw(
    tmp_path: Path, data: Path, measured: Measured
) -> None:
    given = {"base": "b", "out": str(tmp_path), "name": "run", "data": str(data)}
    config = load_recipe("dialect", {**given, "suite": None})
    begin(tmp_path / "run", data)
    (tmp_path / "run" / "adapter").mkdir()
    (tmp_path / "run" / "config.yaml").write_text(config.dump())
    pipeline.evaluate(config)
    assert measured.rows == ["r0", "r1", "r2"]
    assert read_comparison(config.folder).notes == []
    change(data, r6={"split": "test", "speaker": "x"})
    comparison = pipeline.evaluate(config)
    assert measured.rows == ["r0", "r1", "r2"]
    assert "1 of 4 test rows are left out" in comparison.notes[0]
    assert any(str(line).startswith("note: 1 of 4 test rows") for line in comparison.shown())
    assert not (data / SPLITS_FILE).exists()  # evaluating only reads
    # A comparison isn't lost when nothing is left to measure.
    change(data, r0=None, r1=None, r2=None)
    with pytest.raises(DataError, match="trained on each of the 1 test rows"):
        pipeline.evaluate(config)
    assert read_comparison(config.folder) == comparison
