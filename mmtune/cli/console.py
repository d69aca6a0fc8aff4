"""Print lines and tables on the terminal. This module must not import torch."""

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
    """Make a console for standard output; without a terminal, lines are 160 columns wide."""
    console = Console()
    return console if console.is_terminal else Console(width=160)


def plain(console: Console, text: str) -> None:
    """Print `text` unchanged: without markup, because names may hold brackets, or wrapping."""
    console.print(Text(text), soft_wrap=True)


def measures_table(measures: Iterable[Measure]) -> Table:
    """Make a table of measures: base, adapter and difference with their 95 % intervals."""
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
    """Make a table whose first row is its header; cells are not read as markup."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in rows[0]:
        table.add_column(Text(name), overflow="fold")
    for row in rows[1:]:
        table.add_row(*(Text(cell) for cell in row))
    return table


def interval(value: Interval, signed: bool = False) -> str:
    """Format an interval as `0.123 [0.100, 0.150]`, or as a dash if it isn't defined."""
    if not math.isfinite(value.value):
        return "–"
    sign = "+" if signed else ""
    return f"{value.value:{sign}.3f} [{value.low:{sign}.3f}, {value.high:{sign}.3f}]"
