"""The result of an import: the rows that were written and the items that were left out."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from mmtune.data.ledger import Guess, guessed_lines
from mmtune.data.rows import Severity
from mmtune.system.display import Displayed, Rows

NO_COLUMN = "no-column"  # kind of the finding about rows without a column that is needed
FRAMES = "frames"  # layout of what is taken from videos
UNUSED_COLUMNS = "unused-columns"  # kind of the finding about columns of a table


@dataclass(frozen=True)
class LeftOut:
    """An item of the source that isn't imported.

    Attributes:
        where: its place in the source.
        found: the reason.
        cure: what helps.
        kind: a short stable name.
        level: "note" if no action is needed.
        file: the file that it is about, or whose lines it counts.
        items: lines, rows or cues of the file that it counts; 0: the file itself, or no line.
    """

    where: str
    found: str
    cure: str
    kind: str = "left-out"
    level: Severity = "warning"
    file: str = ""
    items: int = 0


@dataclass(frozen=True)
class Imported(Displayed):
    """The result of an import.

    Attributes:
        folder: the new folder, with manifest.jsonl and, if anything is left out, left_out.jsonl.
        layout: the format in which the source was read.
        rows: number of rows written.
        left_out: the items that weren't imported, in the order of the source.
        seconds: duration of all sound in s; None for data without sound.
        guesses: values that the source doesn't state, each with what it was taken from.
        files: how many files the source holds ("found"), "used" and "left_out".
        lines: for each file with rows, cues or lines: how many of them it holds, were used, and
            are left out.
        new: ids of the rows that an earlier import into the folder doesn't have.
        removed: ids of the rows that only the earlier import has; they are no longer there.
        dry: nothing was written: the folder is as it was.
        empty: no row was found, and the folder, which was new, isn't written.
        following: the command to run next; empty: `mmtune check` of the folder.
        version: fingerprint of the version of the rows; empty if none was written.
    """

    folder: Path
    layout: str
    rows: int
    left_out: tuple[LeftOut, ...]
    seconds: float | None = None
    guesses: tuple[Guess, ...] = ()
    files: Mapping[str, int] = field(default_factory=dict)
    lines: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    new: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()
    dry: bool = False
    empty: bool = False
    following: str = ""
    version: str = ""

    def shown(self) -> Iterable[str | Rows]:
        """The lines that `mmtune import` prints."""
        return self.describe()

    def describe(self, examples: int = 5) -> list[str]:
        """Format the result as the lines that `mmtune import` prints.

        Args:
            examples: number of items of each kind to show in full.
        """
        from mmtune.errors import printable

        length = "" if self.seconds is None else f", {self.seconds / 3600:.2f} h"
        dry = " would be written" if self.dry else ""
        lines = [f"{self.folder}  {self.rows} rows{length}{dry} (format: {self.layout})"]
        if self.empty:
            lines = [f"no row can be imported (format: {self.layout}); {self.folder} isn't written"]
        if 0 < len(self.new) < self.rows:
            lines.append(f"{len(self.new)} rows are new; the others are as they were")
        if self.removed:
            gone = "would be removed" if self.dry else "were removed"
            lines.append(
                f"{len(self.removed)} rows of the earlier import are no longer in the source and "
                f"{gone}: {_some(self.removed, examples)}"
            )
        if self.files.get("found"):
            unused = self.files["left_out"]
            lines.append(f"{self.files['found']} files found, {unused} not used")
        lines += [printable(line) for line in guessed_lines(self.guesses, examples)]
        of_columns = [each for each in self.left_out if each.kind == UNUSED_COLUMNS]
        items = [each for each in self.left_out if each.kind != UNUSED_COLUMNS]
        lines += [printable(f"{each.found}. Cure: {each.cure}") for each in of_columns]
        if items:
            place = "" if self.dry or self.empty else f"; see {self.folder / 'left_out.jsonl'}"
            lines.append(f"{sum(max(1, each.items) for each in items)} items left out{place}")
        kinds: dict[str, list[LeftOut]] = {}
        for each in items:
            kinds.setdefault(each.kind, []).append(each)
        for group in kinds.values():
            lines += [
                printable(f"  {each.where}: {each.found}. Cure: {each.cure}")
                for each in group[:examples]
            ]
            if len(group) > examples:
                lines.append(f"  … and {len(group) - examples} more ({group[0].kind})")
        if self.rows and not self.dry:
            lines.append(f"next: {self.following or f'mmtune check {self.folder}'}")
        return lines


def _some(names: Iterable[str], most: int) -> str:
    known = list(names)
    rest = f" and {len(known) - most} more" if len(known) > most else ""
    return ", ".join(known[:most]) + rest
