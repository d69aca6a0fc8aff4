"""Space on disk is estimated and checked before the first step."""

from __future__ import annotations

import shutil
import signal
from collections import namedtuple
from pathlib import Path

import pytest
import torch

from mmtune.errors import TrainingError
from mmtune.prefix.cache import PrefixCache
from mmtune.training.checkpoint import Checkpoint, save_checkpoint
from mmtune.training.disk_space import IN_CHECKPOINT, OTHER, bytes_in, require_space, run_bytes
from mmtune.training.interrupt import Interrupted
from mmtune.training.loop import fit
from mmtune.training.optimizer import OPTIMIZERS
from tests.training.test_loop import StopAt, options
from tests.training.toy import ToyTask, rows

MIB = 2**20
Usage = namedtuple("Usage", "total used free")


def disk_with(monkeypatch: pytest.MonkeyPatch, free: int) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda path: Usage(100 * free, 99 * free, free))


def test_a_checkpoint_has_the_estimated_size(tmp_path: Path) -> None:
    weight = torch.nn.Parameter(torch.zeros(MIB // 4))  # 1 MiB
    optimizer = torch.optim.AdamW([weight])
    weight.grad = torch.ones_like(weight)
    optimizer.step()
    tensors = {"optimizer": optimizer.state_dict()}
    save_checkpoint(tmp_path / "step-1", Checkpoint({"w": weight}, {"w": weight}, {}, tensors))
    assert bytes_in([tmp_path]) == pytest.approx(
        (IN_CHECKPOINT + OPTIMIZERS["adamw"].states) * MIB, rel=0.01
    )
    assert bytes_in([tmp_path / "nothing"]) == 0


def test_checkpoints_snapshots_and_adapter_are_counted() -> None:
    weight = torch.zeros(MIB // 4)  # 1 MiB
    assert run_bytes([weight], options(keep=2)) == (3 * 4 + 2) * MIB + OTHER
    snapshots = options(keep=3, compare_checkpoints=4)
    assert run_bytes([weight], snapshots) == (4 * 4 + 6 + 2) * MIB + OTHER


def test_a_disk_without_room_is_told_with_figures(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk_with(monkeypatch, 100 * MIB)
    run, cache = tmp_path / "runs" / "a", tmp_path / "cache"
    require_space({run: ("checkpoints", 60 * MIB), cache: ("features", 40 * MIB)})
    with pytest.raises(TrainingError) as refused:
        require_space({run: ("checkpoints", 60 * MIB), cache: ("features", 41 * MIB)})
    assert str(refused.value).startswith(
        f"the disk of {tmp_path} has 100 MiB free, and the run needs about 101 MiB "
        "(checkpoints 60 MiB, features 41 MiB)"
    )


def test_a_run_is_refused_before_its_first_step(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk_with(monkeypatch, MIB)
    cache = PrefixCache(tmp_path / "cache")
    with pytest.raises(TrainingError, match="has 1 MiB free"):
        fit(ToyTask(cache), rows(21), [], options(), tmp_path / "run")
    assert not (tmp_path / "run" / "checkpoints").exists()
    monkeypatch.undo()
    assert fit(ToyTask(cache), rows(21), [], options(), tmp_path / "run").reason == "done"


def test_what_an_interrupted_run_has_written_is_not_needed_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(Interrupted):
        fit(ToyTask(), rows(21), [], options(), tmp_path, StopAt(5, signal.SIGTERM))
    written = bytes_in([tmp_path / "checkpoints"])
    needed = run_bytes([weight for _, weight in ToyTask().weights()], options())
    disk_with(monkeypatch, needed - written)
    assert fit(ToyTask(), rows(21), [], options(), tmp_path).reason == "done"
