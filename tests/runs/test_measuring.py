"""Settings of the comparison that change after training."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

import mmtune
from mmtune.cli import parse
from mmtune.config import RunConfig, Section
from mmtune.errors import ConfigError, DataError
from mmtune.evaluation.comparison import Comparison
from mmtune.runs.folder import FILES, _write_files, claim, files_of
from mmtune.runs.measuring import (
    MEASURING_FILE,
    keep_measuring,
    measuring_settings,
    set_measuring,
    with_measuring,
)
from mmtune.runs.recipes import load_recipe, load_run
from mmtune.speech import SpeechModality
from tests.conformance.test_stored_runs import STORED


@pytest.fixture
def run(tmp_path: Path) -> RunConfig:
    config = load_recipe("terminology", {"name": "run", "out": str(tmp_path)})
    config.folder.mkdir()
    (config.folder / "config.yaml").write_text(config.dump())
    return config


def kept(config: RunConfig, settings: Mapping[str, Any]) -> RunConfig:
    """The settings of a run after an evaluation with changed ones."""
    changed = set_measuring(config, settings)
    keep_measuring(config, settings)
    assert with_measuring(config) == changed
    return changed


def test_a_changed_setting_counts_from_now_on(
    run: RunConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    first = kept(run, {"retention": "other", "retention_rows": "120"})
    assert (first.task.retention, first.task.retention_rows) == (tmp_path / "other", 120)
    again = kept(load_run(run.folder), {"task.probes": 10})
    assert (again.task.retention, again.task.probes) == (tmp_path / "other", 10)
    assert with_measuring(load_run(run.folder)) == set_measuring(load_run(run.folder), {})
    assert load_run(run.folder).task == run.task, "what was trained isn't touched"
    assert again.train == run.train


def test_a_filter_of_pictures_is_named_after_training(tmp_path: Path) -> None:
    config = load_recipe("brand_style", {"name": "run", "out": str(tmp_path)})
    config.folder.mkdir()
    (config.folder / "config.yaml").write_text(config.dump())
    named = kept(config, {"image_filter": "ours:violence"})
    assert vars(named.task)["image_filter"] == "ours:violence"
    assert vars(kept(config, {"image_filter": "null"}).task)["image_filter"] is None


def test_a_setting_goes_back_to_none(run: RunConfig) -> None:
    keep_measuring(run, {"retention": "other"})
    assert set_measuring(run, {"retention": "null"}).task.retention is None


def test_a_file_that_is_moved_with_the_run_is_found(run: RunConfig, tmp_path: Path) -> None:
    (tmp_path / "general").mkdir()
    keep_measuring(run, {"retention": str(tmp_path / "general"), "probes": 3})
    (tmp_path / "new").mkdir()
    for name in ("run", "general"):
        (tmp_path / name).rename(tmp_path / "new" / name)
    moved = with_measuring(load_run(tmp_path / "new" / "run"))
    assert moved.task.retention == tmp_path / "new" / "general"
    assert kept(moved, {"probes": 4}).task.retention == tmp_path / "new" / "general"
    assert with_measuring(load_run(tmp_path / "new" / "run")).task.probes == 4


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"lr": "1e-3"}, r"--lr 1e-3 can't be changed after training(?s:.*)retention_rows"),
        ({"task.keep_base": 0.5}, "can't be changed after training"),
        ({"retentoin": "x"}, r"did you mean task.retention"),
        ({"retention_rows": "0"}, "retention_rows"),
        ({"retention_rows": "many"}, "retention_rows"),
    ],
)
def test_what_training_depends_on_stays(
    run: RunConfig, settings: dict[str, object], said: str
) -> None:
    for change in (set_measuring, keep_measuring):
        with pytest.raises(ConfigError, match=said):
            change(run, settings)
    assert not (run.folder / MEASURING_FILE).exists()


def test_settings_on_the_command_line() -> None:
    words = ["evaluate", "--retention", "other", "runs/x", "--gate", "--retention_rows=9"]
    _, options = parse(words)
    assert options.run == Path("runs/x")
    assert options.gate
    assert options.settings == {"retention": "other", "retention_rows": "9"}
    with pytest.raises(ConfigError, match="--retention has no value"):
        parse(["evaluate", "runs/x", "--retention"])


@pytest.mark.parametrize(
    ("typed", "cure"),
    [
        ("--gaet", "write --gaet VALUE; did you mean --gate?"),
        ("--redcated", "write --redcated VALUE; did you mean --redacted?"),
        ("--probes", "write --probes VALUE"),
    ],
)
def test_a_mistyped_option_is_named(typed: str, cure: str) -> None:
    with pytest.raises(ConfigError, match=f"{typed} has no value") as caught:
        parse(["evaluate", "runs/x", typed])
    assert caught.value.cure == cure


def test_no_setting_of_training_is_among_them(run: RunConfig) -> None:
    names = measuring_settings(run)
    assert {"task.retention", "task.retention_rows", "task.probes"} <= set(names)
    assert not {"task.keep_base", "task.windows", "task.terms", "task.choose_rows"} & set(names)


def test_data_without_such_settings_says_so(run: RunConfig) -> None:
    other = run.model_copy(update={"task": Section()})
    with pytest.raises(ConfigError, match="--lr 1 can't be changed after training") as caught:
        set_measuring(other, {"lr": "1"})
    assert caught.value.cure.startswith("this kind of data has no settings")


def test_changing_a_setting_writes_nothing(run: RunConfig) -> None:
    set_measuring(run, {"probes": 3})
    assert not (run.folder / MEASURING_FILE).exists()


@pytest.fixture
def finished(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A measured run that has a record of the files that its settings name."""
    place = tmp_path / "speech"
    shutil.copytree(STORED / "speech", place)
    monkeypatch.chdir(place)
    monkeypatch.setenv("MMTUNE_CACHE", str(tmp_path / "cache"))
    folder = Path("trained/finished")
    _write_files(folder, files_of(load_run(folder)))
    assert "task.terms" in (folder / FILES).read_text()
    return folder


