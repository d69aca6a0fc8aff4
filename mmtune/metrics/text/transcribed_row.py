"""What the metrics of transcripts read of a row: its language and its length."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

from mmtune.data.rows import Row


@runtime_checkable
class TranscribedRow(Protocol):
    """A row of a recording with its transcript. A modality's row class fits by having both."""

    @property
    def language(self) -> str | None:
        """Whisper's code of the language, such as "en"; None leaves it to the run."""
        ...

    @property
    def duration_s(self) -> float | None:
        """Length of the recording in seconds, where it is stated."""
        ...


def row_language(row: Row, default: str) -> str:
    """The language whose rules score a row: its own, or `default` where it names none."""
    named = row.language if isinstance(row, TranscribedRow) else None
    return named or default


def stated_seconds(row: Row) -> float:
    """The stated length of a row's recording in seconds; 0 where none is stated."""
    stated = row.duration_s if isinstance(row, TranscribedRow) else None
    return stated or 0.0
