"""All randomness of a row comes from here: from the seed, the epoch and the row, never its place.

So a row draws the same view, dropout, noise and timestep in whatever batch, on whatever process
and after whatever interruption it is met.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class Draw:
    """The random numbers of one row in one epoch. Validation uses one fixed epoch."""

    seed: int
    epoch: int
    row: str

    def key(self, name: str) -> int:
        """A 63-bit integer for the purpose `name`; different names are independent."""
        text = f"{self.seed}|{self.epoch}|{self.row}|{name}"
        return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1

    def uniform(self, name: str) -> float:
        """A number in [0, 1)."""
        return (self.key(name) >> 10) / 2**53

    def integer(self, name: str, n: int) -> int:
        """An integer in [0, n)."""
        return self.key(name) % n

    def normal(self, name: str, shape: tuple[int, ...]) -> torch.Tensor:
        """Standard normal float32 tensor on the CPU: equal on every device and batch layout."""
        generator = torch.Generator().manual_seed(self.key(name))
        return torch.randn(shape, generator=generator)
