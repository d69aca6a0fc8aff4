"""Batches: which rows are used in which step, on any number of processes."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from mmtune.data.rows import Row
from mmtune.training.randomness import Draw


@dataclass(frozen=True)
class Slot:
    """A row in a micro-batch; a filler row keeps processes in step and doesn't count."""

    row: Row
    counts: bool = True


class Plan:
    """The batches of every epoch.

    Rows of different buckets never share a batch. The order depends only on the seed, the epoch
    and the rows' ids, so an interrupted epoch continues exactly.

    Args:
        rows: the training rows.
        bucket: gives the bucket of a row (`Task.bucket`).
        batch_size: rows in one optimizer step, over all processes.
        seed: random seed of the order.
    """

    def __init__(
        self, rows: Sequence[Row], bucket: Callable[[Row], str], batch_size: int, seed: int
    ) -> None:
        self.batch_size = batch_size
        self.seed = seed
        self._buckets: dict[str, list[Row]] = defaultdict(list)
        for row in rows:
            self._buckets[bucket(row)].append(row)
        self.steps_per_epoch = sum(
            math.ceil(len(group) / batch_size) for group in self._buckets.values()
        )

    def epoch(self, epoch: int) -> list[list[Row]]:
        """Return the batches of an epoch (counted from 0) in order."""

        def order(row: Row, name: str) -> int:
            return Draw(self.seed, epoch, row.id).key(name)

        batches = []
        for group in self._buckets.values():
            mixed = sorted(group, key=lambda row: order(row, "order"))
            batches += [
                mixed[i : i + self.batch_size] for i in range(0, len(mixed), self.batch_size)
            ]
        return sorted(batches, key=lambda batch: order(batch[0], "batch order"))


def shard(batch: Sequence[Row], rank: int, world: int, micro: int | None) -> list[list[Slot]]:
    """Divide a batch among processes, and return the micro-batches of process `rank`.

    Every process gets the same number of micro-batches.

    Args:
        batch: the rows of one optimizer step.
        rank: index of the process.
        world: number of processes.
        micro: rows in one forward pass; None: the process's whole share.
    """
    share = math.ceil(len(batch) / world)
    slots = [Slot(row) for row in batch[rank * share : (rank + 1) * share]]
    slots += [Slot(batch[0], counts=False)] * (share - len(slots))
    size = micro or share
    return [slots[i : i + size] for i in range(0, len(slots), size)]
