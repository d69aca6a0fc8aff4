"""`Item`: a row with the transcripts of base, adapter and control, from which measures are made."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass

from mmtune.predict import Prediction, Predictor, Request
from mmtune.speech.speech_row import SpeechRow

GENERAL = "general speech"

Active = Mapping[str, Mapping[str, float]]  # by model ("base", "adapter" …): weight by adapter


@dataclass(frozen=True)
class Item:
    """One row with the transcript of each model: "base", "adapter" and perhaps "control".

    Attributes:
        row: the row.
        heard: prediction by model.
        cluster: items of one cluster are resampled together.
        terms: normalized terms that are spoken in the row.
        kind: the slice that the item belongs to.
    """

    row: SpeechRow
    heard: Mapping[str, Prediction]
    cluster: Hashable
    terms: frozenset[str] = frozenset()
    kind: str = "test"


def hear(
    predictor: Predictor, active: Active, rows: Sequence[SpeechRow]
) -> list[dict[str, Prediction]]:
    """Transcribe each row with each model, in one call, so that each clip is encoded once."""
    found = predictor.predict(
        [Request(row, weights) for row in rows for weights in active.values()]
    )
    size = len(active)
    return [
        dict(zip(active, found[i * size : (i + 1) * size], strict=True)) for i in range(len(rows))
    ]
