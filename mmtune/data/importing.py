"""What an import wrote, and what it left out."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class LeftOut:
    """Something of the source that isn't imported: where it stands, why, and what to do."""

    where: str
    found: str
    cure: str


@dataclass(frozen=True)
class Imported:
    """What an import wrote.

    Attributes:
        folder: with manifest.jsonl; left_out.jsonl lists what is left out.
        layout: what the source was read as.
        rows: how many rows were written.
        left_out: what wasn't, in the order of the source.
        seconds: of sound; None where there is none.
    """

    folder: Path
    layout: str
    rows: int
    left_out: tuple[LeftOut, ...]
    seconds: float | None = None

    def describe(self, examples: int = 5) -> list[str]:
        """What `mmtune import` prints, as plain lines."""
        from mmtune.errors import printable

        length = "" if self.seconds is None else f", {self.seconds / 3600:.2f} h"
        lines = [f"{self.folder}  {self.rows} rows{length} (read as {self.layout})"]
        if self.left_out:
            lines.append(
                f"{len(self.left_out)} left out; {self.folder / 'left_out.jsonl'} lists them"
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
