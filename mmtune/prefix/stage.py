"""A stage of the frozen prefix: what it computes, and the key of what it stores."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from torch import Tensor

from mmtune.system.hashing import hash_text

Tensors = dict[str, Tensor]


@dataclass(frozen=True)
class Part:
    """One frozen branch of one item: its audio, its pixels, one caption.

    `source` and `view` identify it; `origin` is what the stage opens to compute it (a row, a
    caption) and takes no part in equality.
    """

    stage: str
    source: str
    view: int = 0
    origin: Any = field(default=None, compare=False, hash=False, repr=False)


class Stage(Protocol):
    """A frozen prefix, ending at the first adapted layer."""

    fingerprint: str
    """Hash of all that a value depends on besides its `Part`: weights below the cut, the cut,
    preprocessing and its version, dtype."""

    block: int
    """Parts per `encode` call. On the CPU it is 1, so that no value can depend on its
    batch-mates; on an accelerator `encode` pads its input to a fixed block."""

    def shape_key(self, part: Part) -> str:
        """Parts with different keys never share an `encode` call (window, bucket)."""
        ...

    def encode(self, parts: Sequence[Part]) -> list[Tensors]:
        """Compute at most `block` parts of one shape key. Pure: no randomness but `view`'s."""
        ...


def part_key(stage: Stage, part: Part) -> str:
    """The cache key: everything that the stored value depends on, and never a position."""
    return hash_text(f"{stage.fingerprint}|{part.stage}|{part.source}|{part.view}")
