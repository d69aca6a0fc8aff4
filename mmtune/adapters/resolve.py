"""What `--adapter` names: one adapter, several with weights, or a route with its own."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from mmtune.adapters.card import Card, adapter_folder, read_card
from mmtune.adapters.routing import Route, is_route, read_route
from mmtune.data.rows import Row
from mmtune.errors import AdapterError, ConfigError, did_you_mean


@dataclass(frozen=True)
class ResolvedAdapters:
    """A base, and the adapters that answer on it.

    Attributes:
        adapters: folders by name; none is the base alone.
        cards: of the adapters, by name.
        choose: which adapters answer for a row, by weight; for None, what belongs to no row (a
            file, a prompt).
        note: what a user should know of the choice.
    """

    base: str
    adapters: Mapping[str, Path]
    cards: Mapping[str, Card]
    choose: Callable[[Row | None], Mapping[str, float]]
    note: str = ""


def resolve_adapters(
    modality: str,
    adapters: Mapping[Path, float],
    *,
    base: str | None = None,
    label: str | None = None,
) -> ResolvedAdapters:
    """What is to be loaded, and what of it is on.

    Args:
        modality: that the adapters have to be for.
        adapters: runs, adapters' folders, or one route's folder, with weights.
        base: None: the one that the cards name.
        label: of a route, for all that is asked.

    Raises:
        ConfigError: no model is named, an adapter is named twice, or a label that the route doesn't
            know or that there is no route for.
        AdapterError: an adapter is missing, or for another modality or base.
    """
    routes = [path for path in adapters if is_route(path)]
    if routes:
        if len(adapters) > 1:
            raise ConfigError(f"{routes[0]} is a route, and acts alone", "give no other --adapter")
        [(path, weight)] = adapters.items()
        if weight != 1:
            raise ConfigError(f"{path}={weight:g}: a route has its own weights", "leave it out")
        return _routed(modality, path, base, label)
    if label is not None:
        raise ConfigError(
            "--label is for a route, and no --adapter is one",
            "leave it out, or see docs/compose.md",
        )
    found: dict[str, Path] = {}
    cards: dict[str, Card] = {}
    weights: dict[str, float] = {}
    for path, weight in adapters.items():
        folder = adapter_folder(path)
        if folder in found.values():
            raise ConfigError(f"--adapter {path} is given twice", "give it once, with its =WEIGHT")
        card = read_card(folder)
        _require(modality, card.modality, folder)
        first = next(iter(cards.values()), card)
        if base is None and card.base != first.base:
            raise AdapterError(
                f"{folder} is for {card.base}, and the adapter before it for {first.base}",
                "take adapters of one base, or say which to use: --base BASE",
            )
        name = f"adapter{len(found)}"
        found[name], cards[name], weights[name] = folder, card, weight
    named = base or next((card.base for card in cards.values()), None)
    if named is None:
        raise ConfigError("no model is named", "give --adapter runs/NAME, or --base BASE")
    return ResolvedAdapters(named, found, cards, lambda _: weights)


def _routed(modality: str, folder: Path, base: str | None, label: str | None) -> ResolvedAdapters:
    route, adapters = read_route(folder)
    _require(modality, route.modality, folder)
    if label is not None and label not in route.labels:
        raise ConfigError(
            f"--label {label!r}: the route {folder} chooses by {route.by}, and knows no such one",
            f"{did_you_mean(label, list(route.labels))}; leave it out for its `otherwise`",
        )
    cards = {name: read_card(path) for name, path in adapters.items()}

    def choose(row: Row | None) -> Mapping[str, float]:
        return route.of_label(label) if label is not None or row is None else route.choose(row)

    note = "" if label is not None else f"no --label: {_named(route)} where no {route.by} is named"
    return ResolvedAdapters(base or route.base, adapters, cards, choose, note)


def _named(route: Route) -> str:
    return " with ".join(route.otherwise) + " answers" if route.otherwise else "the base answers"


def _require(wanted: str, found: str, folder: Path) -> None:
    if found != wanted:
        raise AdapterError(
            f"{folder} is an adapter for {found}, not {wanted}",
            "`mmtune transcribe` takes speech adapters, `mmtune generate` image adapters",
        )


def all_weighted(texts: Sequence[str]) -> dict[Path, float]:
    """Adapters' paths with their weights, none given twice."""
    weighted: dict[Path, float] = {}
    for text in texts:
        path, weight = weighted_path(text)
        if path in weighted:
            raise ConfigError(f"{path} is given twice", "give it once, with its =WEIGHT")
        weighted[path] = weight
    return weighted


def weighted_path(text: str) -> tuple[Path, float]:
    """An adapter's path and its weight, of `DIR` or `DIR=WEIGHT`."""
    path, equals, weight = text.rpartition("=")
    if equals and path and not Path(text).exists():
        try:
            return Path(path), float(weight)
        except ValueError:
            pass
    return Path(text), 1.0
