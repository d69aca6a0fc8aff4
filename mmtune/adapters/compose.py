"""Several adapters of one base as one: merged into a plain folder, each part on record."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from mmtune.adapters.card import Card
from mmtune.adapters.members import (
    METHODS,
    Member,
    Merge,
    Mixing,
    check_mixing,
    parents_of,
)
from mmtune.errors import AdapterError, ConfigError
from mmtune.system.display import Displayed, Rows, plain_values
from mmtune.system.files import aside
from mmtune.system.hashing import hash_json

MAX_DISTANCE = 1e-5  # "cat" may be off by this share: rounding


@dataclass(frozen=True)
class Composed(Displayed):
    """What was written.

    Attributes:
        distance: how far the merged updates ΔW lie from the weighted sum of the parts' (Frobenius
            norm over all layers, as a share of the sum's): 0 is exact.
        comparison: each adapter alone, all together and merged on test items, head first, if
            asked for.
        notes: what the user should know of the comparison.
    """

    path: Path
    parts: tuple[Member, ...]
    mixing: Mixing
    distance: float
    comparison: tuple[tuple[str, ...], ...] = ()
    notes: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        facts = {"path": str(self.path), "method": self.mixing.method, "distance": self.distance}
        return facts | compared(self.comparison, self.notes)

    def shown(self) -> Iterable[str | Rows]:
        """The folder, how exact it is, and the comparison."""
        exact = f"distance from the weighted sum of the updates: {self.distance:.2g}"
        return [str(self.path), exact, *comparison_shown(self.comparison, self.notes)]


def compared(comparison: Rows, notes: Sequence[str]) -> dict[str, Any]:
    """A comparison as plain JSON values; nothing where there is none."""
    return {"notes": list(notes), "comparison": plain_values(comparison)} if comparison else {}


def comparison_shown(comparison: Rows, notes: Sequence[str]) -> list[str | Rows]:
    """A comparison as a person sees it; nothing where there is none."""
    return [comparison, *(f"note: {note}" for note in notes)] if comparison else []


def compose(
    parts: tuple[Member, ...],
    mixing: Mixing,
    out: Path,
    merge: Callable[[Merge], float],
    *,
    base: str | None = None,
) -> Composed:
    """Merge adapters of one base into one, by PEFT's `add_weighted_adapter`.

    The folder is loaded again, strictly, before it is put in place: its output must differ from
    the base's, and "cat" must equal the weighted sum of the parts.

    Args:
        parts: two or more, of one base; a negative weight takes away.
        out: a folder that doesn't exist yet.
        merge: the modality's function that merges them (`Modality.merge`).
        base: None: the one that the cards name.

    Raises:
        ConfigError: an unknown method or an impossible setting, or `out` is taken.
        AdapterError: the adapters don't fit each other, or can't be merged by this method.
    """
    check_mixing(mixing)
    if len(parts) < 2:
        raise ConfigError(
            f"mmtune compose takes two adapters or more, found {len(parts)}",
            "mmtune compose runs/A runs/B=0.5 --out DIR",
        )
    request_base = base or parts[0].card.base
    with placed(out) as folder:
        request = Merge(parts, request_base, mixing, folder)
        distance = merge(request)
        if mixing.method == "cat" and not distance <= MAX_DISTANCE:
            raise AdapterError(
                f"the merged adapter is {distance:.1e} off the sum of its parts",
                "--method svd with a --rank of all ranks together is exact too",
            )
        card_of(request, distance, out.name).write(folder)
    return Composed(out, parts, mixing, distance)


@contextmanager
def placed(out: Path) -> Iterator[Path]:
    """A folder to write, beside `out`; in its place once all has gone well.

    Raises:
        ConfigError: `out` is taken, or no name.
    """
    with aside(out) as folder:
        folder.mkdir()
        yield folder
        folder.rename(out)


def card_of(request: Merge, distance: float, name: str) -> Card:
    """The card of what was merged: its parents by name, hash and weight."""
    cards = [part.card for part in request.parts]
    rows: dict[str, int] = {}
    for card in cards:
        for split, count in card.rows.items():
            rows[split] = rows.get(split, 0) + count
    # How the first is used (language, steps, guidance) is how the whole is.
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
        base_hash=cards[0].base_hash,
        base_licence=cards[0].base_licence,
        dataset=hash_json([card.dataset for card in cards]),
        rows=rows,
        settings={"compose": mixing | {"distance": distance}, "task": task},
        parents=parents_of(request.parts),
    )
