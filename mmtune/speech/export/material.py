"""What an export is compared on: a manifest's rows, or a few sentences of a synthetic voice."""

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
    """Rows with audio of at most 30 s.

    Attributes:
        source: what they are called.
        notes: what is left out.
    """

    rows: tuple[SpeechRow, ...]
    source: str
    notes: tuple[str, ...] = ()


def of_manifest(manifest: Path) -> Material:
    """All usable rows of a manifest or folder.

    Raises:
        DataError: it can't be used, or has no row of at most 30 s.
    """
    from mmtune.data.check import check
    from mmtune.speech.corpus.speech_reader import READER

    dataset = check(manifest, READER, strict=False)
    rows = tuple(row for row in speech_rows(dataset.rows) if seconds_of(row) <= MAX_WINDOW)
    if not rows:
        raise DataError(
            f"{manifest} has no row to check the export with",
            f"`mmtune check {manifest}` says why; rows may have at most {MAX_WINDOW} s",
        )
    left = len(dataset.rows) + len(dataset.quarantined) - len(rows)
    notes = (f"{left} rows of {manifest} can't be used, or are too long",) if left else ()
    return Material(rows, manifest.name, notes)


def synthetic(folder: Path) -> Material | None:
    """A few English sentences, written to `folder`; None where no voice is installed."""
    import soundfile

    voice = _voice()
    if voice is None:
        return None
    rows: list[SpeechRow] = []
    for i, sentence in enumerate(SENTENCES):
        samples, rate = voice(sentence)
        path = folder / f"sentence-{i}.wav"
        soundfile.write(path, samples, rate)
        rows.append(SpeechRow(id=path.stem, audio=str(path), text=sentence, language="en"))
    return Material(
        tuple(rows),
        f"{len(rows)} sentences of {voice.name}",
        (
            f"compared on {len(rows)} synthetic sentences only; "
            "a verdict on your own speech: --check MANIFEST",
        ),
    )


def _voice() -> Voice | None:
    voices: Sequence[tuple[str, Voice]] = (
        ("espeakng_loader", Espeak("en-us")),
        ("hibari", Hibari()),
    )
    return next((voice for module, voice in voices if installed(module)), None)
