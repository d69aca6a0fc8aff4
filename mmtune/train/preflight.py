"""What a run will cost, from one measured step, before it starts; and whether it can work."""

from __future__ import annotations

import resource
import sys
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
from mmtune.system.memory import Gauge, Need, need_of
from mmtune.train.randomness import Draw
from mmtune.train.task import Task


@dataclass(frozen=True)
class Preflight:
    """Facts and estimates that are printed before the first step."""

    rows: int
    steps: int
    epochs: float  # that these steps amount to
    trainable: int  # parameters
    total: int
    cache_missing: int  # parts to compute
    cache_bytes: int  # of those parts
    encode_seconds: float  # for those parts
    break_even: float  # epochs after which the cache has paid for itself
    step_seconds: float
    peak_bytes: int
    needed_bytes: int = 0  # of a training step, from one row's; 0 where it wasn't estimated
    available_bytes: int = 0

    @property
    def cache_pays(self) -> bool:
        """Whether there are enough epochs; `Features` then stores, otherwise computes."""
        return self.break_even <= max(1.0, self.epochs)

    def lines(self) -> list[str]:
        """For a terminal."""
        mib = 1 / 2**20
        share = 100 * self.trainable / self.total
        text = [
            f"rows       {self.rows:,}; {self.steps:,} steps, {self.epochs:.1f} epochs",
            f"trainable  {self.trainable:,} of {self.total:,} parameters ({share:.2f} %)",
        ]
        if self.cache_missing:
            verb = "stored once" if self.cache_pays else "computed each time (too few epochs)"
            text.append(
                f"prefix     {self.cache_missing:,} parts, {self.cache_bytes * mib:,.0f} MiB, "
                f"{self.encode_seconds:.0f} s, {verb}; pays after {self.break_even:.1f} epochs"
            )
        else:
            text.append("prefix     all in the cache")
        memory = f"{self.peak_bytes * mib:,.0f} MiB"
        if self.needed_bytes:
            memory = (
                f"{self.needed_bytes * mib:,.0f} of {self.available_bytes * mib:,.0f} MiB "
                f"(measured {memory})"
            )
        text.append(
            f"estimate   {self.step_seconds:.2f} s a step, {self.steps * self.step_seconds:.0f} s "
            f"in all, without validation; memory {memory}"
        )
        return text


def check_trainable(module: nn.Module) -> tuple[int, int]:
    """Numbers of trainable and of all parameters.

    Raises:
        TrainingError: none or all of them train; neither is LoRA.
    """
    trainable = sum(p.numel() for p in module.parameters() if p.requires_grad)
    total = sum(p.numel() for p in module.parameters())
    if trainable == 0:
        raise TrainingError(
            "no parameter is trainable: the LoRA targets match no module", "correct lora.targets"
        )
    if trainable == total:
        raise TrainingError(
            f"all {total:,} parameters are trainable: this is not LoRA", "correct lora.targets"
        )
    return trainable, total


def peak_memory(device: torch.device) -> int:
    """Peak bytes so far: of the device's allocator, or of this process on a CPU."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    scale = 1 if sys.platform == "darwin" else 1024  # ru_maxrss: bytes there, KiB on Linux
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * scale


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
    tight: Callable[[Need], None] = lambda need: None,
) -> Preflight:
    """Count, and measure one encode and one step.

    Args:
        rows: all training rows.
        first: rows of one micro-batch, used for the measurement.
        step: forward and backward of those rows; gradients are dropped afterwards.
        gauge: by it the step's memory is estimated from one row's, before the whole of it is tried.
        tight: called where the estimate is more than there is.
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
        first_value = features.get(sample[:1])  # pays for kernels and pages: not measured
        began = time.perf_counter()
        values = features.get(sample[1:])
        seconds = (time.perf_counter() - began) / max(1, len(sample) - 1)
        size = sum(t.nbytes for v in first_value + values for t in v.values()) / len(sample)
    need = None
    if gauge is not None:
        need = need_of(gauge, trainable, lambda: step(first[:1]))
        if not need.fits(len(first)):
            tight(need)
    step(first)  # warm-up
    began = time.perf_counter()
    step(first)
    step_seconds = (time.perf_counter() - began) * options.batch_size / max(1, len(first))
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
    )
