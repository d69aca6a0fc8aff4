"""`mmtune train` in two processes, through the command line: training, comparison, report."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from mmtune.evaluation.comparison import COMPARISON_FILE
from mmtune.training.log import read_log
from tests.evaluation.test_parallel import TWO
from tests.faults.test_kill import CASES, environment, settings

ROOT = Path(__file__).parents[2]


def mmtune(cache: Path, *command: str, launcher: tuple[str, ...] = ()) -> str:
    done = subprocess.run(
        [sys.executable, *launcher, "-m", "mmtune", *command],
        env=environment(cache) | {"PYTHONPATH": str(ROOT)},
        check=False, timeout=400, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


def figures(run: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((run / COMPARISON_FILE).read_bytes())
    del found["speed"]
    return found


@pytest.mark.slow
@pytest.mark.parametrize("modality", ["speech", "image"])
def test_two_processes_train_and_compare_as_one(tmp_path: Path, modality: str) -> None:
    recipe, make, weights, extra = CASES[modality]
    data = make(tmp_path / "data")
    for out, launcher in (("one", ()), ("two", TWO)):
        # Dropout's masks depend on how a batch is cut. One process cuts it as two do, because
        # Adam's first steps turn the rounding of a gradient near 0 into a whole step.
        pairs = [*settings(data, tmp_path / out, extra), "precision=fp32"]
        pairs = [pair for pair in pairs if pair != "lora.dropout=0.1"]
        cut = ["micro_batch=2"] if out == "one" else []
        options = [f"--{pair}" for pair in (*pairs, "lora.dropout=0", *cut)]
        shown = mmtune(tmp_path / f"cache-{out}", "train", recipe, *options, launcher=launcher)
        assert shown.count("\nverdict ") == 1  # by one of them alone
    one, two = (tmp_path / out / "run" for out in ("one", "two"))
    losses = [[e["loss"] for e in read_log(r / "log.jsonl") if "loss" in e] for r in (one, two)]
    assert losses[1] == pytest.approx(losses[0], rel=1e-6)
    first, second = (load_file(run / "adapter" / weights) for run in (one, two))
    assert first.keys() == second.keys()
    assert all(torch.equal(first[k], second[k]) for k in first)
    # What two wrote is what one process finds of the same adapter.
    shared = figures(two)
    mmtune(tmp_path / "cache-two", "evaluate", str(two), "--fresh")
    assert figures(two) == shared
    assert {path.name for path in one.iterdir()} == {path.name for path in two.iterdir()}
