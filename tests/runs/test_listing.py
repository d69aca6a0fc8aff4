"""`mmtune runs`: what differs between runs, what they reached, and which are damaged."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

import mmtune
from mmtune.cli import main
from mmtune.errors import ConfigError
from mmtune.system.run_folder import is_run
from tests.conformance.test_stored_runs import STORED

WEIGHTS = "adapter/adapter_model.safetensors"


def change(run: Path, **settings: object) -> None:
    path = run / "config.yaml"
    values = yaml.safe_load(path.read_text())
    for name, value in settings.items():
        section, _, key = name.rpartition("__")
        (values[section] if section else values)[key] = value
    path.write_text(yaml.safe_dump(values))


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two runs that differ, and others that are damaged or not finished, in a folder of its own."""
    monkeypatch.chdir(tmp_path)
    finished = STORED / "speech" / "trained" / "finished"
    for name in ("a", "b"):
        shutil.copytree(finished, tmp_path / "runs" / name)
    change(tmp_path / "runs" / "b", train__lr=0.5, lora__rank=8, name="elsewhere", out="/else")
    (tmp_path / "runs" / "notes").mkdir()
    (tmp_path / "runs" / ".cache").mkdir()
    return tmp_path / "runs"


def test_settings_that_differ_figures_and_verdicts(folder: Path) -> None:
    a, b = mmtune.list_runs("runs").runs
    assert (a.folder, b.folder) == (Path("runs/a"), Path("runs/b"))
    assert a.settings == {"lora.rank": 4, "train.lr": 0.02}
    assert b.settings == {"lora.rank": 8, "train.lr": 0.5}
    assert (a.state, b.state) == ("measured", "measured")
    verdict = json.loads((folder / "a" / "verdict.json").read_text())
    assert a.decision == verdict["decision"]
    assert a.figure is not None
    assert (a.figure.metric, a.figure.slice) == (
        verdict["main"]["metric"],
        verdict["main"]["slice"],
    )


def test_the_table_has_a_line_for_each_run(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["runs"]) == 0
    head, first, second = capsys.readouterr().out.splitlines()
    assert head.split() == "run settings that differ main figure verdict".split()  # noqa: SIM905
    assert first.startswith("a ")
    assert "rank=4, lr=0.02" in first
    assert "term recall on seen terms: " in first
    assert " → " in first
    assert "rank=8, lr=0.5" in second
    assert main(["runs", "runs/a", "--json"]) == 0
    [run] = json.loads(capsys.readouterr().out)["runs"]
    assert (run["folder"], run["settings"]) == ("runs/a", {})


def test_runs_of_other_recipes_and_modalities_differ_by_what_both_have(folder: Path) -> None:
    shutil.copytree(STORED / "image" / "trained" / "finished", folder / "c")
    a, b, c = mmtune.list_runs(folder).runs
    assert (a.settings["modality"], c.settings["modality"]) == ("speech", "image")
    assert "task.trigger" not in a.settings
    assert "task.trigger" not in c.settings
    assert c.figure is not None
    assert b.settings["train.lr"] == 0.5


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


DAMAGES: dict[str, tuple[Callable[[Path], None], str]] = {
    "settings": (lambda run: (run / "config.yaml").write_bytes(b"\xff\x00") and None, "not YAML"),
    "no settings": (lambda run: (run / "config.yaml").unlink(), "config.yaml is missing"),
    "no yaml": (lambda run: (run / "config.yaml").write_text("a: [") and None, "is not YAML"),
    "a setting": (lambda run: change(run, train__lr="fast"), "train.lr"),
    "modality": (lambda run: change(run, modality="smell"), "smell"),
    "comparison": (lambda run: cut(run / "comparison.json"), "comparison.json can't be read"),
    "verdict": (lambda run: cut(run / "verdict.json"), "verdict.json can't be read"),
    "card": (lambda run: cut(run / "adapter" / "card.json"), "card.json can't be read"),
    "no card": (lambda run: (run / "adapter" / "card.json").unlink(), "holds no card.json"),
    "weights": (lambda run: cut(run / WEIGHTS), "adapter_model.safetensors is damaged"),
    "a huge header": (
        lambda run: (run / WEIGHTS).write_bytes(b"\xff" * 7 + b"\x00" * 99) and None,
        "it claims a header of",
    ),
    "no weights": (lambda run: (run / WEIGHTS).unlink(), "holds no .safetensors file"),
}


@pytest.mark.parametrize("case", DAMAGES)
def test_a_damaged_run_is_a_line_with_the_reason(folder: Path, case: str) -> None:
    damage, words = DAMAGES[case]
    damage(folder / "b")
    a, b = mmtune.list_runs(folder).runs
    assert a.state == "measured"
    assert b.state == "damaged"
    assert words in b.problem
    assert words in str(mmtune.list_runs(folder))


def test_runs_that_are_not_finished_or_not_measured_say_so(folder: Path) -> None:
    shutil.rmtree(folder / "a" / "adapter")
    (folder / "b" / "comparison.json").unlink()
    a, b = mmtune.list_runs(folder).runs
    assert (a.outcome, b.outcome) == ("not finished", "not measured")
    (folder / "b" / "verdict.json").unlink()
    shutil.copy(STORED / "speech" / "trained" / "finished" / "comparison.json", folder / "b")
    assert mmtune.list_runs(folder).runs[1].outcome == "no suite"


def test_a_folder_without_runs_is_an_error_with_a_cure(folder: Path) -> None:
    for wrong in ("nowhere", "runs/notes"):
        with pytest.raises(ConfigError, match=r"no such folder|holds no run folder") as caught:
            mmtune.list_runs(wrong)
        assert "mmtune runs DIR" in caught.value.cure


def test_an_adapter_s_folder_alone_is_no_run(folder: Path) -> None:
    for name in ("config.yaml", "log.jsonl", "comparison.json"):
        (folder / "b" / name).unlink()
    assert [run.folder.name for run in mmtune.list_runs(folder).runs] == ["a"]
    assert not is_run(folder / "b")
    assert is_run(folder / "a")


def test_a_start_that_was_refused_is_not_listed(folder: Path) -> None:
    before = [run.folder.name for run in mmtune.list_runs(folder).runs]
    refused = folder / "refused"
    refused.mkdir()
    shutil.copy(folder / "a" / "config.yaml", refused)
    assert [run.folder.name for run in mmtune.list_runs(folder).runs] == before
    (refused / "log.jsonl").touch()  # now training has begun
    found = {run.folder.name: run.outcome for run in mmtune.list_runs(folder).runs}
    assert found["refused"] == "not finished"
