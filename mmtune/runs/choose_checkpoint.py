"""Choose the checkpoint and the strength of a trained adapter, with the reason."""

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
    from mmtune.training.reporter import FitResult
    from mmtune.training.selection import Advice, Point, Trial
    from mmtune.training.task import Task

Note = Callable[[str], None]
Retention = Callable[[], Sequence[Row]]
"""A function that gives the rows that must not get worse; it is called only if needed."""


@dataclass(frozen=True)
class KeptStep:
    """The chosen checkpoint, whose weights the module now has.

    Attributes:
        step: its step.
        values: its validation metrics.
        points: measurements of all compared checkpoints, the base first; empty without comparison.
        reason: the reason for the choice; empty without comparison.
    """

    step: int
    values: Mapping[str, float]
    points: tuple[Point, ...] = ()
    reason: str = ""


@dataclass(frozen=True)
class Strength:
    """The strength at which an adapter is saved, and the recommended strength.

    Attributes:
        scale: factor on the saved weights.
        points: measurements of all compared strengths, the base first; empty without comparison.
        advised: the recommended strength, if users choose it at each use.
        reason: the reason for the recommendation.
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
    """Compare the checkpoints that `train.compare_checkpoints` kept, and load the best one.

    A task that advises measures them like strengths. Other tasks use their validation, and lose
    little on the retention rows. If no checkpoint is better than the base, the best one of the
    validation is used.
    """
    from mmtune.training.kept_weights import read_snapshots
    from mmtune.training.selection import CHECKPOINTS, Trial
    from mmtune.training.strength import can_scale, put

    best = KeptStep(result.best_step, result.best)
    kept = read_snapshots(config.folder) if config.train.compare_checkpoints else []
    if len(kept) < 3 or not dataset.split("validation"):  # only the base and one checkpoint
        return best
    if config.init is None:
        trials = [Trial(1.0 if each.step else 0.0, each.step, each.weights) for each in kept]
    elif can_scale(task.module):  # step 0 is the adapter that training started from
        trials = [Trial(0.0), *(Trial(1.0, each.step, each.weights) for each in kept[1:])]
    else:
        note("checkpoints are not compared, because a DoRA that starts from another has no base")
        return best
    advice = _advice(config, dataset, task, trials, CHECKPOINTS, retention, note)
    chosen = advice.chosen.step or 0
    found = next(each for each in kept if each.step == chosen)
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
    """Compare `train.scales` on validation rows, and on rows that must not get worse.

    If the task advises, the adapter is saved at full strength. Otherwise its weights are scaled to
    the chosen strength. Where all strengths measure the same, nothing tells which is better, and
    the weights stay as they were trained.
    """
    from mmtune.training.selection import STRENGTHS, Advises, are_alike, strengths
    from mmtune.training.strength import can_scale

    scales, advises = config.train.scales, isinstance(task, Advises)
    if len(scales) == 1 and not advises:
        return Strength(scales[0])
    if len(scales) == 1 or not dataset.split("validation"):
        return Strength()
    if not can_scale(task.module):
        if advises:
            note(f"strengths are not compared, because {config.method.title} can't be scaled")
        return Strength()
    advice = _advice(config, dataset, task, strengths(scales), STRENGTHS, retention, note)
    if advises:
        note(f"advice     scale {advice.chosen.scale:g}: {advice.reason}")
        return Strength(1.0, advice.points, advice.chosen.scale, advice.reason)
    better = bool(advice.chosen.scale)
    # Scale 0 isn't saved, because an adapter without effect is refused when it is loaded.
    scale, why = (advice.chosen.scale or min(scales)), ""
    if are_alike(advice.points[1:]):
        scale = 1.0 if 1.0 in scales else max(scales)
        why = ": all strengths measure the same"
    if better:
        note(f"chosen     scale {scale:g}{why}")
    else:
        note(f"chosen     the base: {advice.reason}. The adapter is saved at {scale:g}{why}")
    return Strength(scale, advice.points)


def _advice(
    config: RunConfig,
    dataset: Dataset,
    task: Task,
    trials: Sequence[Trial],
    name: str,
    retention: Retention,
    note: Note,
) -> Advice:
    """Measure the trials, choose one, and report all measurements."""
    from mmtune.training.selection import Advice, Advises, best_point, sweep

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
        keeps = f" and loses at most {may_lose:g} on retention rows" if retained else ""
        return f"none has a better {name} than the base{keeps}"
    keeps = f" of those that lose at most {may_lose:g} on retention rows" if retained else ""
    return f"it has the best {name}{keeps}"


def _guarded(task: Task) -> AbstractContextManager[None]:
    return guarded("sampling", lambda: task.lighter("sampling"))
