"""The result of an import: the rows that were written and the items that were left out."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class LeftOut:
    """An item of the source that isn't imported: where it is, the reason, and the cure."""

    where: str
    found: str
    cure: str


@dataclass(frozen=True)
class Imported:
    """The result of an import.

    Attributes:
        folder: the new folder, with manifest.jsonl and, if anything is left out, left_out.jsonl.
        layout: the format in which the source was read.
        rows: number of rows written.
        left_out: the items that weren't imported, in the order of the source.
        seconds: duration of all sound in s; None for data without sound.
    """

    folder: Path
    layout: str
    rows: int
    left_out: tuple[LeftOut, ...]
    seconds: float | None = None

    def describe(self, examples: int = 5) -> list[str]:
        """Format the result as the lines that `mmtune import` prints."""
        from mmtune.errors import printable

        length = "" if self.seconds is None else f", {self.seconds / 3600:.2f} h"
        lines = [f"{self.folder}  {self.rows} rows{length} (format: {self.layout})"]
        if self.left_out:
            lines.append(
                f"{len(self.left_out)} items left out; see {self.folder / 'left_out.jsonl'}"
            )
        lines += [
            printable(f"  {each.where}: {each.found}. Cure: {each.cure}")
            for each in self.left_out[:examples]
        ]
        if len(self.left_out) > examples:
            lines.append(f"  … and {len(self.left_out) - examples} more")
        if self.rows:
            lines.append(f"next: mmtune check {self.folder}")
        return lines
