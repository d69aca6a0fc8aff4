"""The interface between the training loop and a modality.

A model is divided in two parts. The frozen *prefix* (all below the first adapted layer) is computed
once per item by `Stage`s and stored. The trainable rest, `Task.module`, reads the stored tensors.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypedDict

import torch
from torch import Tensor, nn

from mmtune.data.rows import Row
from mmtune.prefix.stage import Part, Tensors
from mmtune.train.randomness import Draw

if TYPE_CHECKING:
    from mmtune.prefix.features import Features
    from mmtune.system.memory import Phase


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
    """What the training loop needs from a modality."""

    features: Features
    """The stages of the frozen prefix with their cache; validation reads them too."""
    base_hash: str
    """Hash of the base's weights, for the adapter's card."""
    module: nn.Module
    """The trainable module; `forward(batch)` returns a `Loss`. It holds the whole trainable path,
    so that DDP and FSDP can synchronise it. The loop calls it only through Accelerate's wrapper."""
    monitor: Monitor

    def variants(self, row: Row) -> Iterable[Part]:
        """List every part that `choose` may pick for `row`; all of them are put into the cache."""
        ...

    def bucket(self, row: Row) -> str:
        """Return a row's bucket (window, aspect); rows of different buckets never share a batch."""
        ...

    def choose(self, row: Row, draw: Draw) -> Example:
        """Choose the view, caption dropout and prompt dropout of a row in this epoch."""
        ...

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
        ...

    def validate(self, rows: Sequence[Row]) -> dict[str, float]:
        """Compute metrics on held-out rows with the current weights, also `monitor.name`."""
        ...

    def lighter(self, doing: Phase) -> Sequence[str]:
        """List the modality's settings that need less memory, as `--name value (why)`, in the
        order to try them; the loop adds its own settings."""
        ...

    def save(self, folder: Path) -> None:
        """Write the adapter in its library's own format."""
        ...
