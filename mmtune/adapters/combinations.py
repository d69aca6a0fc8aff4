"""The ways to use several adapters (alone, together, merged), and the test sets to compare on."""

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
    """Ways to use several adapters of one base.

    Attributes:
        modality: the adapters' modality.
        base: the base model.
        adapters: adapter folders by name.
        choices: by the name of the way, which adapters it uses for a row.
        parts: the adapters with their cards.
        notes: messages for the user, such as a way that can't be used.
    """

    modality: str
    base: str
    adapters: Mapping[str, Path]
    choices: Mapping[str, Router]
    parts: tuple[Member, ...]
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class TestSet:
    """Items on which ways are compared: a run's own test items, or a manifest's.

    Attributes:
        name: name of the test set in the table.
        config: the run's configuration; for a manifest, the first part's.
        dataset: the items.
        whole: whether all items are scored, and not the test items alone.
        note: which items are scored, where that isn't plain; empty otherwise.
    """

    name: str
    config: RunConfig
    dataset: Dataset
    whole: bool = False
    note: str = ""


def constant(weights: Mapping[str, float]) -> Router:
    """Make a router that gives the same adapters for every row."""

    def choose(_: Row) -> Mapping[str, float]:
        return weights

    return choose
