"""Rows on which an export is checked: those of a manifest, or a few synthetic sentences."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from mmtune.errors import DataError
from mmtune.speech.corpus.voices import Espeak, Hibari, Voice, installed
from mmtune.speech.speech_row import SpeechRow, speech_rows
from mmtune.speech.whisper.stages import MAX_WINDOW, seconds_of

SENTENCES = (
    "The quarterly report is ready for your review.",
    "Please call me back before four o'clock on Tuesday.",
    "We moved the meeting to the small room on the second floor.",
    "Nobody told the driver that the bridge was closed.",
    "She ordered twelve boxes of paper and a new printer.",
    "If it rains tomorrow, the match will be played next week.",
)


@dataclass(frozen=True)
class Material:
    """Rows with audio of at most 30 s, on which an export is checked.

    Attributes:
        rows: the rows.
        source: name of the rows in the report.
        notes: remarks, such as rows that are left out.
    """

    rows: tuple[SpeechRow, ...]
    source: str
    notes: tuple[str, ...] = ()


def of_manifest(manifest: Path) -> Material:
    """Return all usable rows of a manifest or folder.

    Raises:
        DataError: the manifest can't be used, or has no row of at most 30 s.
    """
    from mmtune.data.check import check
    from mmtune.speech.corpus.speech_reader import READER

    dataset = check(manifest, READER, strict=False, divide=False)
    rows = tuple(row for row in speech_rows(dataset.rows) if seconds_of(row) <= MAX_WINDOW)
    if not rows:
        raise DataError(
            f"{manifest} has no row to check the export with",
            f"run `mmtune check {manifest}` to see why; rows may have at most {MAX_WINDOW} s",
        )
    left = len(dataset.rows) + len(dataset.quarantined) - len(rows)
    notes = (f"{left} rows of {manifest} were left out: unusable or too long",) if left else ()
    return Material(rows, manifest.name, notes)


def synthetic(folder: Path) -> Material | None:
    """Synthesize a few English sentences to `folder`; None if no voice is installed."""
    from mmtune.speech.sound.encode import save_sound

    voice = _voice()
    if voice is None:
        return None
    rows: list[SpeechRow] = []
    for i, sentence in enumerate(SENTENCES):
        samples, rate = voice(sentence)
        path = folder / f"sentence-{i}.wav"
        save_sound(path, samples, rate)
        rows.append(SpeechRow(id=path.stem, audio=str(path), text=sentence, language="en"))
    return Material(
        tuple(rows),
        f"{len(rows)} sentences of {voice.name}",
        (
            f"compared on only {len(rows)} synthetic sentences; "
            "to check with your own speech, add --check MANIFEST",
        ),
    )


def _voice() -> Voice | None:
    voices: Sequence[tuple[str, Voice]] = (
        ("espeakng_loader", Espeak("en-us")),
        ("hibari", Hibari()),
    )
    return next((voice for module, voice in voices if installed(module)), None)
