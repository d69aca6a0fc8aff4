"""Display of results: JSON values, text when printed, and HTML in a notebook."""

from __future__ import annotations

import dataclasses
import html
import math
from abc import abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from pathlib import PurePath
from typing import Any

Rows = Sequence[Sequence[str]]
"""A table: the names of the columns, then one sequence of cells for each row."""


class Displayed:
    """Mixin for results: `to_dict()`, text for `print`, and HTML for a notebook.

    A class that uses it is a dataclass, or has its own `to_dict`.
    """

    def to_dict(self) -> dict[str, Any]:
        """Convert to JSON values, with paths as text and undefined numbers as None."""
        values: dict[str, Any] = plain_values(self)
        return values

    @abstractmethod
    def shown(self) -> Iterable[str | Rows]:
        """Return what a person should see: lines of text and tables, in order."""

    def __str__(self) -> str:
        parts = (p if isinstance(p, str) else aligned(p) for p in self.shown())
        return "\n".join(parts)

    def _repr_pretty_(self, printer: Any, cycle: bool) -> None:
        """The same for IPython in a terminal, instead of the dataclass's long `repr`."""
        printer.text(str(self))

    def _repr_html_(self) -> str:
        """The same for Jupyter, with all text escaped."""
        parts = (line_html(p) if isinstance(p, str) else table_html(p) for p in self.shown())
        return "\n".join(parts)


def plain_values(value: Any) -> Any:
    """Convert a value for `json.dumps`: dataclasses to objects, paths to text, NaN to None."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = dataclasses.fields(value)
        return {field.name: plain_values(getattr(value, field.name)) for field in fields}
    if isinstance(value, Mapping):
        return {str(key): plain_values(each) for key, each in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [plain_values(each) for each in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return str(value) if isinstance(value, PurePath) else value


def numbered(count: int, one: str) -> str:
    """Write a number of things: "1 item", "2 items", "1,000 items".

    Args:
        one: the name of one of them, whose plural ends in -s.
    """
    return f"{count:,} {one}" if count == 1 else f"{count:,} {one}s"


def aligned(rows: Rows) -> str:
    """Format a table as text with columns aligned to the left."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ("  ".join(c.ljust(w) for c, w in zip(row, widths, strict=True)) for row in rows)
    return "\n".join(line.rstrip() for line in lines)


def line_html(text: str) -> str:
    """Format a line of text as an HTML block that keeps its spaces."""
    return f'<div style="white-space: pre-wrap">{html.escape(text)}</div>'


def table_html(rows: Rows) -> str:
    """Format a table as HTML."""

    def row(cells: Sequence[str], tag: str) -> str:
        return "<tr>" + "".join(f"<{tag}>{html.escape(c)}</{tag}>" for c in cells) + "</tr>"

    body = "".join(row(cells, "td") for cells in rows[1:])
    return f"<table><thead>{row(rows[0], 'th')}</thead><tbody>{body}</tbody></table>"


def duration(seconds: float) -> str:
    """Seconds in words, to two units: "40 s", "3 min 20 s", "2 h 5 min", "4 min"."""
    whole = max(1, math.ceil(seconds)) if seconds > 0 else 0
    if whole < 60:
        return f"{whole} s"
    units = ("min", "s", whole) if whole < 3600 else ("h", "min", whole // 60)
    first, rest = divmod(units[2], 60)
    return f"{first} {units[0]}" + (f" {rest} {units[1]}" if rest else "")
