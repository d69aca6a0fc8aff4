"""A stage of the frozen prefix: its interface, its inputs and the cache keys of its outputs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from torch import Tensor

from mmtune.system.hashing import hash_text

Tensors = dict[str, Tensor]


@dataclass(frozen=True)
class Part:
    """One input of a stage: an item's audio, its pixels or one of its captions.

    `source` and `view` identify it. `origin` is the object that the stage reads (a row, a
    caption); it doesn't count when parts are compared.
    """

    stage: str
    source: str
    view: int = 0
    origin: Any = field(default=None, compare=False, hash=False, repr=False)


class Stage(Protocol):
    """A frozen part of a model that ends at or before the first adapted layer."""

    fingerprint: str
    """Hash of everything that a value depends on, apart from its `Part`: the frozen weights, the
    layer at which the prefix ends, the preprocessing with its version, and the dtype."""

    block: int
    """Number of parts in one `encode` call. It is 1 on the CPU, so that a value can't depend on
    other parts of its batch; on an accelerator `encode` pads its input to a fixed block."""

    def shape_key(self, part: Part) -> str:
        """Return a key (window, bucket); parts with different keys never share a call."""
        ...

    def encode(self, parts: Sequence[Part]) -> list[Tensors]:
        """Compute at most `block` parts of one shape key; only `view` may add randomness."""
        ...


def part_key(stage: Stage, part: Part) -> str:
    """Return the cache key: a hash of everything that the value depends on, without positions."""
    return hash_text(f"{stage.fingerprint}|{part.stage}|{part.source}|{part.view}")