def test_a_file_that_training_did_not_name_is_measured(finished: Path) -> None:
    shutil.copytree("data", "other")
    settings = {"retention": "other", "retention_rows": "3", "probes": 0}
    for given in (settings, None):  # the settings stay
        found = mmtune.evaluate(finished, settings=given)
        general = [m for m in found.comparison.measures if m.slice == "general speech"]
        assert {m.items for m in general if m.metric == "WER"} == {3}
    Path("terms.txt").write_text("another list")
    with pytest.raises(ConfigError, match=r"task\.terms: terms.txt has changed"):
        mmtune.evaluate(finished)


def test_an_evaluation_that_fails_keeps_no_settings(
    finished: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> Comparison:
        raise DataError("a recording is damaged")

    monkeypatch.setattr(SpeechModality, "compare", fail)
    with pytest.raises(DataError, match="damaged"):
        mmtune.evaluate(finished, settings={"probes": 3})
    assert not (finished / MEASURING_FILE).exists()


def test_calls_of_one_evaluation_come_before_those_that_are_kept(
    finished: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    heard = []

    def compare(_: object, config: RunConfig, *__: object) -> Comparison:
        heard.append((config.task.calls, config.task.call_speakers))  # type: ignore[attr-defined]
        return Comparison("speech", [], "nothing")

    monkeypatch.setattr(SpeechModality, "compare", compare)
    monkeypatch.setattr(SpeechModality, "is_calls", lambda *_: True)
    first, second = Path("first").resolve(), Path("second")
    mmtune.evaluate(finished, settings={"calls": "first", "call_speakers": "a=0"})
    mmtune.evaluate(finished, data=second, speakers="b=1")
    mmtune.evaluate(finished)
    assert heard == [(first, "a=0"), (second, "b=1"), (first, "a=0")]


def test_a_setting_that_train_gives_later_replaces_the_one_that_is_kept(tmp_path: Path) -> None:
    def settings(**more: object) -> RunConfig:
        return load_recipe("dialect", {"base": "b", "out": str(tmp_path), "name": "run"} | more)

    claim(settings(probes=5))
    (tmp_path / "run" / "log.jsonl").touch()
    keep_measuring(settings(), {"probes": 7, "beams": 2})
    claim(settings(probes=5))
    again = with_measuring(settings(probes=5)).task
    assert (again.probes, again.beams) == (7, 2)  # type: ignore[attr-defined]
    claim(settings(probes=9))
    again = with_measuring(settings(probes=9)).task
    assert (again.probes, again.beams) == (9, 2)  # type: ignore[attr-defined]


def test_a_resume_hashes_each_named_file_once(
    finished: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hashed = []

    def hash_contents(path: Path, *_: object) -> str:
        hashed.append(path)
        return "hash"

    config = load_run(finished)
    monkeypatch.setattr("mmtune.runs.folder.hash_contents", hash_contents)
    _write_files(finished, files_of(config))
    hashed.clear()
    claim(config)
    assert len(hashed) == len(set(hashed)) == 1
