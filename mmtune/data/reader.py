"""What the data package needs of a modality: its rows, and how their files are read and judged."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol

from mmtune.config import Section
from mmtune.data.rows import Finding, Inspection, Row


class Reader(Protocol):
    """Rows of one kind of data. Importing the module that defines one must not import torch."""

    @property
    def name(self) -> str:
        """The modality's name."""
        ...

    @property
    def row(self) -> type[Row]:
        """The type of its rows."""
        ...

    def scan(self, folder: Path) -> Iterator[dict[str, Any] | Finding]:
        """Raw rows of a folder without a manifest (audio with .txt; images with captions).

        What is found on the way (a line that can't be read) is given among them.
        """
        ...

    def inspect(self, row: Row) -> Inspection:
        """Open and fully decode one item; never raises for a bad file, but finds."""
        ...

    def check_rows(
        self,
        rows: Sequence[Row],
        terms: Path | None = None,
        *,
        seen: Sequence[Inspection] = (),
        base: str | None = None,
        settings: Section | None = None,
    ) -> list[Finding]:
        """Findings that need all rows at once, or the model that they are for.

        Args:
            rows: those without errors.
            terms: a list of words to compare with.
            seen: what `inspect` gave for each of them.
            base: the model, if it is known.
            settings: the run's own `options`, if there is a run.
        """
        ...
