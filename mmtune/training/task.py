"""The interface between the training loop and a modality.

A model is divided in two parts. The frozen *prefix* (all below the first adapted layer) is computed
once per item by `Stage`s and stored. The trainable rest, `Task.module`, reads the stored tensors.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypedDict

import torch
from torch import Tensor, nn

from mmtune.data.rows import Row
from mmtune.prefix.features import Features
from mmtune.prefix.stage import Part, Tensors
from mmtune.training.randomness import Draw

if TYPE_CHECKING:
    from mmtune.system.memory import Phase

VALIDATION_ROWS = 16  # rows of one forward in `Task.validate`
FIXED_EPOCH = -1  # of the draws of validation, which are the same every time


@dataclass(frozen=True)
class Example:
    """A row in one step: the parts that it reads, and the random choices made for it."""

    row: Row
    parts: tuple[Part, ...]
    choices: Mapping[str, Any] = field(default_factory=dict)


Batch = dict[str, Any]


@dataclass(frozen=True)
class Loss:
    """The loss of a batch as sums per row, so that any division of a batch gives one gradient.

    Attributes:
        total: summed loss of each row, [rows], differentiable; the loop applies row weights.
        units: number of units in each row (tokens, latent elements) for the division, [rows].
    """

    total: Tensor
    units: Tensor


class ParamGroup(TypedDict, total=False):
    """A parameter group of the optimizer; its `lr` overrides the run's."""

    params: list[nn.Parameter]
    lr: float
    weight_decay: float


@dataclass(frozen=True)
class Monitor:
    """The validation metric that decides which weights are best."""

    name: str
    higher_is_better: bool

    def better(self, new: float, old: float | None) -> bool:
        """Whether `new` is better than `old`; a non-finite value never is."""
        if not torch.isfinite(torch.tensor(new)):
            return False
        return old is None or (new > old if self.higher_is_better else new < old)


class Task(Protocol):
    """What the training loop needs from a modality.

    A class that inherits from it needs `base_hash`, `module`, `collate` and `save`. All else has a
    default: no frozen prefix, one bucket, and the loss decides which weights are best.
    """

    features: Features = Features({}, None)
    """The stages of the frozen prefix with their cache; validation reads them too. Default: no
    prefix."""
    base_hash: str
    """Hash of the base's weights, for the adapter's card."""
    module: nn.Module
    """The trainable module; `forward(batch)` returns a `Loss`. It holds the whole trainable path,
    so that DDP and FSDP can synchronise it. The loop calls it only through Accelerate's wrapper."""
    monitor: Monitor = Monitor("loss", higher_is_better=False)

    def variants(self, row: Row) -> Iterable[Part]:
        """List every part that `choose` may pick for `row`; all of them are put into the cache."""
        return ()

    def bucket(self, row: Row) -> str:
        """Return a row's bucket (window, aspect); rows of different buckets never share a batch."""
        return ""

    def choose(self, row: Row, draw: Draw) -> Example:
        """Choose the view, caption dropout and prompt dropout of a row in this epoch."""
        return Example(row, tuple(self.variants(row)))

    @abstractmethod
    def collate(
        self,
        examples: Sequence[Example],
        tensors: Sequence[Mapping[str, Tensors]],
        draws: Sequence[Draw],
    ) -> Batch:
        """Build the batch; `tensors[i][stage]` are the stored tensors of `examples[i]`."""
        ...

    def param_groups(self) -> list[ParamGroup]:
        """Return the trainable parameters in groups for the optimizer."""
        return [{"params": [p for p in self.module.parameters() if p.requires_grad]}]

    @torch.no_grad()
    def validate(self, rows: Sequence[Row]) -> dict[str, float]:
        """Compute metrics on held-out rows with the current weights, also `monitor.name`.

        Default: the loss per unit of the objective, with the same random draws every time.
        """
        return {"loss": mean_loss(self, rows)}

    def lighter(self, doing: Phase) -> Sequence[str]:
        """List the modality's settings that need less memory, as `--name value (why)`, in the
        order to try them; the loop adds its own settings."""
        return ()

    @abstractmethod
    def save(self, folder: Path) -> None:
        """Write the adapter in its library's own format."""
        ...


def mean_loss(task: Task, rows: Sequence[Row]) -> float:
    """The loss per unit of the objective over rows, with fixed draws; nan for no rows."""
    was_training, device = task.module.training, next(task.module.parameters()).device
    task.module.eval()
    total = units = 0.0
    for start in range(0, len(rows), VALIDATION_ROWS):
        some = rows[start : start + VALIDATION_ROWS]
        draws = [Draw(0, FIXED_EPOCH, row.id) for row in some]
        examples = [task.choose(row, draw) for row, draw in zip(some, draws, strict=True)]
        tensors = iter(task.features.get([part for each in examples for part in each.parts]))
        stored = [{part.stage: next(tensors) for part in each.parts} for each in examples]
        batch = task.collate(examples, stored, draws)
        loss = task.module({k: v.to(device) if hasattr(v, "to") else v for k, v in batch.items()})
        total, units = total + float(loss.total.sum()), units + float(loss.units.sum())
    task.module.train(was_training)
    return total / units if units else math.nan
