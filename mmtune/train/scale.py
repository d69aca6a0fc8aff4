"""How strongly a trained adapter should act: tried on held-out rows, and on what must stay."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

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
        retained: the same on the retention rows; None without any. Of a task that advises: the
            share of what the base drew or said that is still there, 1 at the base.
        low, high: 95 % interval of `value`, where the task gives one.
        figures: what else the task measured there.
    """

    scale: float
    value: float
    retained: float | None = None
    low: float | None = None
    high: float | None = None
    figures: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Advice:
    """Which strength to use; nothing is changed in the weights.

    Attributes:
        points: what was measured, the base first.
        scale: the recommended one; 0 advises the base.
        reason: in words.
    """

    points: tuple[ScalePoint, ...]
    scale: float
    reason: str


@runtime_checkable
class Advises(Protocol):
    """A task whose strength is a matter of taste: users choose it with each use.

    Its adapter is saved as it was trained, and the advice is written beside it.
    """

    def advise(self, scales: Sequence[float], rows: Sequence[Row]) -> Advice:
        """Measure the base and each of `scales` on held-out rows, and recommend one."""
        ...


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


def recommend(points: Sequence[ScalePoint], monitor: Monitor, least: float) -> Advice:
    """The smallest scale that can't be told from the best one and keeps enough of the base.

    Beyond that knee more strength costs what the base knew and buys nothing that was measured.

    Args:
        points: with intervals; the first is the base.
        least: of `retained`, which a scale must keep to be recommended.
    """
    base, tried = points[0], points[1:]
    best = base
    for point in tried:
        if monitor.better(point.value, best.value):
            best = point
    if best is base:
        reason = f"no strength has a better {monitor.name} than the base: keep the base"
        return Advice(tuple(points), 0.0, reason)

    def as_good(point: ScalePoint) -> bool:
        bound = best.low if monitor.higher_is_better else best.high
        limit = best.value if bound is None or not math.isfinite(bound) else bound
        within = point.value >= limit if monitor.higher_is_better else point.value <= limit
        return within and monitor.better(point.value, base.value)

    def keeps(point: ScalePoint) -> bool:
        return point.retained is None or point.retained >= least

    knee = next(point for point in tried if as_good(point))
    if keeps(knee):
        if knee is best:
            reason = f"it has the best {monitor.name}, and no smaller one comes within its interval"
        else:
            reason = (
                f"the smallest whose {monitor.name} is within the interval of the best, "
                f"{best.scale:g}"
            )
        return Advice(tuple(points), knee.scale, reason)
    kept = [p for p in tried if keeps(p) and monitor.better(p.value, base.value)]
    if not kept:
        reason = (
            f"no strength has a better {monitor.name} than the base and keeps {least:g} of the "
            "content: keep the base, or lower the least"
        )
        return Advice(tuple(points), 0.0, reason)
    chosen = kept[0]
    for point in kept:
        if monitor.better(point.value, chosen.value):
            chosen = point
    reason = (
        f"the best {monitor.name} among those that keep {least:g} of the content; "
        f"{knee.scale:g} would have more of the look and keeps {knee.retained:.2f}"
    )
    return Advice(tuple(points), chosen.scale, reason)
