"""Merge, export and open the adapters of finished runs."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from mmtune.adapters import compose as composing
from mmtune.adapters import export as exporting
from mmtune.adapters.adapter_rights import notes_on_use
from mmtune.adapters.card import adapter_folder, read_card
from mmtune.adapters.exported import Exported
from mmtune.adapters.integrity import check_adapter
from mmtune.adapters.members import Mixing, check_mixing, read_members
from mmtune.adapters.method_files import require_mergeable
from mmtune.adapters.named_base import base_of
from mmtune.adapters.routing import RoutedPredictor, is_route, read_route
from mmtune.errors import ConfigError
from mmtune.runs.foreign_adapters import own_form
from mmtune.runs.modalities import find_modality

if TYPE_CHECKING:
    from mmtune.predict import Predictor


def compose(
    adapters: Mapping[Path, float], mixing: Mixing, out: Path, *, base: str | None = None
) -> composing.Composed:
    """Merge adapters of one base into one; see `compose` in adapters/compose.py.

    Args:
        adapters: run folders or adapter folders in mmtune's own form, with weights; a negative
            weight subtracts.
        mixing: the method and its settings.
        out: a folder that doesn't exist yet.
        base: the base model; None: the base that the cards name.

    Raises:
        ConfigError: the method is unknown, a setting is impossible, or `out` exists.
        AdapterError: the adapters don't fit each other, or this method can't merge them.
    """
    check_mixing(mixing)
    parts = read_members(adapters)
    if not parts:
        raise ConfigError(
            "no adapter is given", "give adapters: mmtune compose runs/A runs/B=0.5 --out DIR"
        )
    for part in parts:
        require_mergeable(part.folder)
    modality = find_modality(parts[0].card.modality)
    return composing.compose(parts, mixing, out, modality.merge, base=base, usage=modality.usage)


def export(
    run: Path,
    format: str,
    out: Path,
    *,
    base: str | None = None,
    scale: float | None = None,
    precision: str = "",
    check: Path | None = None,
    accept: str = "",
) -> Exported:
    """Export a run's adapter for other programs, and check the export; see adapters/export.py.

    Args:
        run: a run folder, or its adapter/ folder.

    Raises:
        ConfigError: the format is unknown, the scale is wrong, or `out` exists.
        AdapterError: there is no adapter, the format can't hold it, the base's licence forbids
            it, or the export is not the same adapter. Nothing is left at `out`.
    """
    folder = adapter_folder(own_form(run, base))
    modality = find_modality(read_card(folder).modality, str(folder))
    return exporting.export(
        folder,
        format,
        out,
        modality.formats,
        base=base,
        scale=scale,
        precision=precision,
        check=check,
        accept=accept,
    )


def open_predictor(adapter: Path, *, base: str | None = None) -> Predictor:
    """Load an adapter or a route strictly on its base.

    Args:
        adapter: a run folder, its adapter/ folder, or a folder of `mmtune compose --route`. A
            single adapter is loaded under the name "adapter"; requests give its weight.
        base: the base model; None: the base that the card names.

    Raises:
        AdapterError: there is no adapter, it doesn't fit the base, it has no effect, or a consent
            behind it has ended, and its policy refuses the use then.
        BaseModelError: only the card names the base, and it would have to be downloaded.
    """
    if is_route(adapter):
        route, adapters = read_route(adapter)
        for each in adapters.values():
            check_adapter(each)
        notes_on_use({each: read_card(each) for each in adapters.values()})
        predictor = find_modality(route.modality).predictor(
            base or base_of(route.base, adapter), adapters
        )
        return RoutedPredictor(predictor, route)
    folder = adapter_folder(own_form(adapter, base))
    check_adapter(folder)
    card = read_card(folder)
    notes_on_use({folder: card})
    named = base or base_of(card.base, folder)
    return find_modality(card.modality).predictor(named, {"adapter": folder})
