"""How strongly a trained adapter should act, and after which step it should have stopped.

Both are tried on held-out rows, and on what must stay, in the same way.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

from torch import Tensor, nn

from mmtune.data.rows import Row
from mmtune.train.strength import replaced, scaled
from mmtune.train.task import Monitor, Task

STRENGTHS, CHECKPOINTS = COMPARED = "strengths", "checkpoints"  # names of comparisons


@dataclass(frozen=True, eq=False)
class Trial:
    """One state of an adapter that is to be measured; the first of several is the base.

    Attributes:
        scale: 0 is the base, 1 the adapter as it was trained.
        step: after which it has `weights`; None: those that the module has.
        weights: by the module's names of them.
    """

    scale: float = 1.0
    step: int | None = None
    weights: Mapping[str, Tensor] | None = None

    @contextmanager
    def applied(self, module: nn.Module) -> Iterator[None]:
        """Within it, `module` is in this state."""
        how = scaled(module, self.scale) if self.weights is None else replaced(module, self.weights)
        with how:
            yield

    @property
    def name(self) -> str:
        """For people."""
        return name_of(self.scale, self.step)


@dataclass(frozen=True)
class Point:
    """What was measured of one `Trial`.

    Attributes:
        scale, step: the trial's.
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
    step: int | None = None

    @property
    def name(self) -> str:
        """For people."""
        return name_of(self.scale, self.step)


def name_of(scale: float, step: int | None) -> str:
    """`base`, `step 40` or `scale 0.5`."""
    if scale == 0:
        return "base"
    return f"scale {scale:g}" if step is None else f"step {step}"


@dataclass(frozen=True)
class Advice:
    """Which of several states to use; nothing is changed in the weights.

    Attributes:
        points: what was measured, the base first.
        chosen: the recommended one; the first advises the base.
        reason: in words.
    """

    points: tuple[Point, ...]
    chosen: Point
    reason: str


@runtime_checkable
class Advises(Protocol):
    """A task whose strength is a matter of taste: users choose it with each use.

    Its adapter is saved as it was trained, and the advice is written beside it.
    """

    def advise(self, trials: Sequence[Trial], rows: Sequence[Row], name: str) -> Advice:
        """Measure each trial on held-out rows, the base first, and recommend one.

        Args:
            name: of this comparison, for what is written of it.
        """
        ...


def strengths(scales: Sequence[float]) -> list[Trial]:
    """The base, and the adapter at each of `scales`, smallest first."""
    return [Trial(scale) for scale in sorted({0.0, *scales})]


def sweep(
    task: Task, trials: Sequence[Trial], validation: Sequence[Row], retention: Sequence[Row]
) -> list[Point]:
    """Measure each trial by the task's own validation.

    Args:
        trials: the base first.
        validation: rows of what was trained.
        retention: rows of what must not get worse; may be none.
    """
    points = []
    for trial in trials:
        with trial.applied(task.module):
            value = task.validate(validation)[task.monitor.name]
            kept = task.validate(retention)[task.monitor.name] if retention else None
        points.append(Point(trial.scale, value, kept, step=trial.step))
    return points


def best_point(points: Sequence[Point], monitor: Monitor, may_lose: float) -> Point:
    """The one with the best value among those that keep what must stay.

    Args:
        points: of `sweep`; the first is the base.
        may_lose: how much worse than the base's `retained` may be, in the monitor's unit.

    Returns:
        The base where none is better and keeps what it had.
    """
    base, best = points[0], points[0]
    for point in points[1:]:
        if point.retained is not None and base.retained is not None:
            loss = point.retained - base.retained
            if (-loss if monitor.higher_is_better else loss) > may_lose:
                continue
        if monitor.better(point.value, best.value):
            best = point
    return best


def recommend(points: Sequence[Point], monitor: Monitor, least: float) -> Advice:
    """The smallest strength (or earliest step) that can't be told from the best one and keeps
    enough of the base.

    Beyond that knee more of it costs what the base knew and buys nothing that was measured.

    Args:
        points: with intervals, in the order of strength or time; the first is the base.
        least: of `retained`, which a point must keep to be recommended.
    """
    base, tried = points[0], points[1:]
    by_step = any(point.step is not None for point in tried)
    kind, first = ("checkpoint", "earliest") if by_step else ("strength", "smallest")
    best = base
    for point in tried:
        if monitor.better(point.value, best.value):
            best = point
    if best is base:
        reason = f"no {kind} has a better {monitor.name} than the base: keep the base"
        return Advice(tuple(points), base, reason)

    def as_good(point: Point) -> bool:
        bound = best.low if monitor.higher_is_better else best.high
        limit = best.value if bound is None or not math.isfinite(bound) else bound
        within = point.value >= limit if monitor.higher_is_better else point.value <= limit
        return within and monitor.better(point.value, base.value)

    def keeps(point: Point) -> bool:
        return point.retained is None or point.retained >= least

    knee = next(point for point in tried if as_good(point))
    if keeps(knee):
        if knee is best:
            reason = (
                f"it has the best {monitor.name}, and no {'earlier' if by_step else 'smaller'} one "
                "comes within its interval"
            )
        else:
            reason = (
                f"the {first} whose {monitor.name} is within the interval of the best, {best.name}"
            )
        return Advice(tuple(points), knee, reason)
    kept = [p for p in tried if keeps(p) and monitor.better(p.value, base.value)]
    if not kept:
        reason = (
            f"no {kind} has a better {monitor.name} than the base and keeps {least:g} of the "
            "content: keep the base, or lower the least"
        )
        return Advice(tuple(points), base, reason)
    chosen = kept[0]
    for point in kept:
        if monitor.better(point.value, chosen.value):
            chosen = point
    reason = (
        f"the best {monitor.name} among those that keep {least:g} of the content; "
        f"{knee.name} would have more of the look and keeps {knee.retained:.2f}"
    )
    return Advice(tuple(points), chosen, reason)
