"""The request for an export, and its result."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mmtune.adapters.card import Card
from mmtune.adapters.licence import Licence
from mmtune.system.display import Displayed, Rows


@dataclass(frozen=True)
class Export:
    """A request to a modality to export an adapter.

    Attributes:
        adapter: the adapter folder.
        card: the adapter's card.
        base: the base model.
        format: one of the modality's `formats`.
        to: the file or folder to write; it doesn't exist, its parent does.
        scale: factor on the adapter's strength.
        precision: fp32, bf16, fp16 or int8; empty: the format's default. It applies to the written
            weights, and to the base while an image adapter is compared.
        check: data to compare the export on; None: the modality's own choice.
        licence: the base's licence; None if it isn't known.
        accepted: the name of the licence that the user accepted, if it is restrictive.
    """

    adapter: Path
    card: Card
    base: str
    format: str
    to: Path
    scale: float = 1.0
    precision: str = ""
    check: Path | None = None
    licence: Licence | None = None
    accepted: str = ""


@dataclass(frozen=True)
class Exported(Displayed):
    """The result of an export.

    Attributes:
        path: the file or folder that was written.
        format: the export format.
        proof: figures of the comparison with the adapter, by name.
        notes: messages for the user.
        failed: why the export differs from the adapter that was measured; empty if it doesn't.
        table: header and rows of the comparison, if there is more to show than `proof`.
    """

    path: Path
    format: str
    proof: Mapping[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    failed: str = ""
    table: tuple[tuple[str, ...], ...] = ()

    def shown(self) -> Iterable[str | Rows]:
        """Show the path, the comparison with the adapter, and the notes; a failure comes last."""
        proof = ", ".join(f"{name} {value}" for name, value in self.proof.items())
        return [
            str(self.path),
            *([self.table] if self.table else []),
            *([f"checked: {proof}"] if proof and not self.failed else []),
            *(f"note: {note}" for note in self.notes),
            *([f"failed: {self.failed}"] if self.failed else []),
        ]
