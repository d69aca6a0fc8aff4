"""Export an adapter for other programs: the steps that all formats and modalities share."""

from __future__ import annotations

import math
import shutil
from dataclasses import replace
from pathlib import Path

from mmtune.adapters.adapter_rights import NOTICE, notice_of, require_export
from mmtune.adapters.card import read_card
from mmtune.adapters.exported import Export, Exported, ExportFormat, require_packages
from mmtune.adapters.integrity import check_adapter
from mmtune.adapters.licence import Licence, licence_of
from mmtune.adapters.named_base import base_of
from mmtune.errors import AdapterError, ConfigError
from mmtune.system.files import aside, write_text
from mmtune.system.plugins import Registry

FAILED_SUFFIX = ".failed"  # added to the name of an export that failed its comparison


def export(
    folder: Path,
    format: str,
    out: Path,
    formats: Registry[ExportFormat],
    *,
    base: str | None = None,
    scale: float | None = None,
    precision: str = "",
    check: Path | None = None,
    accept: str = "",
) -> Exported:
    """Export an adapter, compare the export with the adapter, and move it to `out` if they agree.

    Args:
        folder: the adapter folder.
        format: one of `formats`.
        out: a file or folder that doesn't exist yet.
        formats: the modality's formats (`Modality.formats`).
        base: the base model; None: the base that the card names.
        scale: see `Export`; None: the strength at which the adapter was judged.
        precision, check: see `Export`.
        accept: the name of a restrictive licence that the user accepts.

    Raises:
        ConfigError: the format is unknown, the scale is wrong, or `out` exists.
        AdapterError: there is no adapter, the format can't hold it, the base's licence or the
            rows behind it forbid it, or the export is not the same adapter. Nothing is left at
            `out`.

    Returns:
        What was written. If it `failed`, nothing is at `out`. The export then lies beside it under
        a name that ends in `.failed`, for inspection, and replaces an earlier failed export.
    """
    check_adapter(folder)
    card = read_card(folder)
    if format not in formats:
        known = "; ".join(f"{name}: {each.summary}" for name, each in formats.usable())
        raise ConfigError(
            f"{card.modality} adapters have no export format {format!r}",
            f"formats: {known or 'none'}",
        )
    record = formats.find(format)
    if scale is None:
        scale = card.default_scale
    if not math.isfinite(scale) or scale == 0:
        raise ConfigError(
            f"--scale {scale:g} leaves nothing of the adapter", "give another scale, such as 0.8"
        )
    require_export(card, folder)
    base = base or base_of(card.base, folder)
    licence = licence_of(base) or (Licence(card.base_licence) if card.base_licence else None)
    notes = check_licence(licence, base, accept)
    failed = out.with_name(f"{out.name}{FAILED_SUFFIX}")
    if failed.exists() and not failed.is_dir():
        raise ConfigError(
            f"{failed} exists and is a file", "move it, or choose another path: --out PATH"
        )
    with aside(out) as to:
        request = Export(folder, card, base, format, to, scale, precision, check, licence, accept)
        record.precision_of(request)
        require_packages(f"the format {format}", *record.packages)
        done = record.export(request)
        place = failed if done.failed else out
        notice = notice_of(card, licence.name if licence is not None else "")
        if notice and to.is_dir():
            write_text(to / NOTICE, notice)
        shutil.rmtree(failed, ignore_errors=True)  # left by an earlier export
        to.rename(place)
    if notice and not done.failed:
        beside = place / NOTICE if place.is_dir() else place.with_name(f"{place.name}.{NOTICE}")
        if not place.is_dir():
            write_text(beside, notice)
        notes.append(f"{beside} names the sources that licences ask to be named: pass it on")
    more = () if done.failed else record.finish(request, place)
    if scale != 1:
        notes.append(f"exported at strength {scale:g} of the adapter; --scale sets another")
    return replace(done, path=place, notes=(*notes, *done.notes, *more))


def check_licence(licence: Licence | None, base: str, accept: str) -> list[str]:
    """Refuse a restrictive licence unless the user accepts it by name; return notes on others.

    Raises:
        ConfigError: the accepted licence isn't the base's.
        AdapterError: the base's licence restricts the use, and isn't accepted.
    """
    if accept and (licence is None or accept.lower() != licence.name):
        found = "isn't stated" if licence is None else f"is {licence.name}"
        raise ConfigError(
            f"--accept-licence {accept}: the licence of {base} {found}",
            "leave --accept-licence out"
            if licence is None
            else f"give --accept-licence {licence.name!r}",
        )
    if licence is None:
        return [f"no model card states the licence of {base}: look up its terms"]
    if licence.restrained and not accept:
        raise AdapterError(
            f"the licence of {base}, {licence.name}, restricts the use of what is made with it",
            f"read it; if it allows your use, add --accept-licence {licence.name!r}",
        )
    if licence.vague:
        return [f"the licence of {base} is named only {licence.name!r}: look up its terms"]
    return []
