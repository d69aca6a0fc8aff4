"""Balance groups in training: how often the rows of each value of a label are seen in an epoch.

Rows are repeated or passed over, and not weighted in the loss: a step divides its gradient by the
weights of its own rows, so a weight in the loss would count for little where its row is alone.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass

from mmtune.data.rows import Row
from mmtune.errors import ConfigError, did_you_mean

MAX_TURNS = 20.0  # how often an epoch may repeat a row; not tuned
MAX_SHOWN = 8  # groups that `Balance.lines` lists


@dataclass(frozen=True)
class Balance:
    """How often an epoch has each row of a group, by the value of a label.

    All groups together have as many rows in an epoch as without balance, each group the same number
    as far as `MAX_TURNS` allows it. Rows without the label are no group: they are seen once.

    Attributes:
        label: the label.
        rows: number of rows with each value.
        turns: mean number of times that an epoch has a row with this value.
    """

    label: str
    rows: Mapping[str, int]
    turns: Mapping[str, float]

    def turns_of(self, value: str | None) -> float:
        """How often an epoch has a row with this value; once without the label."""
        return self.turns.get(value, 1.0) if value is not None else 1.0

    def lines(self) -> list[str]:
        """Say how often the rows of each group are seen, the smallest group first."""
        if len(self.rows) == 1:
            [(value, count)] = self.rows.items()
            return [
                f"train.balance changes nothing: all {count:,} training rows with the label "
                f"{self.label} have the value {value}"
            ]
        most = max(self.turns[value] * count for value, count in self.rows.items())
        lines = []
        for value, count in sorted(self.rows.items(), key=lambda each: (each[1], each[0])):
            turns = self.turns[value]
            line = f"{self.label} {value} has {count:,} rows; each is seen {turns:.3g} times"
            if count == 1:
                line = f"{self.label} {value} has 1 row; it is seen {turns:.3g} times"
            line += " an epoch"
            if turns * count < 0.999 * most:
                line += ", which is the most: this group weighs less than others, so add rows of it"
            lines.append(line)
        if len(lines) > MAX_SHOWN:
            lines[MAX_SHOWN:] = [f"and {len(lines) - MAX_SHOWN} larger groups"]
        return lines


def balance_groups(rows: Sequence[Row], label: str) -> Balance:
    """Give every value of a label the same number of rows in an epoch.

    Args:
        rows: the training rows.
        label: a label of the rows (`Row.group`), such as "accent".

    Raises:
        ConfigError: no row has the label.
    """
    counts = Counter(row.group[label] for row in rows if label in row.group)
    if not counts:
        known = sorted({name for row in rows for name in row.group})
        raise ConfigError(
            f"train.balance: no training row has the label {label!r}",
            did_you_mean(label, known)
            if known
            else "give the rows a label in `group`, or leave train.balance out",
        )
    return Balance(label, dict(counts), _turns(counts))


def _turns(counts: Mapping[str, int]) -> dict[str, float]:
    """The turns of each value: shares are equal, but for those that `MAX_TURNS` limits."""
    total = float(sum(counts.values()))
    full: set[str] = set()
    while True:
        rest = [value for value in counts if value not in full]
        # At least one value is left: with all at their limit there would be more rows than there
        # are.
        share = (total - MAX_TURNS * sum(counts[value] for value in full)) / len(rest)
        over = {value for value in rest if share > MAX_TURNS * counts[value]}
        if not over:
            return {
                value: MAX_TURNS if value in full else share / count
                for value, count in counts.items()
            }
        full |= over


def whole_turns(turns: float, cells: Mapping[Hashable, int]) -> dict[Hashable, int]:
    """Divide the turns of a group among its buckets, in whole rows of an epoch.

    Args:
        turns: how often an epoch has each row of the group.
        cells: number of the group's rows in each bucket.

    Returns:
        For each bucket, how many rows of the group an epoch has: at least one, and together
        `turns` times the number of rows, rounded, if that is enough for one of each.
    """
    exact = {cell: turns * count for cell, count in cells.items()}
    found = {cell: max(1, math.floor(each)) for cell, each in exact.items()}
    missing = round(sum(exact.values())) - sum(found.values())
    order = sorted(exact, key=lambda cell: (found[cell] - exact[cell], str(cell)))
    for cell in order[: max(0, missing)]:
        found[cell] += 1
    return found
