"""What a modality is asked to export, and what it gives back."""

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
    """What a modality is asked to write.

    Attributes:
        adapter: its folder.
        card: what is in it.
        base: the model that it is for.
        format: one of the modality's `formats`.
        to: the file or folder to write; it doesn't exist, its parent does.
        scale: factor on the adapter's strength.
        precision: fp32, bf16, fp16 or int8; empty: the format's own. Of the base while an image
            adapter is proved, and of the weights that are written.
        check: speech or images to prove it on; None: the modality's own choice.
        licence: of the base; None where it isn't known.
        accepted: the licence's name, where the user had to accept it.
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
    """What was written, and how it was proved.

    Attributes:
        path: the file or folder.
        proof: figures of the comparison with the adapter, by what they are.
        notes: what the user should know.
        failed: why it is not the adapter that was measured; empty if it is.
        table: head and lines of the comparison, where there is more than `proof`.
    """

    path: Path
    format: str
    proof: Mapping[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    failed: str = ""
    table: tuple[tuple[str, ...], ...] = ()

    def shown(self) -> Iterable[str | Rows]:
        """Where it is, how it was proved, and what the user should know; a failure last."""
        proof = ", ".join(f"{name} {value}" for name, value in self.proof.items())
        return [
            str(self.path),
            *([self.table] if self.table else []),
            *([f"proved: {proof}"] if proof and not self.failed else []),
            *(f"note: {note}" for note in self.notes),
            *([f"failed: {self.failed}"] if self.failed else []),
        ]
