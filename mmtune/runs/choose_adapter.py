"""Which checkpoint and which strength of a trained adapter to use, and why."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mmtune.adapters.card import tried
from mmtune.config import RunConfig
from mmtune.data.rows import Row
from mmtune.system.memory import guarded

if TYPE_CHECKING:
    from mmtune.data.dataset import Dataset
    from mmtune.train.loop import FitResult
    from mmtune.train.selection import Advice, Point, Trial
    from mmtune.train.task import Task

Note = Callable[[str], None]
Retention = Callable[[], Sequence[Row]]
"""Gives the rows that must not get worse; called only where they are needed."""


@dataclass(frozen=True)
class KeptStep:
    """The step whose weights the module has.

    Attributes:
        values: of its validation.
        points: what was measured of each, the base first; empty where none were compared.
        reason: of the choice, in words; empty likewise.
    """

    step: int
    values: Mapping[str, float]
    points: tuple[Point, ...] = ()
    reason: str = ""


@dataclass(frozen=True)
class Strength:
    """How strongly the adapter is saved, and is to be used.

    Attributes:
        scale: that is multiplied into what is saved.
        points: what was measured of each, the base first; empty where none were compared.
        advised: to use it at, where users choose with each use.
        reason: of the advice, in words.
    """

    scale: float = 1.0
    points: tuple[Point, ...] = ()
    advised: float | None = None
    reason: str = ""


def choose_checkpoint(
    config: RunConfig,
    dataset: Dataset,
    task: Task,
    result: FitResult,
    retention: Retention,
    note: Note,
) -> KeptStep:
    """Compare the checkpoints that `train.compare_checkpoints` has kept, and load the chosen one.

    A task that advises measures them as it does strengths; another by its own validation, without
    harm to the retention rows. Where none is better than the base it stays with validation's best.
    """
    from mmtune.train.selection import CHECKPOINTS, Trial
    from mmtune.train.snapshots import read_snapshots
    from mmtune.train.strength import put

    best = KeptStep(result.best_step, result.best)
    kept = read_snapshots(config.folder) if config.train.compare_checkpoints else []
    if len(kept) < 3 or not dataset.split("validation"):  # the base and one: nothing to choose
        return best
    trials = [Trial(1.0 if each.step else 0.0, each.step, each.weights) for each in kept]
    advice = _advice(config, dataset, task, trials, CHECKPOINTS, retention, note)
    found = next(each for each in kept if each.step == advice.chosen.step)
    reason = advice.reason
    if not found.step:
        found = next(each for each in kept if each.step == result.best_step)
        reason = f"best in validation; {reason}"
    put(task.module, found.weights)
    note(f"checkpoint step {found.step}: {reason}")
    return KeptStep(found.step, found.values, advice.points, reason)


def choose_strength(
    config: RunConfig, dataset: Dataset, task: Task, retention: Retention, note: Note
) -> Strength:
    """Try `train.scales` on validation rows, and on rows that must not get worse.

    A task that advises keeps its adapter whole; of another the chosen strength goes into it.
    """
    from mmtune.train.selection import STRENGTHS, Advises, strengths
    from mmtune.train.strength import can_scale

    scales, advises = config.train.scales, isinstance(task, Advises)
    if len(scales) == 1 and not advises:
        return Strength(scales[0])
    if len(scales) == 1 or not dataset.split("validation"):
        return Strength()
    if not can_scale(task.module):
        if advises:
            note("strengths are not compared: DoRA has none between base and whole")
        return Strength()
    advice = _advice(config, dataset, task, strengths(scales), STRENGTHS, retention, note)
    if advises:
        note(f"advice     scale {advice.chosen.scale:g}: {advice.reason}")
        return Strength(1.0, advice.points, advice.chosen.scale, advice.reason)
    if advice.chosen.scale:
        note(f"chosen     scale {advice.chosen.scale:g}")
        return Strength(advice.chosen.scale, advice.points)
    # An adapter without effect would be refused everywhere; the figures say what it is.
    least = min(scales)
    note(
        f"no strength is better than the base and keeps what it had; saved at {least:g}: "
        "keep the base"
    )
    return Strength(least, advice.points)


def _advice(
    config: RunConfig,
    dataset: Dataset,
    task: Task,
    trials: Sequence[Trial],
    name: str,
    retention: Retention,
    note: Note,
) -> Advice:
    """Measure the trials, and say what was found."""
    from mmtune.train.selection import Advice, Advises, best_point, sweep

    validation, may_lose = dataset.split("validation"), config.train.may_lose
    with _guarded(task):
        if isinstance(task, Advises):
            advice = task.advise(trials, validation, name)
        else:
            points = sweep(task, trials, validation, retention())
            best = best_point(points, task.monitor, may_lose)
            advice = Advice(tuple(points), best, _reason(points, best, task.monitor.name, may_lose))
    for label, figures in tried([dataclasses.asdict(point) for point in advice.points]):
        note(f"{label:<10} {figures}")
    return advice


def _reason(points: Sequence[Point], best: Point, name: str, may_lose: float) -> str:
    retained = any(point.retained is not None for point in points)
    if best is points[0]:
        keeps = f" and loses at most {may_lose:g} of it on other rows" if retained else ""
        return f"none has a better {name} than the base{keeps}"
    keeps = f" of those that lose at most {may_lose:g} of it on other rows" if retained else ""
    return f"the best {name}{keeps}"


def _guarded(task: Task) -> AbstractContextManager[None]:
    return guarded("sampling", lambda: task.lighter("sampling"))
