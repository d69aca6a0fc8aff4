"""Speech rows: how they are found in folders, opened and judged. No torch."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from mmtune.config import Section
from mmtune.data.rows import Finding, Inspection, Row
from mmtune.speech.speech_row import SpeechRow


class SpeechReader:
    """Implements `Reader` of `data/reader.py`."""

    name = "speech"
    row: type[Row] = SpeechRow

    def scan(self, folder: Path) -> Iterator[dict[str, Any] | Finding]:
        """Recordings with their transcripts in .txt files of the same names."""
        from mmtune.speech.corpus import check_recording

        return check_recording.scan(folder)

    def inspect(self, row: Row) -> Inspection:
        """Decode one recording."""
        from mmtune.speech.corpus import check_recording

        return check_recording.inspect(row)

    def check_rows(
        self,
        rows: Sequence[Row],
        terms: Path | None = None,
        *,
        seen: Sequence[Inspection] = (),
        base: str | None = None,
        settings: Section | None = None,
    ) -> list[Finding]:
        """Findings that need all rows; spellings are compared with a term list.

        `base` and `settings` change nothing: every Whisper has the same room, and training counts
        its tokens exactly.
        """
        from mmtune.speech.corpus import check_recording

        return check_recording.check_rows(rows, terms)


READER = SpeechReader()
