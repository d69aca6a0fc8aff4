"""The protocol that the data package needs from a modality: its rows, and checks of their files."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol

from mmtune.config import Section
from mmtune.data.ledger import Guess, Used
from mmtune.data.rows import Finding, Inspection, Row
from mmtune.data.rule_result import RuleResult


class Reader(Protocol):
    """A modality's rows and checks. The module that defines one must not import torch."""

    @property
    def name(self) -> str:
        """The modality's name, such as "speech"."""
        ...

    @property
    def row(self) -> type[Row]:
        """The modality's class of rows."""
        ...

    def scan(self, folder: Path) -> Iterator[dict[str, Any] | Finding | Used | Guess]:
        """Yield raw rows of a folder without a manifest (audio with .txt; images with captions).

        Problems met on the way (a line that can't be read) are yielded as findings. The rows' own
        files count as used; other files that were read are yielded as `Used`, values that the
        folder doesn't state as `Guess`. A file that nobody accounts for gets a finding.
        """
        ...

    def inspect(self, row: Row) -> Inspection:
        """Open and fully decode one item; a bad file gives findings and never an exception."""
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
        """Check all rows together, or against the base model.

        Args:
            rows: the rows without errors.
            terms: a term list to compare the spelling with.
            seen: the result of `inspect` for each row.
            base: the base model, if it is known.
            settings: the modality's settings in the run, if there is a run.
        """
        ...

    def judge_rules(self, rows: Sequence[Row], settings: Section | None = None) -> list[RuleResult]:
        """Judge the usable rows, each with its split, by rules that the user has written down.

        Args:
            rows: the usable rows.
            settings: the modality's settings, which name the rules' file.
        """
        ...
