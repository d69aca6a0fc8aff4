"""Test rows joined into recordings of minutes: what that costs, and whether times stay true.

A recording is transcribed as `mmtune transcribe` does it: speech is found, cut into windows, and
each word gets its times. What it says is then divided among its sentences, whose starts are known.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import soundfile

from mmtune.evaluate.answers import StoredPredictor
from mmtune.metrics.text.aligned import align_words
from mmtune.metrics.text.normalize import normalize
from mmtune.predict import Prediction, Request
from mmtune.speech.corpus.join import PAUSE, join_clips
from mmtune.speech.evaluation.items import Active, Item, hear
from mmtune.speech.sound.augment import sounding
from mmtune.speech.sound.read import SAMPLE_RATE, content_of, read_row
from mmtune.speech.speech_options import SpeechOptions
from mmtune.speech.speech_row import SpeechRow, speech_row
from mmtune.speech.transcription.predictor import SpeechPredictor
from mmtune.speech.transcription.transcribe import listen
from mmtune.speech.transcription.transcript import make_transcript
from mmtune.speech.transcription.vad import windows
from mmtune.speech.whisper.stages import MAX_WINDOW, seconds_of
from mmtune.system.hashing import hash_json, hash_text

LONG, PARTS = "long form", "long form, in parts"
SECONDS = 120.0  # of a recording: some windows, so that errors of cutting and of times can add up
LONG_FORM_VERSION = 1  # raised when the same rows would be joined otherwise


@dataclass(frozen=True)
class Recording:
    """Rows in one file, and when each begins to be said, in seconds."""

    row: SpeechRow
    items: tuple[Item, ...]
    starts: tuple[float, ...]


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

    def batches(self, requests: Sequence[Request]) -> list[list[int]]:
        """Each recording by itself."""
        return [[place] for place in range(len(requests))]

    def predict(self, requests: Sequence[Request]) -> list[Prediction]:
        """Transcripts; `details` has the words as [text, start, end] in seconds."""
        found = []
        for request in requests:
            row = speech_row(request.row)
            (segments,), language = listen(
                self.predictor,
                [read_row(row)],
                language=row.language,
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
        predictor: with all models of `active`, and `LongForm` under `LONG`.
        items: of the test.
        folder: of the run; its `data/long` gets the recordings.

    Returns:
        Items of the kind `LONG`, with what the long transcript says in the sentence's place and
        when ("known" and "heard" in the details, seconds); and of the kind `PARTS`, the same
        sentences as they were heard by themselves. Of several recordings, each is one cluster.
    """
    recordings = list(_recordings(items, options, folder / "data" / "long"))
    heard = hear(predictor.variant(LONG), active, [r.row for r in recordings])
    found: list[Item] = []
    for recording, each in zip(recordings, heard, strict=True):
        parts = {
            model: divide(recording, answer, options.language) for model, answer in each.items()
        }
        for place, item in enumerate(recording.items):
            # One recording can't be resampled: then its sentences are, as if each were alone.
            several = len(recordings) > 1
            cluster = ("recording", recording.row.id) if several else item.cluster
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
        and (item.row.language or options.language) == options.language
    ]
    for number in range(options.long_form):
        chosen: list[Item] = []
        seconds = 0.0
        while left and seconds < SECONDS:
            chosen.append(left.pop())
            seconds += seconds_of(chosen[-1].row) + sum(PAUSE) / 2
        if seconds <= MAX_WINDOW:  # one window: nothing that the clips themselves don't show
            return
        yield _join(chosen, f"{number:03}", folder)


def _join(items: Sequence[Item], name: str, folder: Path) -> Recording:
    rows = [item.row for item in items]
    key = hash_json(
        {"version": LONG_FORM_VERSION, "rows": [row.content or content_of(row) for row in rows]}
    )
    rng = np.random.default_rng(int(key[:15], 16))
    pauses = [round(float(pause), 2) for pause in rng.uniform(*PAUSE, len(rows) - 1)]
    samples, _, places = join_clips(rows, pauses, rng)
    path = (folder / f"{name}.flac").resolve()
    folder.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, np.clip(samples, -1, 1), SAMPLE_RATE)
    text = " ".join(" ".join(row.reference.split()) for row in rows)
    whole = SpeechRow(id=f"long/{name}", audio=str(path), text=text, content=key)
    starts = [place + first_word(row) for place, row in zip(places, rows, strict=True)]
    return Recording(whole, tuple(items), tuple(round(start, 3) for start in starts))


def first_word(row: SpeechRow) -> float:
    """When a row's first word begins, in seconds: as it says, or as the speech detector hears it.

    What is merely louder than silence won't do: clips of speechocean762 have half a second of
    breath and clicks before the first word.
    """
    if row.segments:
        return row.segments[0].start
    clip = read_row(row)
    found = windows(clip)
    return found[0].start if found else sounding(clip)[0] / SAMPLE_RATE


def divide(recording: Recording, answer: Prediction, language: str) -> list[Prediction]:
    """What a recording's transcript says in the place of each sentence, and when that begins.

    The words of all sentences are aligned with those of the transcript; a word that nobody said
    goes to the sentence before it. A sentence is heard to begin where the word does that stands
    for its first one, right or wrong.

    Args:
        answer: of `LongForm`.
    """
    said = [(word, place) for place, item in enumerate(recording.items)
            for word in normalize(item.row.reference, language).split()]  # fmt: skip
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
    texts = [""] * len(recording.items)
    at = 0
    for place, word in enumerate(words):
        at = owner.get(place, at)  # punctuation stays with the word before it
        texts[at] += str(word[0])
    return [
        Prediction(item.row.id, text.strip(), {"known": known, "heard": starts.get(place)})
        for place, (item, known, text) in enumerate(
            zip(recording.items, recording.starts, texts, strict=True)
        )
    ]
