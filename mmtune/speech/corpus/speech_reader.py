"""`SpeechReader`: finds, opens and checks speech rows for `mmtune check`, without torch."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from mmtune.config import Section
from mmtune.data.ledger import Guess, Used
from mmtune.data.rows import Finding, Inspection, Row
from mmtune.data.rule_result import RuleResult
from mmtune.speech.speech_row import SpeechRow


class SpeechReader:
    """Implements `Reader` of `data/reader.py`."""

    name = "speech"
    row: type[Row] = SpeechRow

    def scan(self, folder: Path) -> Iterator[dict[str, Any] | Finding | Used | Guess]:
        """Find recordings, with their transcripts in .txt files of the same names."""
        from mmtune.speech.corpus import check_recording

        return check_recording.scan(folder)

    def inspect(self, row: Row) -> Inspection:
        """Decode one recording and report what is wrong with it."""
        from mmtune.speech.corpus import check_recording

        return check_recording.inspect(row)

    def seconds_of(self, row: Row) -> float | None:
        """The utterance's length by its times, or by the header of its recording."""
        from mmtune.speech.sound.read import AudioFault, probe

        assert isinstance(row, SpeechRow)
        if row.end is not None:
            return row.end - row.start
        try:
            return max(0.0, probe(row.path).seconds - row.start)
        except (AudioFault, OSError):
            return None

    def check_rows(
        self,
        rows: Sequence[Row],
        terms: Path | None = None,
        *,
        seen: Sequence[Inspection] = (),
        base: str | None = None,
        settings: Section | None = None,
    ) -> list[Finding]:
        """Report findings that need all rows, and spellings that differ from a term list.

        `base` and `settings` have no effect: every Whisper reads the same number of tokens, and
        training counts them exactly.
        """
        from mmtune.speech.corpus import check_recording

        return check_recording.check_rows(rows, terms)

    def judge_rules(self, rows: Sequence[Row], settings: Section | None = None) -> list[RuleResult]:
        """Judge no rules: speech has none that a user could write down."""
        return []


READER = SpeechReader()
