"""The protocols between the training core and a modality. The core knows nothing beyond these.

A model is cut in two: a frozen *prefix* (everything below the first adapted layer), computed once
an item by `Stage`s and stored, and the trainable rest, `Task.module`, which reads stored tensors.
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
from mmtune.train.randomness import Draw

if TYPE_CHECKING:
    from mmtune.system.memory import Phase

VALIDATION_ROWS = 16  # rows of one forward in `Task.validate`
FIXED_EPOCH = -1  # of the draws of validation, which are the same every time


@dataclass(frozen=True)
class Example:
    """One row as it is used in one step: which parts it reads, and what was drawn for it."""

    row: Row
    parts: tuple[Part, ...]
    choices: Mapping[str, Any] = field(default_factory=dict)


Batch = dict[str, Any]


@dataclass(frozen=True)
class Loss:
    """Per-row sums, never means, so that any split of a batch gives the same gradient.

    Attributes:
        total: [rows] summed loss of each row, differentiable; the loop applies row weights.
        units: [rows] what each row counts for in the division (tokens, latent elements).
    """

    total: Tensor
    units: Tensor


class ParamGroup(TypedDict, total=False):
    """An optimizer's parameter group; `lr` overrides the run's."""

    params: list[nn.Parameter]
    lr: float
    weight_decay: float


@dataclass(frozen=True)
class Monitor:
    """The validation metric that decides what "best" means."""

    name: str
    higher_is_better: bool

    def better(self, new: float, old: float | None) -> bool:
        """Whether `new` beats `old`; a non-finite value never does."""
        if not torch.isfinite(torch.tensor(new)):
            return False
        return old is None or (new > old if self.higher_is_better else new < old)


class Task(Protocol):
    """All that the loop knows of a modality.

    A class that names it as its base needs `base_hash`, `module`, `collate` and `save`. The rest
    then has a default: no frozen prefix, one bucket, and the loss decides which weights are kept.
    """

    features: Features = Features({}, None)
    """The stages of the frozen prefix, with their cache; validation reads them too. Default: no
    prefix."""
    base_hash: str
    """Hash of the base's weights, for the adapter's card."""
    module: nn.Module
    """Its `forward(batch)` returns `Loss` and holds the whole trainable path, so that DDP and
    FSDP synchronise it. The loop calls only the wrapper that Accelerate prepared."""
    monitor: Monitor = Monitor("loss", higher_is_better=False)

    def variants(self, row: Row) -> Iterable[Part]:
        """Every part that `choose` may ever pick for `row`: finite, filled into the cache."""
        return ()

    def bucket(self, row: Row) -> str:
        """Rows with different buckets never share a batch (window, aspect)."""
        return ""

    def choose(self, row: Row, draw: Draw) -> Example:
        """Pick view, caption dropout, prompt dropout for this row and epoch."""
        return Example(row, tuple(self.variants(row)))

    @abstractmethod
    def collate(
        self,
        examples: Sequence[Example],
        tensors: Sequence[Mapping[str, Tensors]],
        draws: Sequence[Draw],
    ) -> Batch:
        """Build the batch. `tensors[i][stage]` is what `examples[i]`'s part of it stored."""
        ...

    def param_groups(self) -> list[ParamGroup]:
        """The trainable parameters."""
        return [{"params": [p for p in self.module.parameters() if p.requires_grad]}]

    @torch.no_grad()
    def validate(self, rows: Sequence[Row]) -> dict[str, float]:
        """Metrics on held-out rows with the current weights; has the key `monitor.name`.

        Default: the loss per unit of the objective, with draws that are the same every time.
        """
        return {"loss": mean_loss(self, rows)}

    def lighter(self, doing: Phase) -> Sequence[str]:
        """The modality's settings that would take less memory, as `--name value (why)`, in the
        order to try them; the loop names its own."""
        return ()

    @abstractmethod
    def save(self, folder: Path) -> None:
        """Write the adapter in the format that its own library loads."""
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
