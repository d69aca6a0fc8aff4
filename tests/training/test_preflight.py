"""The figures that are shown before the first step, by hand."""

from __future__ import annotations

import dataclasses
import resource
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch

from mmtune.config import TrainOptions
from mmtune.data.rows import Row
from mmtune.errors import TrainingError
from mmtune.prefix.cache import PrefixCache
from mmtune.training.preflight import Preflight, check_trainable, peak_memory, preflight
from tests.training.toy import WIDTH, ToyTask, rows

CPU = torch.device("cpu")
FACTS = Preflight(
    rows=1_200, steps=300, epochs=2.5, trainable=2_500, total=10_000, cache_missing=2_000,
    cache_bytes=3 * 2**20, encode_seconds=12.4, break_even=1.5, step_seconds=0.5,
    peak_bytes=7 * 2**20,
)  # fmt: skip


def test_the_lines_name_shares_sizes_and_times() -> None:
    assert FACTS.lines() == [
        "rows       1,200; 300 steps, 2.5 epochs",
        "trainable  2,500 of 10,000 parameters (25.00 %)",
        "features   2,000 to compute, 3 MiB, 12 s, computed once; storing them saves time after "
        "1.5 epochs",
        "step       about 0.50 s; memory 7 MiB",
    ]
    known = dataclasses.replace(
        FACTS, cache_missing=0, needed_bytes=5 * 2**20, available_bytes=9 * 2**20
    )
    assert known.lines()[2:] == [
        "features   all in the cache",
        "step       about 0.50 s; memory 5 of 9 MiB (measured 7 MiB)",
    ]
    seldom = dataclasses.replace(FACTS, break_even=2.6)
    assert "computed each time (too few epochs)" in seldom.lines()[2]


@pytest.mark.parametrize(
    ("epochs", "break_even", "pays"),
    [(2.0, 2.0, True), (2.0, 2.01, False), (0.5, 1.0, True), (0.5, 1.01, False), (3.0, 0.0, True)],
)
def test_a_cache_pays_from_its_break_even_on(epochs: float, break_even: float, pays: bool) -> None:
    facts = dataclasses.replace(FACTS, epochs=epochs, break_even=break_even)
    assert facts.cache_pays is pays


@pytest.mark.parametrize(
    ("views", "stored", "missing", "break_even"),
    [(1, 0, 10, 1.0), (2, 0, 20, 2.0), (3, 0, 30, 3.0), (2, 4, 12, 1.2), (2, 10, 0, 0.0)],
)
def test_what_is_missing_is_counted_and_weighed(
    tmp_path: Path,
    views: int,
    stored: int,
    missing: int,
    break_even: float,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Each row has `views` parts of 12 floats and reads one in an epoch; of some all are known."""
    task, items = ToyTask(PrefixCache(tmp_path), views=views), rows(10)
    task.features.fill([part for row in items[:stored] for part in task.variants(row)])
    stepped: list[list[str]] = []
    moments = [0.0]

    def now() -> float:
        moments.append(moments[-1] + 1e-4)
        return moments[-1]

    monkeypatch.setattr("mmtune.training.preflight.time.perf_counter", now)

    def step(some: Sequence[Row]) -> None:
        stepped.append([row.id for row in some])
        moments.append(moments[-1] + (9.0, 0.5, 3.0, 0.25)[len(stepped) - 1])

    options = TrainOptions(batch_size=8)
    first = items[6:10]
    facts = preflight(task, task.features, items, first, options, 30, 4, CPU, step)
    assert (facts.rows, facts.steps, facts.epochs) == (10, 30, 7.5)
    assert (facts.trainable, facts.total) == check_trainable(task.module)
    assert facts.cache_missing == missing
    assert facts.break_even == pytest.approx(break_even)
    assert facts.cache_bytes == missing * WIDTH * 4
    # One step to warm up, and the median of three of 4 of the 8 rows: one slow step doesn't count.
    assert stepped == [[row.id for row in first]] * 4
    assert facts.step_seconds == pytest.approx(2 * 0.5, abs=0.01)
    assert (facts.encode_seconds > 0) is (missing > 0)
    assert (facts.needed_bytes, facts.available_bytes) == (0, 0)


def test_the_peak_is_this_processs() -> None:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # KiB on Linux
    found = peak_memory(CPU)
    after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert before * 1024 <= found <= after * 1024


def test_one_trainable_parameter_is_enough_and_one_frozen_too() -> None:
    module = torch.nn.Sequential(torch.nn.Linear(2, 1, bias=False), torch.nn.Linear(3, 1))
    for parameter in module.parameters():
        parameter.requires_grad_(False)
    with pytest.raises(TrainingError, match="no parameter is trainable"):
        check_trainable(module)
    module[0].weight.requires_grad_(True)
    assert check_trainable(module) == (2, 6)
    module[1].weight.requires_grad_(True)
    assert check_trainable(module) == (5, 6)
    module[1].bias.requires_grad_(True)
    with pytest.raises(TrainingError, match="all 6 parameters are trainable"):
        check_trainable(module)
