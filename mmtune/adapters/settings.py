"""Each adapter alone, all together, merged or gated: what a mixture is compared with."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from mmtune.adapters.card import read_card
from mmtune.adapters.compose import read_parts
from mmtune.adapters.gate import FILE, Choose, read_gate
from mmtune.data.rows import Row
from mmtune.modality import find_modality


@dataclass(frozen=True)
class Settings:
    """Adapters to load on one base, and what of them is on for a row, by the setting's name."""

    modality: str
    base: str
    adapters: Mapping[str, Path]
    settings: Mapping[str, Choose]


def settings_of(composed: Path, parts: Mapping[Path, float]) -> Settings:
    """The settings to compare: the base, each part alone at 1, and the whole in its forms.

    Args:
        composed: a merged adapter, or a gate's folder.
        parts: of a merged adapter, with their weights; a gate has its own.
    """
    settings: dict[str, Choose] = {"base": constant({})}
    if (composed / FILE).is_file():
        gate, adapters = read_gate(composed)
        settings |= {name: constant({name: 1.0}) for name in adapters}
        return Settings(gate.modality, gate.base, adapters, settings | {"gated": gate.choose})
    read, card = read_parts(parts), read_card(composed)
    names = [f"{place + 1} {part.card.name}" for place, part in enumerate(read)]
    folders = {name: part.folder for name, part in zip(names, read, strict=True)}
    together = {name: part.weight for name, part in zip(names, read, strict=True)}
    settings |= {name: constant({name: 1.0}) for name in names}
    settings |= {"together": constant(together), "merged": constant({"merged": 1.0})}
    return Settings(card.modality, card.base, folders | {"merged": composed}, settings)


def constant(weights: Mapping[str, float]) -> Choose:
    """The same adapters for every row."""

    def choose(_: Row) -> Mapping[str, float]:
        return weights

    return choose


def try_out(asked: Settings, data: Path) -> tuple[tuple[str, ...], ...]:
    """The modality's table of all settings on `data`.

    Raises:
        ConfigError: the modality has none.
        DataError: the data can't be used.
    """
    modality = find_modality(asked.modality)
    return modality.try_out(asked.base, asked.adapters, asked.settings, data)
