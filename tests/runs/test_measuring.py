"""Settings of the comparison that change after training."""

from __future__ import annotations

from pathlib import Path

import pytest

from mmtune.cli import parse
from mmtune.config import RunConfig
from mmtune.errors import ConfigError
from mmtune.runs.measuring import (
    MEASURING_FILE,
    measuring_settings,
    set_measuring,
    with_measuring,
)
from mmtune.runs.recipes import load_recipe, load_run


@pytest.fixture
def run(tmp_path: Path) -> RunConfig:
    config = load_recipe("terminology", {"name": "run", "out": str(tmp_path)})
    config.folder.mkdir()
    (config.folder / "config.yaml").write_text(config.dump())
    return config


def test_a_changed_setting_counts_from_now_on(
    run: RunConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    first = set_measuring(run, {"retention": "other", "retention_rows": "120"})
    assert (first.task.retention, first.task.retention_rows) == (tmp_path / "other", 120)
    again = set_measuring(load_run(run.folder), {"task.probes": 10})
    assert (again.task.retention, again.task.probes) == (tmp_path / "other", 10)
    assert with_measuring(load_run(run.folder)) == set_measuring(load_run(run.folder), {})
    assert load_run(run.folder).task == run.task, "what was trained isn't touched"
    assert again.train == run.train


def test_a_setting_goes_back_to_none(run: RunConfig) -> None:
    set_measuring(run, {"retention": "other"})
    assert set_measuring(run, {"retention": "null"}).task.retention is None


def test_a_file_that_is_moved_with_the_run_is_found(run: RunConfig, tmp_path: Path) -> None:
    (tmp_path / "general").mkdir()
    set_measuring(run, {"retention": str(tmp_path / "general"), "probes": 3})
    (tmp_path / "new").mkdir()
    for name in ("run", "general"):
        (tmp_path / name).rename(tmp_path / "new" / name)
    moved = with_measuring(load_run(tmp_path / "new" / "run"))
    assert moved.task.retention == tmp_path / "new" / "general"
    assert set_measuring(moved, {"probes": 4}).task.retention == tmp_path / "new" / "general"
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
    with pytest.raises(ConfigError, match=said):
        set_measuring(run, settings)
    assert not (run.folder / MEASURING_FILE).exists()


def test_settings_on_the_command_line() -> None:
    words = ["evaluate", "--retention", "other", "runs/x", "--gate", "--retention_rows=9"]
    _, options = parse(words)
    assert options.run == Path("runs/x")
    assert options.gate
    assert options.settings == {"retention": "other", "retention_rows": "9"}
    with pytest.raises(ConfigError, match="--retention has no value"):
        parse(["evaluate", "runs/x", "--retention"])


def test_no_setting_of_training_is_among_them(run: RunConfig) -> None:
    names = measuring_settings(run)
    assert {"task.retention", "task.retention_rows", "task.probes"} <= set(names)
    assert not {"task.keep_base", "task.windows", "task.terms", "task.choose_rows"} & set(names)
