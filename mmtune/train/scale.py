"""How strongly a trained adapter should act: tried on held-out rows, and on what must stay."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from mmtune.data.rows import Row
from mmtune.train.task import Monitor, Task

UP = ("lora_B", "lora_embedding_B")  # the half of a pair that begins at zero, by PEFT's names
MAGNITUDE = "lora_magnitude_vector"  # DoRA's


@dataclass(frozen=True)
class ScalePoint:
    """What was measured at one scale; 0 is the base, 1 the adapter as it was trained.

    Attributes:
        value: the task's monitor on the validation rows.
        retained: the same on the retention rows; None without any.
    """

    scale: float
    value: float
    retained: float | None = None


@contextmanager
def scaled(module: nn.Module, scale: float) -> Iterator[None]:
    """Within it, the LoRA pairs of `module` act `scale` times as strongly, also when saved.

    The weights themselves are scaled, so that every library that loads them agrees.

    Raises:
        ValueError: there is no pair, or DoRA's magnitudes, which a factor doesn't scale.
    """
    names = [name for name, _ in module.named_parameters()]
    if any(MAGNITUDE in name for name in names):
        raise ValueError("DoRA has no scale: at 0 it is not the base")
    pairs = [p for name, p in module.named_parameters() if any(up in name for up in UP)]
    if not pairs:
        raise ValueError("there is no LoRA pair to scale")
    saved: list[Tensor] = [p.detach().clone() for p in pairs]
    with torch.no_grad():
        for p in pairs:
            p.mul_(scale)
    try:
        yield
    finally:
        with torch.no_grad():
            for p, old in zip(pairs, saved, strict=True):
                p.copy_(old)


def can_scale(module: nn.Module) -> bool:
    """Whether `scaled` can be used on it."""
    names = [name for name, _ in module.named_parameters()]
    return any(up in name for name in names for up in UP) and not any(
        MAGNITUDE in name for name in names
    )


def sweep(
    task: Task, scales: Sequence[float], validation: Sequence[Row], retention: Sequence[Row]
) -> list[ScalePoint]:
    """Measure the base and the adapter at each of `scales`, smallest first.

    Args:
        scales: above 0.
        validation: rows of what was trained.
        retention: rows of what must not get worse; may be none.
    """
    points = []
    for scale in sorted({0.0, *scales}):
        with scaled(task.module, scale):
            value = task.validate(validation)[task.monitor.name]
            kept = task.validate(retention)[task.monitor.name] if retention else None
        points.append(ScalePoint(scale, value, kept))
    return points


def best_scale(points: Sequence[ScalePoint], monitor: Monitor, may_lose: float) -> float:
    """The scale with the best value among those that keep what must stay.

    Args:
        points: of `sweep`; the first is the base.
        may_lose: how much worse than the base's `retained` may be, in the monitor's unit.

    Returns:
        0 where no scale is better than the base and keeps what it had.
    """
    base, best = points[0], points[0]
    for point in points[1:]:
        if point.retained is not None and base.retained is not None:
            loss = point.retained - base.retained
            if (-loss if monitor.higher_is_better else loss) > may_lose:
                continue
        if monitor.better(point.value, best.value):
            best = point
    return best.scale
