"""Join several clips into one recording, with pauses between them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from mmtune.speech.sound import augment
from mmtune.speech.sound.read import SAMPLE_RATE, read_row
from mmtune.speech.speech_row import Segment, SpeechRow

PAUSE = (0.2, 1.5)  # seconds between joined utterances


def join_clips(
    rows: Sequence[SpeechRow], pauses: Sequence[float], rng: np.random.Generator
) -> tuple[NDArray[np.float32], tuple[Segment, ...], tuple[float, ...]]:
    """Join the clips of rows; the pauses sound like the quiet places of the clips.

    Args:
        rows: at least one.
        pauses: seconds of pause after each row except the last.
        rng: draws the noise of the pauses.

    Returns:
        [samples] of the recording; a segment for each row, from its first to its last sound; the
        start of each clip in seconds.
    """
    starts: list[float] = []
    pieces: list[NDArray[np.float32]] = []
    segments: list[Segment] = []
    at = 0
    for row, pause in zip(rows, (*pauses, 0.0), strict=True):
        clip = read_row(row)
        first, last = augment.sounding(clip)
        starts.append(at / SAMPLE_RATE)
        segments.append(
            Segment(
                start=round((at + first) / SAMPLE_RATE, 2),
                end=round((at + last) / SAMPLE_RATE, 2),
                text=" ".join(row.reference.split()),
            )
        )
        gap = augment.room_tone(clip, int(pause * SAMPLE_RATE), rng)
        pieces += [clip, gap]
        at += len(clip) + len(gap)
    return np.concatenate(pieces), tuple(segments), tuple(starts)
