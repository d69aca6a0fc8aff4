"""Rows with what base, adapter and control wrote for them: what all measures of speech read."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass

from mmtune.predict import Prediction, Predictor, Request
from mmtune.speech.speech_row import SpeechRow

GENERAL = "general speech"

Active = Mapping[str, Mapping[str, float]]  # by model ("base", "adapter" …): adapters by weight


@dataclass(frozen=True)
class Item:
    """One row with what each model wrote: "base", "adapter", perhaps "control".

    Attributes:
        cluster: what is resampled as a whole.
        terms: spoken in it, normalized.
        kind: the slice that it belongs to.
    """

    row: SpeechRow
    heard: Mapping[str, Prediction]
    cluster: Hashable
    terms: frozenset[str] = frozenset()
    kind: str = "test"


def hear(
    predictor: Predictor, active: Active, rows: Sequence[SpeechRow]
) -> list[dict[str, Prediction]]:
    """What each model writes for each row. One call, so that a clip is encoded once for all."""
    found = predictor.predict(
        [Request(row, weights) for row in rows for weights in active.values()]
    )
    size = len(active)
    return [
        dict(zip(active, found[i * size : (i + 1) * size], strict=True)) for i in range(len(rows))
    ]
