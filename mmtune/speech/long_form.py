"""Test rows joined into recordings of minutes: what that costs, and whether times stay true.

A recording is transcribed as `mmtune transcribe` does it: speech is found, cut into windows, and
each word gets its times. What it says is then divided among its sentences, whose starts are known.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import soundfile

from mmtune.evaluate.stored import StoredPredictor
from mmtune.hashing import hash_json, hash_text
from mmtune.metrics.aligned import align_words
from mmtune.predict import Prediction, Request
from mmtune.speech.audio import SAMPLE_RATE, content_of, read_row
from mmtune.speech.heard import Active, Item, hear
from mmtune.speech.mix import PAUSE, join_clips
from mmtune.speech.normalize import normalize
from mmtune.speech.options import SpeechOptions
from mmtune.speech.predictor import SpeechPredictor
from mmtune.speech.rows import Segment, SpeechRow
from mmtune.speech.stages import LONGEST, seconds_of
from mmtune.speech.transcribe import listen
from mmtune.speech.transcript import make_transcript

LONG, PARTS = "long form", "long form, in parts"
SECONDS = 120.0  # of a recording: some windows, so that errors of cutting and of times can add up
VERSION = 1  # raised when the same rows would be joined otherwise


@dataclass(frozen=True)
class Recording:
    """Rows in one file, and when each is said."""

    row: SpeechRow
    items: tuple[Item, ...]
    segments: tuple[Segment, ...]


class LongForm:
    """`listen` as a predictor: rows of any length, with the times of their words.

    Args:
        predictor: whose models.
    """

    def __init__(self, predictor: SpeechPredictor) -> None:
        self.predictor = predictor

    @property
    def fingerprint(self) -> str:
        """Hash of all that a transcript depends on besides its request."""
        return hash_json([self.predictor.fingerprint, "long form"])

    def predict(self, requests: Sequence[Request]) -> list[Prediction]:
        """Transcripts; `details` has the words as [text, start, end] in seconds."""
        found = []
        for request in requests:
            row = request.row
            (segments,), language = listen(
                self.predictor,
                [read_row(row)],
                language=getattr(row, "language", None),
                weights=request.adapters,
                words=True,
            )
            words = [
                [word.text, round(word.start, 3), round(word.end, 3)]
                for segment in segments
                for word in segment.words
            ]
            text = make_transcript(segments, language).text
            found.append(Prediction(row.id, text, {"language": language, "words": words}))
        return found


def long_form(
    predictor: StoredPredictor[SpeechPredictor],
    active: Active,
    items: Sequence[Item],
    options: SpeechOptions,
    folder: Path,
) -> list[Item]:
    """`task.long_form` recordings of test rows, sentence by sentence.

    Args:
        predictor: with all models of `active`.
        items: of the test.
        folder: of the run; its `data/long` gets the recordings.

    Returns:
        Items of the kind `LONG`, with what the long transcript says in the sentence's place and
        when ("known" and "heard" in the details, seconds); and of the kind `PARTS`, the same
        sentences as they were heard by themselves. A recording's are one cluster.
    """
    recordings = list(_recordings(items, options, folder / "data" / "long"))
    heard = hear(predictor.variant("long form", LongForm), active, [r.row for r in recordings])
    found: list[Item] = []
    for recording, each in zip(recordings, heard, strict=True):
        parts = {
            model: divide(recording, answer, options.language) for model, answer in each.items()
        }
        cluster = "recording", recording.row.id
        for place, item in enumerate(recording.items):
            own = {model: parts[model][place] for model in parts}
            found.append(replace(item, heard=own, cluster=cluster, kind=LONG))
            found.append(replace(item, cluster=cluster, kind=PARTS))
    return found


def _recordings(items: Sequence[Item], options: SpeechOptions, folder: Path) -> Iterator[Recording]:
    """Rows in an order of their own, each once; the last recording may be shorter."""
    left = [
        item
        for item in sorted(items, key=lambda item: hash_text(f"join {item.row.id}"))
        if item.kind == "test"
        and item.row.reference.strip()
        and (getattr(item.row, "language", None) or options.language) == options.language
    ]
    for number in range(options.long_form):
        chosen: list[Item] = []
        seconds = 0.0
        while left and seconds < SECONDS:
            chosen.append(left.pop())
            seconds += seconds_of(chosen[-1].row) + sum(PAUSE) / 2
        if seconds <= LONGEST:  # one window: nothing that the clips themselves don't show
            return
        yield _join(chosen, f"{number:03}", folder)


def _join(items: Sequence[Item], name: str, folder: Path) -> Recording:
    rows = [item.row for item in items]
    key = hash_json({"version": VERSION, "rows": [row.content or content_of(row) for row in rows]})
    rng = np.random.default_rng(int(key[:15], 16))
    pauses = [round(float(pause), 2) for pause in rng.uniform(*PAUSE, len(rows) - 1)]
    samples, segments = join_clips(rows, pauses, rng)
    path = (folder / f"{name}.flac").resolve()
    folder.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, np.clip(samples, -1, 1), SAMPLE_RATE)
    text = " ".join(segment.text for segment in segments)
    row = SpeechRow(id=f"long/{name}", audio=str(path), text=text, content=key)
    return Recording(row, tuple(items), segments)


def divide(recording: Recording, answer: Prediction, language: str) -> list[Prediction]:
    """What a recording's transcript says in the place of each sentence, and when that begins.

    The words of all sentences are aligned with those of the transcript; a word that nobody said
    goes to the sentence before it. A sentence is heard to begin where the word does that stands
    for its first one, right or wrong.

    Args:
        answer: of `LongForm`.
    """
    said = [(word, place) for place, segment in enumerate(recording.segments)
            for word in normalize(segment.text, language).split()]  # fmt: skip
    words: Sequence[Sequence[Any]] = answer.details["words"]
    pieces = [(piece, place) for place, word in enumerate(words)
              for piece in normalize(str(word[0]), language).split()]  # fmt: skip
    owner: dict[int, int] = {}
    starts: dict[int, float] = {}
    at, last = 0, -1
    for own, piece, _ in align_words([word for word, _ in said], [piece for piece, _ in pieces]):
        if own is not None:
            at = said[own][1]
        if piece is not None:
            place = pieces[piece][1]
            owner.setdefault(place, at)
            if own is not None and at != last:
                starts[at] = float(words[place][1])
        if own is not None:
            last = at
    texts = [""] * len(recording.segments)
    at = 0
    for place, word in enumerate(words):
        at = owner.get(place, at)  # punctuation stays with the word before it
        texts[at] += str(word[0])
    return [
        Prediction(item.row.id, text.strip(), _times(segment, starts.get(place)))
        for place, (item, segment, text) in enumerate(
            zip(recording.items, recording.segments, texts, strict=True)
        )
    ]


def _times(segment: Segment, heard: float | None) -> Mapping[str, float | None]:
    return {"known": segment.start, "heard": heard}
