"""Adapters of finished runs: opened to predict with, merged, exported."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from mmtune.adapters import compose as composing
from mmtune.adapters import export as exporting
from mmtune.adapters.card import adapter_folder, read_card
from mmtune.adapters.exported import Exported
from mmtune.adapters.members import Mixing, check_mixing, read_members
from mmtune.adapters.routing import RoutedPredictor, is_route, read_route
from mmtune.errors import ConfigError
from mmtune.runs.modalities import find_modality

if TYPE_CHECKING:
    from mmtune.predict import Predictor


def compose(
    adapters: Mapping[Path, float], mixing: Mixing, out: Path, *, base: str | None = None
) -> composing.Composed:
    """Merge adapters of one base into one; see `compose` in adapters/compose.py.

    Args:
        adapters: runs or adapters' folders, with weights; a negative one takes away.

    Raises:
        ConfigError: an unknown method or an impossible setting, or `out` is taken.
        AdapterError: the adapters don't fit each other, or can't be merged by this method.
    """
    check_mixing(mixing)
    parts = read_members(adapters)
    if not parts:
        raise ConfigError("no adapter is named", "mmtune compose runs/A runs/B=0.5 --out DIR")
    merge = find_modality(parts[0].card.modality).merge
    return composing.compose(parts, mixing, out, merge, base=base)


def export(
    run: Path,
    format: str,
    out: Path,
    *,
    base: str | None = None,
    scale: float = 1.0,
    precision: str = "",
    check: Path | None = None,
    accept: str = "",
) -> Exported:
    """Write a run's adapter for other programs, and prove it; see adapters/export.py.

    Args:
        run: a run's folder, or its adapter/.

    Raises:
        ConfigError: an unknown format, a wrong scale, or `out` is taken.
        AdapterError: there is no adapter, the format can't hold it, the base's licence stops it,
            or what was written isn't the same adapter. Nothing is left at `out`.
    """
    folder = adapter_folder(run)
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
    """An adapter, or a route's folder, loaded strictly on its base.

    Args:
        adapter: a run's folder, its adapter/, or a folder that `mmtune compose --route` wrote.
            A single adapter is loaded by the name "adapter"; requests say with what weight.
        base: None: the one that the card names.

    Raises:
        AdapterError: there is no adapter, it doesn't fit the base, or it changes nothing.
    """
    if is_route(adapter):
        route, adapters = read_route(adapter)
        predictor = find_modality(route.modality).predictor(base or route.base, adapters)
        return RoutedPredictor(predictor, route)
    folder = adapter_folder(adapter)
    card = read_card(folder)
    return find_modality(card.modality).predictor(base or card.base, {"adapter": folder})
