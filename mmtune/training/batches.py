"""Batches: which rows are used in which step, on any number of processes."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import dataclass, replace

from mmtune.data.rows import Row
from mmtune.training.balance import Balance, whole_turns
from mmtune.training.randomness import Draw


@dataclass(frozen=True)
class Slot:
    """A row in a batch; a filler row keeps processes in step and doesn't count.

    Attributes:
        turn: how often the same epoch has had the row before, where groups are balanced.
    """

    row: Row
    counts: bool = True
    turn: int = 0

    def draw(self, seed: int, epoch: int) -> Draw:
        """The row's random numbers in this epoch; each turn has its own."""
        return Draw(seed, epoch, f"{self.row.id}|turn {self.turn}" if self.turn else self.row.id)


class Plan:
    """The batches of every epoch.

    Rows of different buckets never share a batch. The order depends only on the seed, the epoch
    and the rows' ids, so an interrupted epoch continues exactly.

    Args:
        rows: the training rows.
        bucket: gives the bucket of a row (`Task.bucket`).
        batch_size: rows in one optimizer step, over all processes.
        seed: random seed of the order.
        balance: how often an epoch has the rows of each group; None: each row once.
    """

    def __init__(
        self,
        rows: Sequence[Row],
        bucket: Callable[[Row], str],
        batch_size: int,
        seed: int,
        balance: Balance | None = None,
    ) -> None:
        self.batch_size = batch_size
        self.seed = seed
        self._buckets: dict[str, list[_Cell]] = defaultdict(list)
        for name, cell in _cells(rows, bucket, seed, balance):
            self._buckets[name].append(cell)
        self.steps_per_epoch = sum(
            math.ceil(sum(cell.count for cell in cells) / batch_size)
            for cells in self._buckets.values()
        )

    def epoch(self, epoch: int) -> list[list[Slot]]:
        """Return the batches of an epoch (counted from 0) in order."""

        def order(slot: Slot, name: str) -> int:
            return slot.draw(self.seed, epoch).key(name)

        batches = []
        for cells in self._buckets.values():
            slots = [slot for cell in cells for slot in cell.slots(epoch)]
            mixed = sorted(slots, key=lambda slot: order(slot, "order"))
            batches += [
                mixed[i : i + self.batch_size] for i in range(0, len(mixed), self.batch_size)
            ]
        return sorted(batches, key=lambda batch: order(batch[0], "batch order"))


@dataclass(frozen=True)
class _Cell:
    """The rows of one bucket and one group, and how many of them an epoch has.

    Every epoch has the same number, so that all epochs have as many steps.
    """

    rows: Sequence[Row]
    count: int

    def slots(self, epoch: int) -> Iterator[Slot]:
        """The rows of an epoch: each equally often, but for a part that changes by epoch."""
        often, rest = divmod(self.count, len(self.rows))
        start = epoch * rest
        for turn in range(often):
            yield from (Slot(row, turn=turn) for row in self.rows)
        for place in range(start, start + rest):
            yield Slot(self.rows[place % len(self.rows)], turn=often)


def _cells(
    rows: Sequence[Row], bucket: Callable[[Row], str], seed: int, balance: Balance | None
) -> Iterator[tuple[str, _Cell]]:
    """Divide rows by bucket and group, and give each bucket's name with its cells."""
    found: dict[str | None, dict[Hashable, list[Row]]] = {}
    for row in rows:
        value = row.group.get(balance.label) if balance is not None else None
        found.setdefault(value, {}).setdefault(bucket(row), []).append(row)
    for value, cells in found.items():
        turns = balance.turns_of(value) if balance is not None else 1.0
        counts = whole_turns(turns, {name: len(some) for name, some in cells.items()})
        for name, some in cells.items():
            if counts[name] % len(some):
                # Not by the manifest's order, in which rows of one speaker stand together.
                some = sorted(some, key=lambda row: Draw(seed, 0, row.id).key("balance"))
            yield str(name), _Cell(some, counts[name])


def shard(batch: Sequence[Slot], rank: int, world: int, micro: int | None) -> list[list[Slot]]:
    """Divide a batch among processes, and return the micro-batches of process `rank`.

    Every process gets the same number of micro-batches.

    Args:
        batch: the rows of one optimizer step.
        rank: index of the process.
        world: number of processes.
        micro: rows in one forward pass; None: the process's whole share.
    """
    share = math.ceil(len(batch) / world)
    slots = list(batch[rank * share : (rank + 1) * share])
    slots += [replace(batch[0], counts=False)] * (share - len(slots))
    size = micro or share
    return [slots[i : i + size] for i in range(0, len(slots), size)]
