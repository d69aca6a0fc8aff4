"""Equal items of a dataset: which of them stays, and a finding for each of the others."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence

from mmtune.data.copy_marks import without_copy_mark
from mmtune.data.rows import Finding, Row
from mmtune.data.split import PRECEDENCE
from mmtune.data.text_beside import text_beside
from mmtune.system.stored import exists


def duplicates(rows: Sequence[Row]) -> list[Finding]:
    """Find rows whose file, or all of whose fields, another row has; one of them stays."""
    first: dict[str, Row] = {}
    findings = []
    counts = Counter(row.content for row in rows)
    names: dict[str, set[str]] = defaultdict(set)  # of equal files, by their content
    for row in rows:
        if counts[row.content] > 1 and row.media:
            names[row.content].add(row.path.stem)

    def rank(row: Row) -> tuple[int, bool, bool]:
        # Of two equal rows in named splits the one in train stays, and an unnamed one goes; else
        # a name with the mark of a copy goes, and a file with a text beside it stays.
        place = PRECEDENCE.index(row.split) if row.split else len(PRECEDENCE)
        if counts[row.content] < 2 or not row.media:
            return place, False, False
        stem, others = row.path.stem, names[row.content]
        is_marked = without_copy_mark(stem, others.__contains__) != stem
        return place, is_marked, not exists(text_beside(row.path))

    for row in sorted(rows, key=rank):
        other = first.setdefault(row.content, row)
        if other is not row:
            agree = other.reference == row.reference
            findings.append(
                Finding(
                    "duplicate-content",
                    row.id,
                    _same(row, other)
                    + ("" if agree else f", but its text is {row.reference[:60]!r}"),
                    "remove one of the rows" if agree else "keep only the row whose text is right",
                    "error" if row.copies_are_bad else "warning",
                )
            )
    return findings


def _same(row: Row, other: Row) -> str:
    if row.media:
        return f"{row.path} is the same file as {other.path} (row {other.id!r})"
    return f"row {row.id!r} has the same fields as row {other.id!r}"
