"""What the commands print: lines as they are, and tables of measures. No torch."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from mmtune.metrics.bootstrap import Interval
    from mmtune.metrics.measure import Measure


def output() -> Console:
    """Standard output; not cut to 80 columns where no terminal says how wide it is."""
    console = Console()
    return console if console.is_terminal else Console(width=160)


def plain(console: Console, text: str) -> None:
    """Print `text` as it is: no markup (names hold brackets), no wrapping when piped."""
    console.print(Text(text), soft_wrap=True)


def measures_table(measures: Iterable[Measure]) -> Table:
    """Base, adapter and their difference with 95 % intervals, one measure a line."""
    measures = list(measures)
    with_control = any(m.control is not None for m in measures)
    table = Table(box=None, pad_edge=False, header_style="bold")
    heads = ["metric", "on", "items", "base", "adapter", "difference"]
    for name in heads + ["control"] * with_control:
        table.add_column(name, overflow="fold", justify="right" if name == "items" else "left")
    for m in measures:
        cells = [m.metric, m.slice, str(m.items), interval(m.base), interval(m.adapter)]
        cells.append(interval(m.difference, signed=True))
        if with_control:
            cells.append("" if m.control is None else interval(m.control))
        table.add_row(*(Text(cell) for cell in cells))
    return table


def plain_table(rows: Sequence[Sequence[str]]) -> Table:
    """A head and its lines, aligned; nothing in them is markup."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in rows[0]:
        table.add_column(Text(name), overflow="fold")
    for row in rows[1:]:
        table.add_row(*(Text(cell) for cell in row))
    return table


def interval(value: Interval, signed: bool = False) -> str:
    """`0.123 [0.100, 0.150]`; a dash where it isn't defined."""
    if not math.isfinite(value.value):
        return "–"
    sign = "+" if signed else ""
    return f"{value.value:{sign}.3f} [{value.low:{sign}.3f}, {value.high:{sign}.3f}]"
