"""Memory that runs out, in the loop and elsewhere, and the estimate before it does."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from mmtune.cli import main
from mmtune.config import TrainOptions
from mmtune.errors import OutOfMemory
from mmtune.prefix.cache import PrefixCache
from mmtune.prefix.stage import Part
from mmtune.system.memory import MIB, MemoryNeed, guarded, is_out_of_memory, measure_need
from mmtune.training import loop
from mmtune.training.loop import fit
from mmtune.training.preflight import preflight
from mmtune.training.reporter import Reporter
from tests.training.toy import ToyTask, rows

TOO_MUCH = 1 << 50  # bytes: more than any address space gives


def options(**values: object) -> TrainOptions:
    return TrainOptions.model_validate({"epochs": 2, "batch_size": 8, "lr": 0.05} | values)


def full(*_: object, **__: object) -> Any:
    raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB.\nGPU 0 has …")


@pytest.mark.parametrize("ask", [lambda: torch.empty(TOO_MUCH), lambda: np.ones(TOO_MUCH)])
def test_what_torch_and_numpy_raise_on_a_cpu_is_known(ask: Callable[[], object]) -> None:
    with pytest.raises(OutOfMemory, match=r"\(sampling\): .*\n.*until the run fits: --a 1; --b 2"):  # noqa: SIM117
        with guarded("sampling", lambda: ["--a 1", "--b 2"]):
            ask()


def test_other_errors_stay_what_they_are() -> None:
    for error in (RuntimeError("shapes don't fit"), ValueError("out of memory"), KeyError("x")):
        with pytest.raises(type(error)) as raised, guarded("sampling", list):
            raise error
        assert raised.value is error
    assert is_out_of_memory(RuntimeError("cuDNN error: CUDA error: out of memory"))


def test_the_innermost_speaks() -> None:
    with pytest.raises(OutOfMemory, match="inner") as raised:  # noqa: SIM117
        with guarded("outer", lambda: ["--outer 1"]), guarded("inner", list):
            full()
    assert "smaller base" in raised.value.cure
    assert isinstance(raised.value.__cause__, torch.OutOfMemoryError)


def test_a_step_names_what_leaves_the_result_first(tmp_path: Path) -> None:
    task, steps = ToyTask(), 0
    forward = task.module.forward

    def grows(batch: Any) -> Any:
        nonlocal steps
        steps += 1
        return forward(batch) if steps < 5 else full()

    task.module.forward = grows  # type: ignore[method-assign]
    with pytest.raises(OutOfMemory, match=r"\(training\): CUDA out of memory") as raised:
        fit(task, rows(16), [], options(), tmp_path)
    cures = raised.value.cure.split("fits: ")[1].split("; ")
    assert cures[0].startswith("--micro_batch 4 (now 8")
    assert raised.value.cure.index("micro_batch") < raised.value.cure.index("gradient_check")
    assert cures[-1] == "--width 6 (training)"
    told = options(micro_batch=1, gradient_checkpointing=True)
    with pytest.raises(OutOfMemory, match=r"until the run fits: --width 6 \(training\)"):
        fit(task, rows(16), [], told, tmp_path / "b")


def test_storing_and_validating_are_guarded_too(tmp_path: Path) -> None:
    task = ToyTask(PrefixCache(tmp_path / "cache"))
    encode, done = task.stage.encode, 0

    def fills(parts: Sequence[Part]) -> Any:
        nonlocal done
        done += len(parts)
        return encode(parts) if done < 12 else full()

    task.stage.encode = fills  # type: ignore[method-assign]
    with pytest.raises(OutOfMemory, match=r"\(computing features\).*\n.*--width 6"):
        fit(task, rows(16), [], options(epochs=9), tmp_path / "a")
    sampled = ToyTask()
    sampled.validate = full  # type: ignore[method-assign]
    with pytest.raises(OutOfMemory, match=r"\(sampling\).*\n.*--width 6 \(sampling\)"):
        fit(sampled, rows(16), rows(3, "held"), options(), tmp_path / "b")


class Counting:
    """A gauge of a device on which each row of a step takes 100 MiB."""

    def __init__(self, available: int) -> None:
        self.tried: list[int] = []
        self._available = available * MIB

    def used(self) -> int:
        return 1000 * MIB

    def peak(self, work: Callable[[], object]) -> int:
        before = len(self.tried)
        work()
        return (1000 + 100 * sum(self.tried[before:])) * MIB

    def available(self) -> int:
        return self._available


def test_a_command_says_it_too(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("mmtune.cli._run", full)
    assert main(["transcribe", "x.wav"]) == 2
    said = capsys.readouterr().err
    assert said.startswith("error: out of memory (mmtune transcribe): CUDA out of memory")
    assert "use a smaller base" in said


@pytest.mark.parametrize(("available", "warned"), [(1700, True), (1900, False)])
def test_the_estimate_comes_before_the_whole_step(available: int, warned: bool) -> None:
    task, gauge, said = ToyTask(), Counting(available), []
    items = rows(8)

    def tight(need: MemoryNeed) -> None:
        assert gauge.tried == [1]  # one row alone was tried
        said.append(need.warning(8, ["--micro_batch 4"]))

    found = preflight(
        task,
        task.features,
        items,
        items,
        options(),
        steps=4,
        steps_per_epoch=1,
        device=torch.device("cpu"),
        step=lambda chosen: gauge.tried.append(len(chosen)),
        gauge=gauge,
        tight=tight,
    )
    assert gauge.tried == [1, 8, 8, 8, 8]
    trained = sum(p.numel() for _, p in task.weights())
    assert found.needed_bytes == (1000 + 800) * MIB + 12 * trained
    assert found.available_bytes == available * MIB
    assert bool(said) is warned
    assert f"1,800 of {available:,} MiB" in "\n".join(found.lines())
    if warned:
        assert "8 rows at once need about 1,800 MiB" in said[0]
        assert said[0].endswith("until the run fits: --micro_batch 4")


def test_the_optimizers_share_is_what_adamw_holds() -> None:
    """4 bytes of gradient and 8 of moments for each parameter, measured on a real one."""
    module = ToyTask().module
    trained = [p for p in module.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=0.1)
    batch = {
        "x": torch.ones(1, 12),
        "y": torch.ones(1, 4),
        "mask": torch.ones(1, 4),
        "poison": torch.ones(1),
    }
    module(batch).total.sum().backward()
    optimizer.step()
    states = [t for s in optimizer.state.values() for k, t in s.items() if k.startswith("exp")]
    held = sum(t.nbytes for t in [*states, *(p.grad for p in trained if p.grad is not None)])
    count = sum(p.numel() for p in trained)
    assert measure_need(Counting(1), count, lambda: None).optimizer == held


def test_a_note_is_given_where_it_is_tight(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    noted: list[str] = []

    class Notes(Reporter):
        def note(self, text: str) -> None:
            noted.append(text)

    monkeypatch.setattr(loop, "gauge_of", lambda device: Counting(10))
    fit(ToyTask(), rows(16), [], options(epochs=1), tmp_path, Notes())
    [said] = [text for text in noted if text.startswith("memory")]
    assert "--micro_batch 4" in said
