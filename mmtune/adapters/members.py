"""The adapters that are merged or routed: which they are, and how they are mixed."""

from __future__ import annotations

import difflib
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mmtune.adapters.card import Card, adapter_folder, read_card, weights_hash
from mmtune.errors import AdapterError, ConfigError
from mmtune.system.plugins import Registry

if TYPE_CHECKING:
    from torch import Tensor

Pairs = Sequence[tuple["Tensor", "Tensor"]]


@dataclass(frozen=True)
class MergeMethod:
    """A way to merge adapters: one record in `METHODS`.

    Attributes:
        name: what `--method` takes; without `combine`, PEFT's `combination_type`.
        meaning: what it does, in a few words.
        equal_ranks: whether all parts need the same rank.
        prunes: whether it drops values, and `--density` says how many it keeps.
        random: whether it draws them, by `--seed`.
        own_rank: whether `--rank` may be chosen.
        combine: merges one layer, where PEFT doesn't know the method: from the pairs (A [rank, in],
            B [out, rank]; a pair's update is B A), their weights and the settings to one pair, of
            at most all ranks together. Ranks may differ.
    """

    name: str
    meaning: str
    equal_ranks: bool = False
    prunes: bool = False
    random: bool = False
    own_rank: bool = False
    combine: Callable[[Pairs, Sequence[float], Mixing], tuple[Tensor, Tensor]] | None = None


# Only "cat" is exact for every set of adapters; "linear" adds the two factors of the pairs and not
# their products, so that parts act on each other.
_BUILT_IN = (
    MergeMethod("cat", "exact: the ranks add up"),
    MergeMethod("svd", "the exact sum, cut to one rank", own_rank=True),
    MergeMethod("linear", "sums of the factors, not of the updates; equal ranks", equal_ranks=True),
    MergeMethod("ties", "TIES (arXiv 2306.01708); equal ranks", equal_ranks=True, prunes=True),
    MergeMethod(
        "dare_linear",
        "DARE (arXiv 2311.03099), then linear; equal ranks",
        equal_ranks=True,
        prunes=True,
        random=True,
    ),
    MergeMethod(
        "dare_ties", "DARE, then TIES; equal ranks", equal_ranks=True, prunes=True, random=True
    ),
    MergeMethod(
        "magnitude_prune",
        "the largest values, then linear; equal ranks",
        equal_ranks=True,
        prunes=True,
    ),
)
METHODS: Registry[MergeMethod] = Registry(
    "merge method", "mmtune.merge_methods", {method.name: method for method in _BUILT_IN}
)
DENSITY = 0.5  # what the methods that prune keep, unless told


def methods_in_words(which: Callable[[MergeMethod], bool] = lambda method: True) -> str:
    """The methods of which `which` holds, each with what it does, for help and errors."""
    return ", ".join(f"{n} ({each.meaning})" for n, each in METHODS.usable() if which(each))


@dataclass(frozen=True)
class Mixing:
    """How adapters are merged.

    Attributes:
        method: one of `METHODS`.
        density: the share of values that a pruning method keeps.
        rank: of what "svd" gives; None: the largest of the parts.
        seed: of what DARE drops.
    """

    method: str = "cat"
    density: float = DENSITY
    rank: int | None = None
    seed: int = 0


@dataclass(frozen=True)
class Member:
    """An adapter and its weight in the whole; `digest` is a hash of its weights' files."""

    folder: Path
    weight: float
    card: Card
    digest: str


@dataclass(frozen=True)
class Merge:
    """What a modality is asked to merge.

    Attributes:
        parts: two or more, of one base.
        base: the model that they are for.
        to: an existing empty folder.
    """

    parts: tuple[Member, ...]
    base: str
    mixing: Mixing
    to: Path


def check_mixing(mixing: Mixing) -> None:
    """Refuse settings that PEFT would take without a word, or with a traceback.

    Raises:
        ConfigError: it says which.
    """
    if mixing.method not in METHODS:
        near = difflib.get_close_matches(mixing.method, METHODS, n=1)
        hint = f"did you mean {near[0]!r}? " if near else ""
        known = "; ".join(f"{name}: {each.meaning}" for name, each in METHODS.usable())
        raise ConfigError(f"no method {mixing.method!r} to merge by", f"{hint}{known}")
    if not 0 < mixing.density <= 1:
        raise ConfigError(
            f"--density {mixing.density:g} is not a share of what is kept",
            "above 0, and at most 1: all of it",
        )
    if mixing.rank is not None and not METHODS.find(mixing.method).own_rank:
        named = " and ".join(name for name, each in METHODS.usable() if each.own_rank)
        raise ConfigError(
            f"--rank is chosen for {named} alone, not for {mixing.method}", "leave it out"
        )


def read_members(adapters: Mapping[Path, float]) -> tuple[Member, ...]:
    """Adapters with their cards, of one modality and one base.

    Raises:
        ConfigError: a weight is 0 or not finite, or an adapter is given twice.
        AdapterError: there is no adapter, or it is for another base than the first.
    """
    parts: list[Member] = []
    for path, weight in adapters.items():
        if not math.isfinite(weight) or weight == 0:
            raise ConfigError(f"{path}={weight:g} leaves nothing of it", "leave the adapter out")
        folder = adapter_folder(path)
        if any(folder.resolve() == part.folder.resolve() for part in parts):
            raise ConfigError(f"{path} is given twice", "give it once, with its =WEIGHT")
        part = Member(folder, weight, read_card(folder), weights_hash(folder))
        if parts:
            _require_same(parts[0], part)
        parts.append(part)
    return tuple(parts)


def _require_same(first: Member, part: Member) -> None:
    if part.card.modality != first.card.modality:
        raise AdapterError(
            f"{part.folder} is an adapter for {part.card.modality}, and {first.folder} for "
            f"{first.card.modality}",
            "merge adapters of one modality and one base",
        )
    if part.card.base_hash != first.card.base_hash:
        raise AdapterError(
            f"{part.folder} is for {part.card.base} ({part.card.base_hash[:12]}), and "
            f"{first.folder} for {first.card.base} ({first.card.base_hash[:12]})",
            "merge adapters of one base and (images) one train.precision, or train one again",
        )


def parents_of(parts: Sequence[Member]) -> list[dict[str, Any]]:
    """Who the parts are, as a card says it."""
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
