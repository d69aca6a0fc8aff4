"""Print lines and tables on the terminal. This module must not import torch."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.console import Console, JustifyMethod
from rich.table import Table
from rich.text import Text

from mmtune.errors import displayable
from mmtune.system.progress import SafeConsole

if TYPE_CHECKING:
    from collections.abc import Iterable

    from mmtune.system.display import Rows

NUMBERS = ("items",)  # columns that are aligned to the right


def output() -> Console:
    """Make a console for standard output; without a terminal, lines are 160 columns wide."""
    console = SafeConsole()
    return console if console.is_terminal else SafeConsole(width=160)


def show(parts: Iterable[str | Rows]) -> None:
    """Print what a result shows of itself (`Displayed.shown`): lines and tables."""
    console = output()
    for part in parts:
        if isinstance(part, str):
            plain(console, part)
        else:
            console.print(plain_table(part))


def plain(console: Console, text: str) -> None:
    """Print `text` unchanged: without markup, because names may hold brackets, or wrapping."""
    console.print(Text(text), soft_wrap=True)


def plain_table(rows: Rows) -> Table:
    """Make a table whose first row is its header; cells are not read as markup."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in rows[0]:
        justify: JustifyMethod = "right" if name in NUMBERS else "left"
        table.add_column(Text(name), overflow="fold", justify=justify)
    for row in rows[1:]:
        # Escaped before the layout, which would cut what gets longer afterwards.
        table.add_row(*(Text(displayable(cell)) for cell in row))
    return table
