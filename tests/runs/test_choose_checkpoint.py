"""Which checkpoint is taken of a task that scores itself by its own validation."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

import mmtune.training.selection
import mmtune.training.strength
from mmtune.config import RunConfig
from mmtune.data.rows import Row
from mmtune.runs.choose_checkpoint import choose_checkpoint, choose_strength
from mmtune.runs.recipes import configure
from mmtune.training.kept_weights import read_snapshots
from mmtune.training.loop import fit
from mmtune.training.reporter import FitResult
from mmtune.training.selection import Point
from tests.training.test_loop import final
from tests.training.toy import ToyTask, rows

HELD = rows(4, "held")
DATASET: Any = SimpleNamespace(split=lambda name: HELD)


def trained(tmp_path: Path, keep: str, task: ToyTask) -> tuple[RunConfig, FitResult]:
    values = {"recipe": "toy", "modality": "image", "base": "none", "out": str(tmp_path)}
    train = {"epochs": 5, "batch_size": 8, "lr": 0.05, "compare_checkpoints": int(keep)}
    config = configure({**values, "train": train}, "test", {})
    return config, fit(task, rows(16), HELD, config.train, config.folder)


def test_the_best_of_those_kept_is_loaded(tmp_path: Path) -> None:
    task, said = ToyTask(), list[str]()
    config, result = trained(tmp_path, "5", task)
    kept = read_snapshots(config.folder)
    found = choose_checkpoint(config, DATASET, task, result, list, said.append)
    assert [point.step for point in found.points] == [each.step for each in kept]
    assert found.reason == "it has the best error"
    assert found.step == min(kept, key=lambda each: each.values["error"]).step
    [chosen] = [each for each in kept if each.step == found.step]
    assert found.values == chosen.values
    assert all(torch.equal(w, chosen.weights[n]) for n, w in final(task).items())
    assert said[0].startswith("base       validation ")
    assert said[-1] == f"checkpoint step {found.step}: it has the best error"


def test_what_must_stay_has_a_say(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On other rows each step is worse than the one before: the last that loses little is taken."""
    task = ToyTask()
    config, result = trained(tmp_path, "5", task)
    other = rows(2, "other")
    steps = {float(each.weights["up"].norm()): each.step for each in read_snapshots(config.folder)}
    validate = task.validate

    def on(chosen: Sequence[Row]) -> dict[str, float]:
        if chosen is not other:
            return validate(chosen)
        return {"error": 0.002 * steps[float(task.module.up.norm())]}

    monkeypatch.setattr(task, "validate", on)
    found = choose_checkpoint(config, DATASET, task, result, lambda: other, lambda text: None)
    assert config.train.may_lose == 0.01
    assert found.step == 4  # 2 steps an epoch: 2 loses 0.004, 4 loses 0.008, 6 loses 0.012
    assert "lose at most 0.01" in found.reason


def test_where_none_is_better_validation_decides(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    task = ToyTask()
    config, result = trained(tmp_path, "3", task)
    monkeypatch.setattr(task, "validate", lambda chosen: {"error": 1.0})
    found = choose_checkpoint(config, DATASET, task, result, list, lambda text: None)
    assert found.step == result.best_step
    assert found.reason == "best in validation; none has a better error than the base"


def test_nothing_kept_is_nothing_compared(tmp_path: Path) -> None:
    task = ToyTask()
    config, result = trained(tmp_path, "0", task)
    before = task.validations
    found = choose_checkpoint(config, DATASET, task, result, list, lambda text: None)
    assert (found.step, found.values) == (result.best_step, result.best)
    assert not found.points
    assert choose_strength(config, DATASET, task, list, lambda text: None).scale == 1.0
    assert task.validations == before


# The monitor on the held-out rows and on others, by strength; the strength and the note.
BASE_FIRST = (0.0, 0.25, 0.5, 0.75, 1.0)
SWEEPS: dict[str, tuple[Sequence[float], Sequence[float] | None, float, str]] = {
    "all alike, as good as the base": (
        (1.0, 1.0, 1.0, 1.0, 1.0), None, 1.0,
        "chosen     the base: none has a better error than the base. The adapter is saved at 1: "
        "all strengths measure the same",
    ),
    "all alike, better": (
        (1.0, 0.5, 0.5, 0.5, 0.5), None, 1.0, "chosen     scale 1: all strengths measure the same",
    ),
    "alike here, and not on other rows": (
        (1.0, 0.5, 0.5, 0.5, 0.5), (0.0, 0.0, 0.0, 0.1, 0.2), 0.25, "chosen     scale 0.25",
    ),
    "none better": (
        (1.0, 1.1, 1.2, 1.3, 1.4), None, 0.25,
        "chosen     the base: none has a better error than the base. The adapter is saved at 0.25",
    ),
    "better, and all lose other rows": (
        (1.0, 0.5, 0.4, 0.3, 0.2), (0.0, 0.1, 0.2, 0.3, 0.4), 0.25,
        "chosen     the base: none has a better error than the base and loses at most 0.01 on "
        "retention rows. The adapter is saved at 0.25",
    ),
    "one best": ((1.0, 0.9, 0.5, 0.6, 0.7), None, 0.5, "chosen     scale 0.5"),
}  # fmt: skip


@pytest.mark.parametrize("case", SWEEPS)
def test_the_strength_that_is_saved(
    case: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    held, others, scale, said = SWEEPS[case]
    values = {"recipe": "toy", "modality": "image", "base": "none", "out": str(tmp_path)}
    lost = others or (None,) * len(held)
    points = [Point(*each) for each in zip(BASE_FIRST, held, lost, strict=True)]
    monkeypatch.setattr(mmtune.training.selection, "sweep", lambda *given: points)
    monkeypatch.setattr(mmtune.training.strength, "can_scale", lambda module: True)
    notes = list[str]()
    found = choose_strength(configure(values, "test", {}), DATASET, ToyTask(), list, notes.append)
    assert (found.scale, notes[-1]) == (scale, said)
