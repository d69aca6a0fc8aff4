"""Writing an adapter for other programs: what all formats of all modalities share."""

from __future__ import annotations

import math
import shutil
from dataclasses import replace
from pathlib import Path

from mmtune.adapters.card import read_card
from mmtune.adapters.exported import Export, Exported, ExportFormat, require_packages
from mmtune.adapters.licence import Licence, licence_of
from mmtune.errors import AdapterError, ConfigError
from mmtune.system.files import aside
from mmtune.system.plugins import Registry

FAILED_SUFFIX = ".failed"  # behind the name of an export that isn't what was measured


def export(
    folder: Path,
    format: str,
    out: Path,
    formats: Registry[ExportFormat],
    *,
    base: str | None = None,
    scale: float = 1.0,
    precision: str = "",
    check: Path | None = None,
    accept: str = "",
) -> Exported:
    """Write a run's adapter in a format of its modality, prove it, and only then put it in place.

    Args:
        folder: an adapter's.
        format: one of `formats`.
        out: a file or folder that doesn't exist yet.
        formats: that the modality has (`Modality.formats`).
        base: None: the one that the card names.
        scale, precision, check: see `Export`.
        accept: the name of a licence that the export would otherwise stop at.

    Raises:
        ConfigError: an unknown format, a wrong scale, or `out` is taken.
        AdapterError: there is no adapter, the format can't hold it, the base's licence stops it,
            or what was written isn't the same adapter. Nothing is left at `out`.

    Returns:
        What was written. If it `failed`, nothing is at `out`, and what was written lies beside it
        in a folder with `.failed` behind its name, to be looked at; an earlier one is replaced.
    """
    card = read_card(folder)
    if format not in formats:
        known = "; ".join(f"{name}: {each.summary}" for name, each in formats.usable())
        raise ConfigError(
            f"no format {format!r} for adapters of {card.modality}", f"formats: {known or 'none'}"
        )
    record = formats.find(format)
    if not math.isfinite(scale) or scale == 0:
        raise ConfigError(f"--scale {scale:g} leaves no adapter", "give another, such as 0.8")
    base = base or card.base
    licence = licence_of(base) or (Licence(card.base_licence) if card.base_licence else None)
    notes = _judge(licence, base, accept)
    failed = out.with_name(f"{out.name}{FAILED_SUFFIX}")
    if failed.exists() and not failed.is_dir():
        raise ConfigError(f"{failed} is in the way", "move it, or name another: --out PATH")
    with aside(out) as to:
        request = Export(folder, card, base, format, to, scale, precision, check, licence, accept)
        record.precision_of(request)
        require_packages(f"the format {format}", *record.packages)
        done = record.export(request)
        place = failed if done.failed else out
        shutil.rmtree(failed, ignore_errors=True)  # it tells of an export that is over
        to.rename(place)
    return replace(done, path=place, notes=(*notes, *done.notes))


def _judge(licence: Licence | None, base: str, accept: str) -> list[str]:
    """Stop at a licence that restrains use, unless its name is given; remarks about others."""
    if accept and (licence is None or accept.lower() != licence.name):
        found = "isn't stated" if licence is None else f"is {licence.name}"
        raise ConfigError(
            f"--accept-licence {accept}: the licence of {base} {found}",
            "leave it out" if licence is None else f"--accept-licence {licence.name!r}",
        )
    if licence is None:
        return [f"the licence of {base} isn't stated in a model card: look up its terms"]
    if licence.restrained and not accept:
        raise AdapterError(
            f"{base} is under {licence.name}, which restrains what is made with it",
            f"read it; if your use is allowed: --accept-licence {licence.name!r}",
        )
    if licence.vague:
        return [f"the licence of {base} is called {licence.name!r}: look up its terms"]
    return []
