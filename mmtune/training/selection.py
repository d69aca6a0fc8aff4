"""Select the strength of a trained adapter, and the checkpoint to use.

Both are compared on held-out rows and on rows that must not get worse, in the same way.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

from torch import Tensor, nn

from mmtune.data.rows import Row
from mmtune.training.strength import replaced, scaled
from mmtune.training.task import Monitor, Task

STRENGTHS, CHECKPOINTS = COMPARED = "strengths", "checkpoints"  # names of comparisons


@dataclass(frozen=True, eq=False)
class Trial:
    """A state of an adapter to measure; the first of several is the base.

    Attributes:
        scale: strength; 0 is the base, 1 the adapter as it was trained.
        step: the step after which the adapter had `weights`; None: the module's weights are used.
        weights: weights by the module's parameter names.
    """

    scale: float = 1.0
    step: int | None = None
    weights: Mapping[str, Tensor] | None = None

    @contextmanager
    def applied(self, module: nn.Module) -> Iterator[None]:
        """Put `module` into this state inside the context."""
        how = scaled(module, self.scale) if self.weights is None else replaced(module, self.weights)
        with how:
            yield

    @property
    def name(self) -> str:
        """The state's name for messages."""
        return name_of(self.scale, self.step)


@dataclass(frozen=True)
class Point:
    """The measurements of one `Trial`.

    Attributes:
        scale, step: the trial's scale and step.
        value: the task's monitor on the validation rows.
        retained: the monitor on the retention rows; None if there are none. For a task that
            advises, the share of the base's content that is kept; 1 for the base.
        low, high: 95 % interval of `value`, if the task gives one.
        figures: further measurements by name.
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
        """The point's name for messages."""
        return name_of(self.scale, self.step)


def name_of(scale: float, step: int | None) -> str:
    """Name a state: `base`, `step 40` or `scale 0.5`."""
    if scale == 0:
        return "base"
    return f"scale {scale:g}" if step is None else f"step {step}"


@dataclass(frozen=True)
class Advice:
    """The recommended state of an adapter; giving advice doesn't change the weights.

    Attributes:
        points: the measurements, the base first.
        chosen: the recommended point; the first point means the base.
        reason: the reason in words.
    """

    points: tuple[Point, ...]
    chosen: Point
    reason: str


@runtime_checkable
class Advises(Protocol):
    """A task whose strength is a matter of taste, so that users choose it at each use.

    Its adapter is saved at full strength, and the advice is written into its card.
    """

    def advise(self, trials: Sequence[Trial], rows: Sequence[Row], name: str) -> Advice:
        """Measure each trial on held-out rows, the base first, and recommend one.

        Args:
            trials: the states to measure, the base first.
            rows: the held-out rows.
            name: name of this comparison, for files and messages.
        """
        ...


def strengths(scales: Sequence[float]) -> list[Trial]:
    """Make trials of the base and of the adapter at each of `scales`, smallest first."""
    return [Trial(scale) for scale in sorted({0.0, *scales})]


def sweep(
    task: Task, trials: Sequence[Trial], validation: Sequence[Row], retention: Sequence[Row]
) -> list[Point]:
    """Measure each trial with the task's validation.

    Args:
        task: the task.
        trials: the states to measure, the base first.
        validation: the validation rows.
        retention: rows that must not get worse; may be empty.
    """
    points = []
    for trial in trials:
        with trial.applied(task.module):
            value = task.validate(validation)[task.monitor.name]
            kept = task.validate(retention)[task.monitor.name] if retention else None
        points.append(Point(trial.scale, value, kept, step=trial.step))
    return points


def best_point(points: Sequence[Point], monitor: Monitor, may_lose: float) -> Point:
    """Choose the point with the best value among those that lose little on the retention rows.

    Args:
        points: the measurements; the first is the base.
        monitor: the metric.
        may_lose: how much worse than the base's a point's `retained` may be, in the metric's unit.

    Returns:
        The best point; the base if no such point is better than the base.
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


def are_alike(points: Sequence[Point]) -> bool:
    """Whether several points measure the same on all rows, so that nothing tells them apart."""
    return len(points) > 1 and len({str((point.value, point.retained)) for point in points}) == 1


def recommend(points: Sequence[Point], monitor: Monitor, least: float) -> Advice:
    """Recommend the smallest strength, or earliest step, that is as good as the best one.

    "As good" means within the best one's interval. A larger strength would lose more of the base's
    content without a measurable gain.

    Args:
        points: measurements with intervals, by ascending strength or step; the first is the base.
        monitor: the metric.
        least: the least `retained` of a point that may be recommended.
    """
    base, tried = points[0], points[1:]
    by_step = any(point.step is not None for point in tried)
    kind, first = ("checkpoint", "earliest") if by_step else ("strength", "smallest")
    best = base
    for point in tried:
        if monitor.better(point.value, best.value):
            best = point
    if best is base:
        reason = f"no {kind} has a better {monitor.name} than the base; use the base"
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
                f"it has the best {monitor.name}, and no {'earlier' if by_step else 'smaller'} "
                f"{kind} comes within its interval"
            )
        else:
            reason = (
                f"the {first} {kind} whose {monitor.name} is within the interval of the best "
                f"({best.name})"
            )
        return Advice(tuple(points), knee, reason)
    kept = [p for p in tried if keeps(p) and monitor.better(p.value, base.value)]
    if not kept:
        reason = (
            f"no {kind} has a better {monitor.name} than the base and also keeps {least:g} of the "
            "content; use the base, or accept that less content is kept"
        )
        return Advice(tuple(points), base, reason)
    chosen = kept[0]
    for point in kept:
        if monitor.better(point.value, chosen.value):
            chosen = point
    reason = (
        f"the best {monitor.name} of those that keep {least:g} of the content; "
        f"{knee.name} has a better {monitor.name} but keeps only {knee.retained:.2f}"
    )
    return Advice(tuple(points), chosen, reason)
