"""Adapters of other programs, for commands that don't know the modality."""

from __future__ import annotations

from pathlib import Path

from mmtune.adapters.adopt import ForeignAdapter, find_foreign
from mmtune.errors import AdapterError
from mmtune.modality import Modality
from mmtune.runs.modalities import MODALITIES


def modality_of(foreign: ForeignAdapter) -> Modality:
    """Recognise the modality of an adapter of another program by the names of its tensors.

    Raises:
        AdapterError: no modality fits, or several fit.
    """
    found = [m for _, m in MODALITIES.usable() if m.knows_adapter(foreign.shapes)]
    if len(found) != 1:
        names = " or ".join(modality.name for modality in found) or "no modality"
        first = min(foreign.shapes, default="none")
        raise AdapterError(
            f"{foreign.file}: its keys are those of {names} (first: {first})",
            f"give {' or '.join(modality.adapters_read for _, modality in MODALITIES.usable())}",
        )
    return found[0]


def is_known(foreign: ForeignAdapter) -> bool:
    """Whether a modality can convert the adapter."""
    return any(modality.knows_adapter(foreign.shapes) for _, modality in MODALITIES.usable())


def convert(foreign: ForeignAdapter, base: str | None) -> Path:
    """Convert an adapter of another program by its modality, unless that was done before.

    Args:
        foreign: the adapter.
        base: the base that the user named.

    Raises:
        MmtuneError: see `Modality.adopt`.
    """
    return modality_of(foreign).adopt(foreign, base)


def own_form(given: Path, base: str | None = None) -> Path:
    """Return the adapter itself, or for one of another program the folder that it is converted to.

    Args:
        given: what the user named.
        base: the base that the user named.

    Raises:
        MmtuneError: see `Modality.adopt`; or the adapter can't be read.
    """
    foreign = find_foreign(given)
    return given if foreign is None else convert(foreign, base)
