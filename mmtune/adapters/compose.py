"""Several adapters of one base as one: merged into a plain folder, each part on record."""

from __future__ import annotations

import difflib
import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from mmtune.adapters.card import Card, adapter_folder, read_card, weights_hash
from mmtune.errors import AdapterError, ConfigError
from mmtune.modality import find_modality
from mmtune.system.files import aside
from mmtune.system.hashing import hash_json

# PEFT's `combination_type`s. Only "cat" is exact for every set of adapters; "linear" adds the two
# factors of the pairs and not their products, so that parts act on each other.
METHODS: Mapping[str, str] = {
    "cat": "exact: the ranks add up",
    "svd": "the exact sum, cut to one rank",
    "linear": "sums of the factors, not of the updates; equal ranks",
    "ties": "TIES (arXiv 2306.01708); equal ranks",
    "dare_linear": "DARE (arXiv 2311.03099), then linear; equal ranks",
    "dare_ties": "DARE, then TIES; equal ranks",
    "magnitude_prune": "the largest values, then linear; equal ranks",
}
DENSITY = 0.5  # what the methods that prune keep, unless told
DRAWN = ("dare_linear", "dare_ties")  # prune at random
PRUNING = ("ties", *DRAWN, "magnitude_prune")
EXACT = 1e-5  # "cat" may be off by this share: rounding


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
class Part:
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

    parts: tuple[Part, ...]
    base: str
    mixing: Mixing
    to: Path


@dataclass(frozen=True)
class Composed:
    """What was written.

    Attributes:
        distance: how far the merged updates ΔW lie from the weighted sum of the parts' (Frobenius
            norm over all layers, as a share of the sum's): 0 is exact.
    """

    path: Path
    parts: tuple[Part, ...]
    mixing: Mixing
    distance: float


def compose(
    adapters: Mapping[Path, float], mixing: Mixing, out: Path, *, base: str | None = None
) -> Composed:
    """Merge adapters of one base into one, by PEFT's `add_weighted_adapter`.

    The folder is loaded again, strictly, before it is put in place: its output must differ from
    the base's, and "cat" must equal the weighted sum of the parts.

    Args:
        adapters: runs or adapters' folders, with weights; a negative one takes away.
        out: a folder that doesn't exist yet.
        base: None: the one that the cards name.

    Raises:
        ConfigError: an unknown method or an impossible setting, or `out` is taken.
        AdapterError: the adapters don't fit each other, or can't be merged by this method.
    """
    check_mixing(mixing)
    if len(adapters) < 2:
        raise ConfigError(
            f"mmtune compose takes two adapters or more, found {len(adapters)}",
            "mmtune compose runs/A runs/B=0.5 --out DIR",
        )
    parts = read_parts(adapters)
    request_base = base or parts[0].card.base
    with placed(out) as folder:
        request = Merge(parts, request_base, mixing, folder)
        distance = find_modality(parts[0].card.modality).merge(request)
        if mixing.method == "cat" and not distance <= EXACT:
            raise AdapterError(
                f"the merged adapter is {distance:.1e} off the sum of its parts",
                "--method svd with a --rank of all ranks together is exact too",
            )
        card_of(request, distance, out.name).write(folder)
    return Composed(out, parts, mixing, distance)


def check_mixing(mixing: Mixing) -> None:
    """Refuse settings that PEFT would take without a word, or with a traceback.

    Raises:
        ConfigError: it says which.
    """
    if mixing.method not in METHODS:
        near = difflib.get_close_matches(mixing.method, METHODS, n=1)
        hint = f"did you mean {near[0]!r}? " if near else ""
        known = "; ".join(f"{name}: {text}" for name, text in METHODS.items())
        raise ConfigError(f"no method {mixing.method!r} to merge by", f"{hint}{known}")
    if not 0 < mixing.density <= 1:
        raise ConfigError(
            f"--density {mixing.density:g} is not a share of what is kept",
            "above 0, and at most 1: all of it",
        )
    if mixing.rank is not None and mixing.method != "svd":
        raise ConfigError(
            f"--rank is chosen for svd alone, not for {mixing.method}", "leave it out"
        )


def read_parts(adapters: Mapping[Path, float]) -> tuple[Part, ...]:
    """Adapters with their cards, of one modality and one base.

    Raises:
        ConfigError: a weight is 0 or not finite, or an adapter is given twice.
        AdapterError: there is no adapter, or it is for another base than the first.
    """
    parts: list[Part] = []
    for path, weight in adapters.items():
        if not math.isfinite(weight) or weight == 0:
            raise ConfigError(f"{path}={weight:g} leaves nothing of it", "leave the adapter out")
        folder = adapter_folder(path)
        if any(folder.resolve() == part.folder.resolve() for part in parts):
            raise ConfigError(f"{path} is given twice", "give it once, with its =WEIGHT")
        part = Part(folder, weight, read_card(folder), weights_hash(folder))
        if parts:
            _require_same(parts[0], part)
        parts.append(part)
    return tuple(parts)


def _require_same(first: Part, part: Part) -> None:
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


@contextmanager
def placed(out: Path) -> Iterator[Path]:
    """A folder to write, beside `out`; in its place once all has gone well.

    Raises:
        ConfigError: `out` is taken, or no name.
    """
    with aside(out) as folder:
        folder.mkdir()
        yield folder
        folder.rename(out)


def card_of(request: Merge, distance: float, name: str) -> Card:
    """The card of what was merged: its parents by name, hash and weight."""
    cards = [part.card for part in request.parts]
    rows: dict[str, int] = {}
    for card in cards:
        for split, count in card.rows.items():
            rows[split] = rows.get(split, 0) + count
    # How the first is used (language, steps, guidance) is how the whole is.
    task = cards[0].settings.get("task") or {}
    mixing = asdict(request.mixing)
    if request.mixing.method not in PRUNING:
        mixing.pop("density")
    if request.mixing.method not in DRAWN:
        mixing.pop("seed")
    return Card(
        name=name,
        recipe="compose",
        modality=cards[0].modality,
        base=request.base,
        base_hash=cards[0].base_hash,
        base_licence=cards[0].base_licence,
        dataset=hash_json([card.dataset for card in cards]),
        rows=rows,
        settings={"compose": mixing | {"distance": distance}, "task": task},
        parents=parents_of(request.parts),
    )


def parents_of(parts: Sequence[Part]) -> list[dict[str, Any]]:
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
