"""The adapters that a merge or a route uses, and the settings of a merge."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mmtune.adapters.card import Card, adapter_folder, read_card, weights_hash
from mmtune.adapters.integrity import check_adapter
from mmtune.adapters.named_base import base_identity
from mmtune.errors import AdapterError, ConfigError, did_you_mean
from mmtune.system.plugins import Registry

if TYPE_CHECKING:
    from torch import Tensor

Pairs = Sequence[tuple["Tensor", "Tensor"]]


@dataclass(frozen=True)
class MergeMethod:
    """A way to merge adapters: one record in `METHODS`.

    Attributes:
        name: the value of `--method`; without `combine`, PEFT's `combination_type`.
        meaning: a description in a few words.
        equal_ranks: whether all parts need the same rank.
        prunes: whether it drops values, so that `--density` has an effect.
        random: whether it drops values at random, so that `--seed` has an effect.
        own_rank: whether `--rank` has an effect.
        combine: merges one layer if PEFT doesn't know the method. It gets the pairs (A [rank, in],
            B [out, rank]; a pair's update is B A), their weights and the settings, and returns one
            pair with at most the sum of all ranks. Ranks may differ.
    """

    name: str
    meaning: str
    equal_ranks: bool = False
    prunes: bool = False
    random: bool = False
    own_rank: bool = False
    combine: Callable[[Pairs, Sequence[float], Mixing], tuple[Tensor, Tensor]] | None = None


# Only "cat" is exact for every set of adapters. "linear" adds the factors A and B of the parts
# instead of their products BA, so the parts interfere.
_BUILT_IN = (
    MergeMethod("cat", "exact sum of the updates; the ranks add up"),
    MergeMethod("svd", "sum of the updates, reduced to one rank", own_rank=True),
    MergeMethod(
        "linear", "adds the factors instead of the updates; needs equal ranks", equal_ranks=True
    ),
    MergeMethod(
        "ties", "TIES (arXiv 2306.01708); needs equal ranks", equal_ranks=True, prunes=True
    ),
    MergeMethod(
        "dare_linear",
        "DARE (arXiv 2311.03099), then linear; needs equal ranks",
        equal_ranks=True,
        prunes=True,
        random=True,
    ),
    MergeMethod(
        "dare_ties",
        "DARE, then TIES; needs equal ranks",
        equal_ranks=True,
        prunes=True,
        random=True,
    ),
    MergeMethod(
        "magnitude_prune",
        "keeps the largest values, then linear; needs equal ranks",
        equal_ranks=True,
        prunes=True,
    ),
)
METHODS: Registry[MergeMethod] = Registry(
    "merge method", "mmtune.merge_methods", {method.name: method for method in _BUILT_IN}
)
DENSITY = 0.5  # default share of values that the pruning methods keep


def methods_in_words(which: Callable[[MergeMethod], bool] = lambda method: True) -> str:
    """List the methods that fulfil `which`, each with its meaning, for help and errors."""
    return ", ".join(f"{n} ({each.meaning})" for n, each in METHODS.usable() if which(each))


@dataclass(frozen=True)
class Mixing:
    """How adapters are merged.

    Attributes:
        method: one of `METHODS`.
        density: the share of values that a pruning method keeps.
        rank: rank of the result of "svd"; None: the largest rank of the parts.
        seed: random seed for the values that DARE drops.
    """

    method: str = "cat"
    density: float = DENSITY
    rank: int | None = None
    seed: int = 0


@dataclass(frozen=True)
class Member:
    """An adapter and its weight in a merge; `digest` is its `weights_hash`."""

    folder: Path
    weight: float
    card: Card
    digest: str

    @property
    def place(self) -> str:
        """For messages: its folder; of an adapter of another program its name and its file."""
        file = self.card.origin.get("file")
        return f"{self.card.name} ({file})" if file else str(self.folder)


@dataclass(frozen=True)
class Merge:
    """A request to a modality to merge adapters.

    Attributes:
        parts: two or more adapters of one base.
        base: the base model.
        mixing: the method and its settings.
        to: the folder to write into; it exists and is empty.
    """

    parts: tuple[Member, ...]
    base: str
    mixing: Mixing
    to: Path


def check_mixing(mixing: Mixing) -> None:
    """Refuse settings that PEFT would ignore or reject with a traceback.

    Raises:
        ConfigError: a setting is unknown or impossible; the message names it.
    """
    if mixing.method not in METHODS:
        raise ConfigError(
            f"--method {mixing.method}: no such way to merge", did_you_mean(mixing.method, METHODS)
        )
    if not 0 < mixing.density <= 1:
        raise ConfigError(
            f"--density {mixing.density:g} is not a share of values to keep",
            "give a number above 0 and at most 1",
        )
    if mixing.rank is not None and not METHODS.find(mixing.method).own_rank:
        named = " and ".join(name for name, each in METHODS.usable() if each.own_rank)
        raise ConfigError(
            f"--rank has no effect with --method {mixing.method}",
            f"leave --rank out, or use --method {named}",
        )


def read_members(adapters: Mapping[Path, float]) -> tuple[Member, ...]:
    """Read adapters with their cards; all must have one modality and one base.

    Raises:
        ConfigError: a weight is 0 or not finite, or an adapter is given twice.
        AdapterError: an adapter is missing or damaged, or its base differs from the first
            adapter's.
    """
    parts: list[Member] = []
    for path, weight in adapters.items():
        if not math.isfinite(weight) or weight == 0:
            raise ConfigError(
                f"{path}={weight:g}: this weight leaves nothing of the adapter",
                "give another weight, or leave the adapter out",
            )
        folder = adapter_folder(path)
        if any(folder.resolve() == part.folder.resolve() for part in parts):
            raise ConfigError(f"{path} is given twice", "give it once, as PATH=WEIGHT")
        check_adapter(folder)
        part = Member(folder, weight, read_card(folder), weights_hash(folder))
        if parts:
            _require_same(parts[0], part)
        parts.append(part)
    return tuple(parts)


def _require_same(first: Member, part: Member) -> None:
    if part.card.modality != first.card.modality:
        raise AdapterError(
            f"{part.folder} is an adapter for {part.card.modality}, but {first.folder} is for "
            f"{first.card.modality}",
            "give adapters of one modality and one base",
        )
    hashes = part.card.base_hash, first.card.base_hash
    bases = {base_identity(each.card.base) for each in (part, first)}
    # An adapter of another program names no hash; a loader compares its layers with the base.
    same = hashes[0] == hashes[1] if all(hashes) else len(bases) == 1
    if not same:
        raise AdapterError(
            f"{part.folder} is for the base {part.card.base} ({part.card.base_hash[:12]}), but "
            f"{first.folder} is for {first.card.base} ({first.card.base_hash[:12]})",
            "give adapters of one base (for images, also of one train.precision), "
            "or train one of them again",
        )


def parents_of(parts: Sequence[Member]) -> list[dict[str, Any]]:
    """Describe the parts as a card lists them under `parents`."""
    return [
        {
            "name": part.card.name,
            "recipe": part.card.recipe,
            "hash": part.digest,
            "weight": part.weight,
            "dataset": part.card.dataset,
        }
        for part in parts
    ]
