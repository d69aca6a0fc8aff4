"""Find what `--adapter` names: one adapter, several weighted adapters, or a route folder."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from mmtune.adapters.adapter_rights import notes_on_use
from mmtune.adapters.card import Card, adapter_folder, read_card
from mmtune.adapters.integrity import check_adapter
from mmtune.adapters.named_base import base_of
from mmtune.adapters.routing import Route, is_route, read_route
from mmtune.data.rows import Row
from mmtune.errors import AdapterError, ConfigError, did_you_mean


@dataclass(frozen=True)
class ResolvedAdapters:
    """A base with the adapters to load, and the rule that selects adapters for a row.

    Attributes:
        base: the base model.
        adapters: adapter folders by name; empty for the base alone.
        cards: the adapters' cards by name.
        choose: gives the adapters for a row, with weights; None stands for an input that is no row
            (a file, a prompt).
        note: what the user should know about the selection.
        notes: what the user should know about the adapters.
    """

    base: str
    adapters: Mapping[str, Path]
    cards: Mapping[str, Card]
    choose: Callable[[Row | None], Mapping[str, float]]
    note: str = ""
    notes: tuple[str, ...] = ()


def resolve_adapters(
    modality: str,
    adapters: Mapping[Path, float],
    *,
    base: str | None = None,
    label: str | None = None,
) -> ResolvedAdapters:
    """Read the adapters or the route that the user named.

    Args:
        modality: the modality that the adapters must have.
        adapters: run folders, adapter folders or one route folder, with weights.
        base: the base model; None: the base that the cards name.
        label: the label that selects a route's adapters for all inputs.

    Raises:
        ConfigError: no model is named, an adapter is named twice, a weight isn't finite, the route
            doesn't know the label, or a label is given without a route.
        AdapterError: an adapter is missing or damaged, or has another modality or base; or a
            consent behind it has ended, and its policy refuses the use then.
        BaseModelError: only a card names the base, and it would have to be downloaded.
    """
    routes = [path for path in adapters if is_route(path)]
    if routes:
        if len(adapters) > 1:
            raise ConfigError(
                f"{routes[0]} is a route, which can't be combined with other adapters",
                "give it as the only --adapter",
            )
        [(path, weight)] = adapters.items()
        if weight != 1:
            raise ConfigError(
                f"{path}={weight:g}: a route takes no weight, it has its own",
                f"leave ={weight:g} out",
            )
        return _routed(modality, path, base, label)
    if label is not None:
        raise ConfigError(
            "--label needs a route, but no --adapter is a route",
            "leave --label out, or make a route: see docs/compose.md",
        )
    found: dict[str, Path] = {}
    cards: dict[str, Card] = {}
    weights: dict[str, float] = {}
    for path, weight in adapters.items():
        if not math.isfinite(weight):
            raise ConfigError(
                f"--adapter {path}={weight:g}: the weight is not a finite number",
                "give a number such as 0.8",
            )
        folder = adapter_folder(path)
        twin = next((p for p in found.values() if p.resolve() == folder.resolve()), None)
        if twin is not None:
            other = "" if twin == folder else f": it is {twin}"
            raise ConfigError(
                f"--adapter {path} is given twice{other}", "give it once, as PATH=WEIGHT"
            )
        check_adapter(folder)
        card = read_card(folder)
        _require(modality, card.modality, folder)
        first = next(iter(cards.values()), card)
        if base is None and card.base != first.base:
            raise AdapterError(
                f"{folder} is for the base {card.base}, but the first adapter is for {first.base}",
                "give adapters of one base, or choose the base: --base BASE",
            )
        name = f"adapter{len(found)}"
        found[name], cards[name], weights[name] = folder, card, weight
    named = base
    if named is None and cards:
        [folder, card] = next(zip(found.values(), cards.values(), strict=True))
        named = base_of(card.base, folder)
    if named is None:
        raise ConfigError("no model is given", "give --adapter runs/NAME or --base BASE")
    notes = notes_on_use({found[name]: card for name, card in cards.items()})
    return ResolvedAdapters(named, found, cards, lambda _: weights, notes=tuple(notes))


def _routed(modality: str, folder: Path, base: str | None, label: str | None) -> ResolvedAdapters:
    route, adapters = read_route(folder)
    _require(modality, route.modality, folder)
    if label is not None and label not in route.labels:
        raise ConfigError(
            f"--label {label!r}: the route {folder} has no {route.by} of this name",
            f"{did_you_mean(label, list(route.labels))} (without --label, the route's `otherwise` "
            "is used)",
        )
    for path in adapters.values():
        check_adapter(path)
    cards = {name: read_card(path) for name, path in adapters.items()}

    def choose(row: Row | None) -> Mapping[str, float]:
        return route.of_label(label) if label is not None or row is None else route.choose(row)

    note = (
        ""
        if label is not None
        else f"without --label, {_default_of(route)} for inputs without the label {route.by!r}"
    )
    notes = tuple(notes_on_use({adapters[name]: card for name, card in cards.items()}))
    named = base or base_of(route.base, folder)
    return ResolvedAdapters(named, adapters, cards, choose, note, notes)


def _default_of(route: Route) -> str:
    names = " with ".join(route.otherwise) if route.otherwise else "the base"
    return f"{names} is used"


def _require(wanted: str, found: str, folder: Path) -> None:
    if found != wanted:
        raise AdapterError(
            f"{folder} is an adapter for {found}, not for {wanted}",
            f"give an adapter for {wanted}",
        )


def all_weighted(texts: Sequence[str]) -> dict[Path, float]:
    """Parse adapter paths with their weights; a path that is given twice is an error."""
    weighted: dict[Path, float] = {}
    for text in texts:
        path, weight = weighted_path(text)
        if path in weighted:
            raise ConfigError(f"{path} is given twice", "give it once, as PATH=WEIGHT")
        weighted[path] = weight
    return weighted


def weighted_path(text: str) -> tuple[Path, float]:
    """Parse `DIR` or `DIR=WEIGHT` as an adapter's path and its weight."""
    path, equals, weight = text.rpartition("=")
    if equals and path and not Path(text).exists():
        try:
            value = float(weight)
        except ValueError:
            return Path(text), 1.0
        if not math.isfinite(value):
            raise ConfigError(f"{text}: the weight is not a finite number", "give a number")
        return Path(path), value
    return Path(text), 1.0
