"""Estimate a run's cost from one measured step, and check that the adapter can be trained."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import nn

from mmtune.config import TrainOptions
from mmtune.data.rows import Row
from mmtune.errors import TrainingError
from mmtune.prefix.features import Features
from mmtune.prefix.stage import Part
from mmtune.system.memory import Gauge, MemoryNeed, measure_need
from mmtune.system.portable import peak_resident
from mmtune.training.randomness import Draw
from mmtune.training.task import Task

MEASURED_STEPS = 3  # the median of their times is told
ENOUGH_SECONDS = 10.0  # no further step is measured then


@dataclass(frozen=True)
class Preflight:
    """Facts and estimates about a run, printed before the first step."""

    rows: int
    steps: int
    epochs: float  # number of epochs in `steps`
    trainable: int  # number of trainable parameters
    total: int  # number of all parameters
    cache_missing: int  # number of parts whose features must be computed
    cache_bytes: int  # size of their features
    encode_seconds: float  # time to compute them
    break_even: float  # epochs after which storing them saves time
    step_seconds: float
    peak_bytes: int
    needed_bytes: int = 0  # estimated memory of a step; 0 if it wasn't estimated
    available_bytes: int = 0
    step_flops: float | None = None  # of a step with a whole batch; None: they weren't counted

    @property
    def cache_pays(self) -> bool:
        """Whether the run has enough epochs for the cache to save time."""
        return self.break_even <= max(1.0, self.epochs)

    def lines(self) -> list[str]:
        """Format the facts as lines for the terminal."""
        mib = 1 / 2**20
        share = 100 * self.trainable / self.total
        text = [
            f"rows       {self.rows:,}; {self.steps:,} steps, {self.epochs:.1f} epochs",
            f"trainable  {self.trainable:,} of {self.total:,} parameters ({share:.2f} %)",
        ]
        if self.cache_missing:
            plan = "computed once" if self.cache_pays else "computed each time (too few epochs)"
            text.append(
                f"features   {self.cache_missing:,} to compute, {self.cache_bytes * mib:,.0f} MiB, "
                f"{self.encode_seconds:.0f} s, {plan}; storing them saves time after "
                f"{self.break_even:.1f} epochs"
            )
        else:
            text.append("features   all in the cache")
        memory = f"{self.peak_bytes * mib:,.0f} MiB"
        if self.needed_bytes:
            memory = (
                f"{self.needed_bytes * mib:,.0f} of {self.available_bytes * mib:,.0f} MiB "
                f"(measured {memory})"
            )
        text.append(f"step       about {self.step_seconds:.2f} s; memory {memory}")
        return text


def check_trainable(module: nn.Module) -> tuple[int, int]:
    """Count the trainable parameters and all parameters of a module.

    Raises:
        TrainingError: no parameter or every parameter is trainable, so this is not LoRA.
    """
    trainable = sum(p.numel() for p in module.parameters() if p.requires_grad)
    total = sum(p.numel() for p in module.parameters())
    if trainable == 0:
        raise TrainingError(
            "no parameter is trainable: lora.targets matches no module", "correct lora.targets"
        )
    if trainable == total:
        raise TrainingError(
            f"all {total:,} parameters are trainable: this is not LoRA", "correct lora.targets"
        )
    return trainable, total


def peak_memory(device: torch.device) -> int:
    """Return the peak memory so far in bytes: of the GPU's allocator, or of this process."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    return peak_resident()


def preflight(
    task: Task,
    features: Features,
    rows: Sequence[Row],
    first: Sequence[Row],
    options: TrainOptions,
    steps: int,
    steps_per_epoch: int,
    device: torch.device,
    step: Callable[[Sequence[Row]], object],
    gauge: Gauge | None = None,
    tight: Callable[[MemoryNeed], None] = lambda need: None,
) -> Preflight:
    """Count rows and parameters, and measure one encoding and one training step.

    Args:
        task: the task.
        features: the task's precomputed features.
        rows: all training rows.
        first: rows of one micro-batch, which are used for the measurement.
        options: settings of the training.
        steps: number of steps in the run.
        steps_per_epoch: number of steps in an epoch.
        device: the device that the step runs on.
        step: runs forward and backward on rows; the caller drops the gradients afterwards.
        gauge: measures memory; the step's need is then estimated from one row before the whole
            micro-batch is tried.
        tight: called if the estimated need exceeds the available memory.
    """
    trainable, total = check_trainable(task.module)
    parts: dict[Part, None] = {}
    for row in rows:
        parts.update(dict.fromkeys(task.variants(row)))
    missing = features.missing(parts)
    draws = [Draw(options.seed, 0, row.id) for row in first]
    used = [p for row, draw in zip(first, draws, strict=True) for p in task.choose(row, draw).parts]
    sample = [part for part in dict.fromkeys(used) if part in set(missing)]
    seconds = size = 0.0
    if sample:
        first_value = features.get(sample[:1])  # not measured: it includes one-time setup costs
        began = time.perf_counter()
        values = features.get(sample[1:])
        seconds = (time.perf_counter() - began) / max(1, len(sample) - 1)
        size = sum(t.nbytes for v in first_value + values for t in v.values()) / len(sample)
    need = None
    if gauge is not None:
        need = measure_need(gauge, trainable, lambda: step(first[:1]))
        if not need.fits(len(first)):
            tight(need)
    flops = count_flops(lambda: step(first))  # this is the warm-up, too
    times: list[float] = []
    while len(times) < MEASURED_STEPS and sum(times) < ENOUGH_SECONDS:
        began = time.perf_counter()
        step(first)
        times.append(time.perf_counter() - began)
    step_seconds = statistics.median(times) * options.batch_size / max(1, len(first))
    per_row = len(used) / max(1, len(first))
    break_even = len(missing) / max(1.0, per_row * len(rows)) if missing else 0.0
    return Preflight(
        rows=len(rows),
        steps=steps,
        epochs=steps / steps_per_epoch,
        trainable=trainable,
        total=total,
        cache_missing=len(missing),
        cache_bytes=round(size * len(missing)),
        encode_seconds=seconds * len(missing),
        break_even=break_even,
        step_seconds=step_seconds,
        peak_bytes=peak_memory(device),
        needed_bytes=need.of(len(first)) if need else 0,
        available_bytes=need.available if need else 0,
        step_flops=flops * options.batch_size / max(1, len(first)),
    )


def count_flops(run: Callable[[], object]) -> float:
    """Run something, and count its floating-point operations as PyTorch knows them.

    Counted are matrix products, convolutions and attention, forward and backward, with 2 for each
    multiplication and its addition.
    """
    from torch.utils.flop_counter import FlopCounterMode

    with FlopCounterMode(display=False) as counter:
        run()
    return float(counter.get_total_flops())
