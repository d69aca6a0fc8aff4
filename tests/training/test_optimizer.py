"""Optimizers by name: each trains, and a run that was stopped ends with the same bits."""

from __future__ import annotations

from pathlib import Path
from typing import get_args

import pytest
import torch

from mmtune.config import Optimizer, TrainOptions
from mmtune.errors import ConfigError
from mmtune.runs.pipeline import train
from mmtune.runs.recipes import configure
from mmtune.training.disk_space import OTHER, run_bytes
from mmtune.training.interrupt import Interrupted
from mmtune.training.loop import fit
from mmtune.training.optimizer import OPTIMIZERS, require_optimizer
from mmtune.training.reporter import Reporter
from tests.training.test_loop import equal, final, losses, options
from tests.training.toy import ToyTask, rows

GPU = torch.cuda.is_available()


class Stops(Reporter):
    """Stops a run after step 5, whose last checkpoint is that of step 4."""

    def step(self, step: int, total: int, loss: float, lr: float) -> None:
        if step == 5:
            raise Interrupted(15, step)


def usable(name: str) -> None:
    known = OPTIMIZERS[name]
    if known.package:
        pytest.importorskip(known.package)
    if name == "adamw_8bit" and not GPU:
        pytest.skip("needs an NVIDIA GPU")


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_a_stopped_run_ends_with_the_same_bits(tmp_path: Path, name: str) -> None:
    usable(name)
    # Lion steps by a sign, and Prodigy by what it finds.
    chosen = options(optimizer=name, lr={"prodigy": 1.0, "lion": 0.01}.get(name, 0.05), epochs=6)
    whole, stopped = ToyTask(), ToyTask()
    fit(whole, rows(21), [], chosen, tmp_path / "whole")
    with pytest.raises(Interrupted):
        fit(stopped, rows(21), [], chosen, tmp_path / "stopped", Stops())
    stopped = ToyTask()
    fit(stopped, rows(21), [], chosen, tmp_path / "stopped")
    assert equal(final(whole), final(stopped))
    assert not equal(final(whole), final(ToyTask()))
    seen = losses(tmp_path / "whole")
    assert sum(seen[-3:]) < sum(seen[:3])


def test_the_names_are_those_of_the_setting() -> None:
    assert tuple(OPTIMIZERS) == get_args(Optimizer)


def test_an_unknown_name_is_an_error_with_the_nearest() -> None:
    given = {"recipe": "mine", "modality": "image", "base": "b"}
    with pytest.raises(ConfigError, match=r"optimizer prodgy .*'adamw', 'adafactor'") as caught:
        configure(given, "x", {"optimizer": "prodgy"})
    assert caught.value.cure == "did you mean prodigy?"
    with pytest.raises(ConfigError, match="did you mean adafactor"):
        configure(given | {"train": {"optimizer": "adafactr"}}, "mine.yaml")


@pytest.mark.parametrize("name", ["lion", "prodigy", "adamw_8bit"])
def test_a_missing_package_is_an_error_before_the_run_has_a_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setattr("mmtune.training.optimizer.find_spec", lambda package: None)
    given = {"recipe": "mine", "modality": "speech", "base": "none"}
    config = configure(given, "x", {"optimizer": name, "lr": 1, "out": str(tmp_path / "runs")})
    with pytest.raises(ConfigError, match=f"pip install {OPTIMIZERS[name].package}"):
        train(config)
    assert not (tmp_path / "runs").exists()


def test_settings_that_an_optimizer_cannot_use(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mmtune.training.optimizer.find_spec", lambda package: object())
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ConfigError, match="give --lr 1"):
        require_optimizer(TrainOptions(optimizer="prodigy", lr=1e-3))
    with pytest.raises(ConfigError, match="needs an NVIDIA GPU"):
        require_optimizer(TrainOptions(optimizer="adamw_8bit"))
    for name, lr in (("prodigy", 1.0), ("lion", 1e-4), ("adafactor", 1e-3), ("adamw", 1e-3)):
        require_optimizer(TrainOptions(optimizer=name, lr=lr))


@pytest.mark.parametrize(("name", "copies"), [("adamw", 4), ("prodigy", 6), ("lion", 3)])
def test_the_disk_has_room_for_the_states(name: str, copies: int) -> None:
    chosen = TrainOptions(optimizer=name, keep=2)
    # Three checkpoints at once, and the adapter twice.
    assert run_bytes([torch.zeros(1000)], chosen) == 4000 * (3 * copies + 2) + OTHER
