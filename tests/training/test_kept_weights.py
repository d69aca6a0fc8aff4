"""Weights of validations that are kept, and which."""

from __future__ import annotations

import dataclasses
import signal
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mmtune.training.interrupt import Interrupted
from mmtune.training.kept_weights import Snapshots, read_snapshots
from mmtune.training.log import read_log
from mmtune.training.loop import fit
from mmtune.training.selection import Trial, best_point, sweep
from mmtune.training.strength import replaced
from tests.training.test_loop import StopAt, final, options
from tests.training.toy import ToyTask, rows


@given(st.integers(1, 12), st.integers(1, 200))
def test_no_more_than_asked_for_and_the_last_of_them(most: int, validations: int) -> None:
    snapshots = Snapshots(Path(), most, validations)
    due = [number for number in range(1, validations + 1) if snapshots.due(number)]
    assert 1 <= len(due) <= most
    assert due[-1] == validations
    assert snapshots.due(0)
    if validations <= most:
        assert due == list(range(1, validations + 1))
    assert not any(Snapshots(Path(), 0, validations).due(n) for n in range(validations + 1))


def test_a_run_keeps_the_base_some_and_the_best(tmp_path: Path) -> None:
    settings = options(epochs=7, compare_checkpoints=2)
    task = ToyTask(worse_after=3)  # the third validation is the best one
    result = fit(task, rows(8), rows(3, "held"), settings, tmp_path)
    assert result.best_step == 3
    kept = read_snapshots(tmp_path)
    assert [each.step for each in kept] == [0, 3, 4, 7]
    values = {e["step"]: e["validation"] for e in read_log(tmp_path / "log.jsonl") if "best" in e}
    assert all(each.values == values[each.step] for each in kept)
    assert not kept[0].weights["up"].any()
    assert torch.equal(kept[1].weights["up"], final(task)["up"])
    fit(ToyTask(), rows(8), rows(3, "held"), options(), tmp_path / "b")
    assert not read_snapshots(tmp_path / "b")


def test_the_last_validation_is_kept_where_the_steps_do_not_divide(tmp_path: Path) -> None:
    """7 steps, validated after 3, 6 and 7: the third validation is the last one."""
    for most, steps in ((1, [0, 3, 7]), (2, [0, 3, 6, 7]), (3, [0, 3, 6, 7])):
        settings = options(epochs=7, validate_every=3, compare_checkpoints=most)
        task = ToyTask(worse_after=1)  # the first one is the best, and kept as such
        fit(task, rows(8), rows(3, "held"), settings, tmp_path / str(most))
        assert [each.step for each in read_snapshots(tmp_path / str(most))] == steps


def test_a_resumed_run_keeps_the_same(tmp_path: Path) -> None:
    settings = options(epochs=6, compare_checkpoints=3)
    fit(ToyTask(), rows(12), rows(3, "held"), settings, tmp_path / "whole")
    with pytest.raises(Interrupted):
        fit(
            ToyTask(),
            rows(12),
            rows(3, "held"),
            settings,
            tmp_path / "cut",
            StopAt(7, signal.SIGTERM),
        )
    fit(ToyTask(), rows(12), rows(3, "held"), settings, tmp_path / "cut")
    whole, cut = read_snapshots(tmp_path / "whole"), read_snapshots(tmp_path / "cut")
    assert [each.step for each in whole] == [each.step for each in cut]
    for ours, theirs in zip(cut, whole, strict=True):
        assert ours.values == theirs.values
        assert all(torch.equal(w, theirs.weights[n]) for n, w in ours.weights.items())


def test_the_sweep_measures_each_and_puts_back(tmp_path: Path) -> None:
    task, held = ToyTask(), rows(5, "held")
    fit(task, rows(16), held, options(epochs=4, compare_checkpoints=4), tmp_path)
    kept = read_snapshots(tmp_path)
    before = final(task)
    trials = [Trial(float(each.step > 0), each.step, each.weights) for each in kept]
    points = sweep(task, trials, held, held[:2])
    assert all(torch.equal(weight, before[name]) for name, weight in final(task).items())
    for point, each in zip(points, kept, strict=True):
        assert point.value == pytest.approx(each.values["error"], rel=1e-6)
        assert point.name == (f"step {each.step}" if each.step else "base")
    assert points[0].retained != points[-1].retained
    best = best_point(points, task.monitor, 10.0)
    assert best.value == min(point.value for point in points)
    # One that costs too much of what must stay is passed over.
    worse = dataclasses.replace(best, retained=(points[0].retained or 0) + 1)
    others = [worse if point is best else point for point in points]
    assert best_point(others, task.monitor, 0.5) is not worse


def test_other_weights_are_for_a_while(tmp_path: Path) -> None:
    task = ToyTask()
    before, other = final(task), {"up": torch.ones(4, 3)}
    with replaced(task.module, other):
        assert torch.equal(final(task)["up"], other["up"])
    assert all(torch.equal(weight, before[name]) for name, weight in final(task).items())
    with pytest.raises(RuntimeError), replaced(task.module, other):
        raise RuntimeError
    assert all(torch.equal(weight, before[name]) for name, weight in final(task).items())
    with pytest.raises(KeyError), replaced(task.module, {"nothing": torch.ones(1)}):
        pass
