"""What `--adapter` names: one adapter, several with weights, or a gate with its own."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from mmtune.adapters.card import Card, adapter_folder, read_card
from mmtune.adapters.routing import FILE, Gate, read_gate
from mmtune.data.rows import Row
from mmtune.errors import AdapterError, ConfigError, did_you_mean


@dataclass(frozen=True)
class Answering:
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


def answering(
    modality: str,
    adapters: Mapping[Path, float],
    *,
    base: str | None = None,
    label: str | None = None,
) -> Answering:
    """What is to be loaded, and what of it is on.

    Args:
        modality: that the adapters have to be for.
        adapters: runs, adapters' folders, or one gate's folder, with weights.
        base: None: the one that the cards name.
        label: of a gate, for all that is asked.

    Raises:
        ConfigError: no model is named, an adapter is named twice, or a label that the gate doesn't
            know or that there is no gate for.
        AdapterError: an adapter is missing, or for another modality or base.
    """
    gates = [path for path in adapters if (path / FILE).is_file()]
    if gates:
        if len(adapters) > 1:
            raise ConfigError(f"{gates[0]} is a gate, and acts alone", "give no other --adapter")
        [(path, weight)] = adapters.items()
        if weight != 1:
            raise ConfigError(f"{path}={weight:g}: a gate has its own weights", "leave it out")
        return _gated(modality, path, base, label)
    if label is not None:
        raise ConfigError(
            "--label is for a gate, and no --adapter is one", "leave it out, or see docs/compose.md"
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
    return Answering(named, found, cards, lambda _: weights)


def _gated(modality: str, folder: Path, base: str | None, label: str | None) -> Answering:
    gate, adapters = read_gate(folder)
    _require(modality, gate.modality, folder)
    if label is not None and label not in gate.labels:
        raise ConfigError(
            f"--label {label!r}: the gate {folder} chooses by {gate.by}, and knows no such one",
            f"{did_you_mean(label, list(gate.labels))}; leave it out for its `otherwise`",
        )
    cards = {name: read_card(path) for name, path in adapters.items()}

    def choose(row: Row | None) -> Mapping[str, float]:
        return gate.of_label(label) if label is not None or row is None else gate.choose(row)

    note = "" if label is not None else f"no --label: {_named(gate)} where no {gate.by} is named"
    return Answering(base or gate.base, adapters, cards, choose, note)


def _named(gate: Gate) -> str:
    return " with ".join(gate.otherwise) + " answers" if gate.otherwise else "the base answers"


def _require(wanted: str, found: str, folder: Path) -> None:
    if found != wanted:
        raise AdapterError(
            f"{folder} is an adapter for {found}, not {wanted}",
            "`mmtune transcribe` takes speech adapters, `mmtune generate` image adapters",
        )
