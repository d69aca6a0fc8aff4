"""Random numbers of a row, which depend only on the seed, the epoch and the row's id.

So a row gets the same view, dropout, noise and timestep in any batch, on any process and after any
interruption.
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
        """Draw a 63-bit integer for the purpose `name`; different names are independent."""
        text = f"{self.seed}|{self.epoch}|{self.row}|{name}"
        return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1

    def uniform(self, name: str) -> float:
        """Draw a number uniformly from [0, 1)."""
        return (self.key(name) >> 10) / 2**53

    def integer(self, name: str, n: int) -> int:
        """Draw an integer uniformly from [0, n)."""
        return self.key(name) % n

    def normal(self, name: str, shape: tuple[int, ...]) -> torch.Tensor:
        """Draw a standard normal float32 tensor, on the CPU so that all devices get the same."""
        generator = torch.Generator().manual_seed(self.key(name))
        return torch.randn(shape, generator=generator)
