"""What a run records of itself, and training it again."""

from __future__ import annotations

import json
import math
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from mmtune.adapters.card import read_card
from mmtune.cli import main
from mmtune.data.versions import require_log
from mmtune.errors import ERROR, FINDINGS
from mmtune.image.diffusion.denoiser_lora import WEIGHTS
from mmtune.runs.pipeline import train
from mmtune.runs.reproduce import WeightDistance, compare_weights, reproduce
from mmtune.runs.run_record import (
    RECORD,
    STOPPED,
    _with_earlier,
    code_hash,
    libraries,
    made_otherwise,
    read_record,
)
from mmtune.runs.verify import verify
from mmtune.system.run_folder import LOG_FILE
from mmtune.training.log import RunLog
from mmtune.training.preflight import count_flops
from tests.conformance.test_stored_runs import STORED
from tests.image import tiny


def test_flops_are_those_of_the_products() -> None:
    """A layer of 3 to 5 on 7 rows: 2·3·5·7 forward, the same for each gradient (PyTorch 2.11)."""
    layer, rows = torch.nn.Linear(3, 5), torch.ones(7, 3, requires_grad=True)
    assert count_flops(lambda: layer(rows)) == 2 * 3 * 5 * 7
    assert count_flops(lambda: layer(rows).sum().backward()) == 3 * 2 * 3 * 5 * 7


def test_weights_are_compared_by_their_numbers(tmp_path: Path) -> None:
    folders = [tmp_path / name for name in ("a", "b")]
    for folder in folders:
        folder.mkdir()
    first = {"x": torch.tensor([3.0, 4.0]), "y": torch.ones(2)}
    save_file(first, folders[0] / "w.safetensors")
    save_file(first, folders[1] / "w.safetensors", {"written": "otherwise"})
    assert compare_weights(*folders) == WeightDistance(2, 0, 0.0, 0.0)
    save_file(first | {"x": torch.tensor([3.0, 4.5])}, folders[1] / "w.safetensors")
    found = compare_weights(*folders)
    assert (found.differing, found.largest) == (1, 0.5)
    assert found.relative == pytest.approx(0.5 / math.sqrt(27))
    save_file({"x": first["x"]}, folders[1] / "w.safetensors")
    assert compare_weights(*folders) == WeightDistance(2, 1, math.inf, math.inf)


def test_the_seconds_of_interrupted_calls_are_added(tmp_path: Path) -> None:
    log = RunLog(tmp_path / LOG_FILE, active=True)
    log.write(event="estimate", phases={"training": 99.0})
    log.write(event=STOPPED, phases={"data": 1.0, "training": 2.5})
    log.write(event=STOPPED, phases={"training": 0.25})
    assert _with_earlier(tmp_path, {"training": 1.0, "report": 0.5}) == {
        **{"training": 3.75, "report": 0.5, "data": 1.0}
    }


def test_what_was_made_otherwise_is_told() -> None:
    then = {"libraries": {"torch": "2.10.0", "numpy": "2.0"}, "code": {"sha256": "a" * 64}}
    now = {"libraries": {"torch": "2.11.0", "numpy": "2.0"}, "code": {"sha256": "b" * 64}}
    assert made_otherwise(then, now) == [
        f"code.sha256: {'a' * 12} then, {'b' * 12} now",
        "libraries.torch: 2.10.0 then, 2.11.0 now",
    ]
    assert made_otherwise(now, now) == []


def test_libraries_and_code_are_named() -> None:
    assert libraries().keys() >= {"python", "torch", "peft", "safetensors", "numpy"}
    assert len(code_hash()) == 64


@pytest.fixture
def stored(tmp_path: Path) -> Path:
    shutil.copytree(STORED / "image", tmp_path / "image")
    return tmp_path / "image" / "trained" / "finished"


def test_a_run_of_an_earlier_version_has_no_record(stored: Path) -> None:
    assert read_record(stored) == {}
    assert read_card(stored / "adapter").dataset_version == ""
    assert RECORD not in {file.path for file in verify(stored).files}


@pytest.mark.parametrize("kind", ["right", "other data", "damaged"])
def test_verify_reads_the_record(stored: Path, kind: str) -> None:
    card = read_card(stored / "adapter")
    dataset = {"right": card.dataset, "other data": "0" * 64}.get(kind)
    values = {"dataset": {"fingerprint": dataset}, "base": {"sha256": card.base_hash}}
    (stored / RECORD).write_text("{" if kind == "damaged" else json.dumps(values))
    (found,) = (file for file in verify(stored).files if file.path == RECORD)
    assert found.state == ("ok" if kind == "right" else "damaged")


def test_a_run_that_isnt_finished_isnt_trained_again(
    stored: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.rmtree(stored / "adapter")
    assert main(["reproduce", str(stored)]) == ERROR
    assert "the run isn't finished" in capsys.readouterr().err


@pytest.mark.slow
def test_a_run_is_trained_again_with_the_same_bits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("MMTUNE_CACHE", str(tmp_path / "cache"))
    data = tiny.brand(tmp_path / "brand")
    config = tiny.config(tiny.saved("sd"), data, tmp_path / "runs", prior="2", trigger="acme")
    run = train(config).folder
    log = require_log(data)
    record = read_record(run)
    assert log.last is not None
    assert record["dataset"]["version"] == log.last.fingerprint
    assert read_card(run / "adapter").dataset_version == log.last.fingerprint
    assert record["seeds"]["train.seed"] == config.train.seed
    assert record["flops"]["total"] == record["flops"]["step"] * record["flops"]["steps"] > 0
    assert {"training", "comparison", "report"} <= record["seconds"].keys()
    (prior,) = require_log(run / "data" / "prior").versions.values()
    assert (prior.step, prior.parents) == ("synthesize", (log.last.fingerprint,))
    assert all(file.state == "ok" for file in verify(run).files if file.path == RECORD)

    found = reproduce(run)
    assert found.equal, str(found)
    assert found.again == tmp_path / "runs" / "run-reproduced"
    assert found.weights.tensors == len(load_file(run / "adapter" / WEIGHTS))
    assert "bit-equal" in str(found)
    assert not found.otherwise

    weights = found.again / "adapter" / WEIGHTS
    other = {name: tensor * 1.001 for name, tensor in load_file(weights).items()}
    distance = compare_weights(run / "adapter", run / "adapter")
    assert distance.differing == 0
    changed = tmp_path / "changed"
    shutil.copytree(run / "adapter", changed)
    save_file(other, changed / WEIGHTS)
    assert compare_weights(run / "adapter", changed).relative == pytest.approx(0.001, rel=0.01)

    (data / "red ball.txt").write_text("a crimson ball")
    assert main(["reproduce", str(run), "--out", str(tmp_path / "other")]) == ERROR
    assert "isn't the version that the run was trained on" in capsys.readouterr().err
    assert main(["data", "verify", str(data)]) == FINDINGS
