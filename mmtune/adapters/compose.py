"""Merge several adapters of one base into one adapter folder whose card names the parts."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from mmtune.adapters.adapter_rights import ended_note
from mmtune.adapters.card import Card
from mmtune.adapters.integrity import seal_adapter
from mmtune.adapters.members import (
    METHODS,
    Member,
    Merge,
    Mixing,
    check_mixing,
    parents_of,
)
from mmtune.adapters.model_card import Usage
from mmtune.adapters.named_base import base_of
from mmtune.data.rights import joined_rights
from mmtune.errors import AdapterError, ConfigError
from mmtune.system.display import Displayed, Rows, plain_values
from mmtune.system.files import aside
from mmtune.system.hashing import hash_json

MAX_DISTANCE = 1e-5  # rounding error that "cat", which is exact, may have


@dataclass(frozen=True)
class Composed(Displayed):
    """The result of a merge.

    Attributes:
        path: the folder that was written.
        parts: the merged adapters.
        mixing: how they were merged.
        distance: relative distance of the merged update ΔW from the weighted sum of the parts'
            updates (Frobenius norm over all layers); 0 is exact.
        comparison: a table of each adapter alone, all together and merged on test items, if asked
            for; its first row is the header.
        notes: messages for the user about the comparison.
        ended: parts behind which a consent has ended, in words.
    """

    path: Path
    parts: tuple[Member, ...]
    mixing: Mixing
    distance: float
    comparison: tuple[tuple[str, ...], ...] = ()
    notes: tuple[str, ...] = ()
    ended: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Convert the result to JSON values."""
        facts = {"path": str(self.path), "method": self.mixing.method, "distance": self.distance}
        return facts | compared(self.comparison, self.notes)

    def shown(self) -> Iterable[str | Rows]:
        """Show the folder, the exactness of the merge, and the comparison."""
        exact = f"relative distance from the adapters' weighted sum: {self.distance:.2g}"
        ended = (f"note: {note}" for note in self.ended)
        return [str(self.path), exact, *ended, *comparison_shown(self.comparison, self.notes)]


def compared(comparison: Rows, notes: Sequence[str]) -> dict[str, Any]:
    """Convert a comparison to JSON values; without a comparison there are none."""
    return {"notes": list(notes), "comparison": plain_values(comparison)} if comparison else {}


def comparison_shown(comparison: Rows, notes: Sequence[str]) -> list[str | Rows]:
    """Show a comparison with its notes; without a comparison there is nothing to show."""
    return [comparison, *(f"note: {note}" for note in notes)] if comparison else []


def compose(
    parts: tuple[Member, ...],
    mixing: Mixing,
    out: Path,
    merge: Callable[[Merge], float],
    *,
    base: str | None = None,
    usage: Callable[[Card], Usage | None] = lambda card: None,
) -> Composed:
    """Merge adapters of one base into one with PEFT's `add_weighted_adapter`.

    The merged folder is loaded strictly before it moves to `out`. Its output must differ from
    the base's output. With "cat" it must also equal the weighted sum of the parts.

    Args:
        parts: two or more adapters of one base; a negative weight subtracts an adapter.
        mixing: the method and its settings.
        out: a folder that doesn't exist yet.
        merge: the modality's function that merges them (`Modality.merge`).
        base: the base model; None: the base that the cards name.
        usage: says how other programs load the result (`Modality.usage`).

    Raises:
        ConfigError: the method is unknown, a setting is impossible, or `out` exists.
        AdapterError: the adapters don't fit each other, or this method can't merge them.
        BaseModelError: only the cards name the base, and it would have to be downloaded.
    """
    check_mixing(mixing)
    if len(parts) < 2:
        raise ConfigError(
            f"mmtune compose needs two adapters or more, but got {len(parts)}",
            "name them all: mmtune compose runs/A runs/B=0.5 --out DIR",
        )
    request_base = base or base_of(parts[0].card.base, parts[0].folder)
    with new_folder(out) as folder:
        request = Merge(parts, request_base, mixing, folder)
        distance = merge(request)
        if mixing.method == "cat" and not distance <= MAX_DISTANCE:
            raise AdapterError(
                f"the merged adapter differs from the sum of its parts by {distance:.1e}",
                "use --method svd with the sum of all ranks as --rank, which is exact too",
            )
        card = card_of(request, distance, out.name)
        card.model_copy(update={"files": seal_adapter(folder)}).write(folder, usage(card))
    ended = (ended_note(part.card, str(part.folder)) for part in parts)
    return Composed(out, parts, mixing, distance, ended=tuple(note for note in ended if note))


@contextmanager
def new_folder(out: Path) -> Iterator[Path]:
    """Yield a temporary folder beside `out`; it becomes `out` if no error occurs.

    Raises:
        ConfigError: `out` exists, or is no name for a folder.
    """
    with aside(out) as folder:
        folder.mkdir()
        yield folder
        folder.rename(out)


def card_of(request: Merge, distance: float, name: str) -> Card:
    """Make the card of a merged adapter; it lists the parts by name, hash and weight."""
    cards = [part.card for part in request.parts]
    rows: dict[str, int] = {}
    for card in cards:
        for split, count in card.rows.items():
            rows[split] = rows.get(split, 0) + count
    # The merged adapter is used like its first part (language, steps, guidance).
    task = cards[0].settings.get("task") or {}
    mixing = asdict(request.mixing)
    method = METHODS.find(request.mixing.method)
    if not method.prunes:
        mixing.pop("density")
    if not method.random:
        mixing.pop("seed")
    return Card(
        name=name,
        recipe="compose",
        modality=cards[0].modality,
        base=request.base,
        base_hash=next((card.base_hash for card in cards if card.base_hash), ""),
        base_licence=cards[0].base_licence,
        rights=joined_rights(card.rights for card in cards),
        dataset=hash_json([card.dataset for card in cards]),
        rows=rows,
        settings={"compose": mixing | {"distance": distance}, "task": task},
        parents=parents_of(request.parts),
    )
