"""Ways to use several adapters, and the test sets on which they are compared."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from mmtune.adapters.members import Member
from mmtune.adapters.routing import Router
from mmtune.config import RunConfig
from mmtune.data.rows import Row

if TYPE_CHECKING:
    from mmtune.data.dataset import Dataset


@dataclass(frozen=True)
class Ways:
    """Adapters to load on one base, and what of them is on for a row, by the way's name."""

    modality: str
    base: str
    adapters: Mapping[str, Path]
    choices: Mapping[str, Router]
    parts: tuple[Member, ...]
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class TestSet:
    """Items that ways are tried on: a run's own test items, or a manifest's.

    Attributes:
        config: of the run; of a manifest, that of the first part.
    """

    name: str
    config: RunConfig
    dataset: Dataset


def constant(weights: Mapping[str, float]) -> Router:
    """The same adapters for every row."""

    def choose(_: Row) -> Mapping[str, float]:
        return weights

    return choose
