"""What the commands print: tables of findings and of measures. No torch."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from mmtune.data.rows import Finding
    from mmtune.evaluate.compare import Measure
    from mmtune.metrics.bootstrap import Interval

STYLES = {"error": "red", "warning": "yellow"}


def plain(console: Console, text: str) -> None:
    """Print `text` as it is: no markup (names hold brackets), no wrapping when piped."""
    console.print(Text(text), soft_wrap=True)


def findings_table(findings: Sequence[Finding], most: int) -> Table:
    """Findings by kind, the commonest first; at most `most` rows of each kind."""
    table = Table(box=None, pad_edge=False, header_style="bold", expand=False)
    table.add_column("finding", no_wrap=True)
    table.add_column("row", overflow="fold")
    table.add_column("what was found", overflow="fold", ratio=3)
    table.add_column("cure", overflow="fold", ratio=2)
    counts = Counter((f.severity, f.kind) for f in findings)
    order = sorted(counts, key=lambda k: (k[0] != "error", -counts[k], k[1]))
    for severity, kind in order:
        group = [f for f in findings if (f.severity, f.kind) == (severity, kind)]
        for i, finding in enumerate(group[:most]):
            head = f"{kind} ({len(group)})" if i == 0 else ""
            table.add_row(
                Text(head, STYLES[severity]),
                Text(finding.row),
                Text(finding.message),
                Text(finding.cure if i == 0 or finding.cure != group[i - 1].cure else ""),
            )
        if len(group) > most:
            table.add_row("", Text("…"), Text(f"{len(group) - most} more; --all shows them"), "")
    return table


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


def interval(value: Interval, signed: bool = False) -> str:
    """`0.123 [0.100, 0.150]`; a dash where it isn't defined."""
    if not math.isfinite(value.value):
        return "–"
    sign = "+" if signed else ""
    return f"{value.value:{sign}.3f} [{value.low:{sign}.3f}, {value.high:{sign}.3f}]"
