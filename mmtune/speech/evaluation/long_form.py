"""Join test rows into long recordings, to measure their WER and the error of word times.

A recording is transcribed like `mmtune transcribe` does: speech is detected and cut into windows,
and each word gets its times. The transcript is then divided among the sentences, whose starts are
known.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from mmtune.evaluation.answers import StoredPredictor
from mmtune.metrics.text.aligned import align_words
from mmtune.metrics.text.normalize import normalize
from mmtune.predict import Prediction, Request
from mmtune.speech.corpus.join import PAUSE, join_clips
from mmtune.speech.evaluation.items import Active, Item, hear
from mmtune.speech.sound.augment import sounding
from mmtune.speech.sound.encode import save_sound
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
SECONDS = 120.0  # length of a recording: several windows, so that errors can accumulate
LONG_FORM_VERSION = 1  # raised when the same rows are joined differently


@dataclass(frozen=True)
class Recording:
    """Several rows in one file, and the start of each row's first word in seconds."""

    row: SpeechRow
    items: tuple[Item, ...]
    starts: tuple[float, ...]


class LongForm:
    """A predictor that transcribes rows of any length, with word times (see `listen`).

    Args:
        predictor: the models.
    """

    def __init__(self, predictor: SpeechPredictor) -> None:
        self.predictor = predictor

    @property
    def fingerprint(self) -> str:
        """Hash of everything except the request that a transcript depends on."""
        return hash_json([self.predictor.fingerprint, "long form"])

    def batches(self, requests: Sequence[Request]) -> list[list[int]]:
        """Each recording is a batch of its own."""
        return [[place] for place in range(len(requests))]

    def predict(self, requests: Sequence[Request]) -> list[Prediction]:
        """Transcribe each row; `details` has the words as [text, start, end] in seconds."""
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
    """Transcribe `task.long_form` recordings of test rows, and divide them into sentences.

    Args:
        predictor: with all models of `active`, and `LongForm` as the variant `LONG`.
        active: adapters of each model.
        items: items of the test.
        options: settings of the comparison.
        folder: folder of the run; its `data/long` gets the recordings.

    Returns:
        Items of the kind `LONG`: the sentence's part of the long transcript, with its true start
        and its start in the transcript ("known" and "heard" in the details, seconds). Items of the
        kind `PARTS`: the same sentences, transcribed alone. If there are several recordings, each
        is one cluster.
    """
    recordings = list(_recordings(items, options, folder / "data" / "long"))
    heard = hear(predictor.variant(LONG), active, [r.row for r in recordings])
    found: list[Item] = []
    for recording, each in zip(recordings, heard, strict=True):
        parts = {
            model: divide(recording, answer, options.language) for model, answer in each.items()
        }
        for place, item in enumerate(recording.items):
            # A single recording can't be resampled, so its sentences are resampled instead.
            several = len(recordings) > 1
            cluster = ("recording", recording.row.id) if several else item.cluster
            own = {model: parts[model][place] for model in parts}
            found.append(replace(item, heard=own, cluster=cluster, kind=LONG))
            found.append(replace(item, cluster=cluster, kind=PARTS))
    return found


def _recordings(items: Sequence[Item], options: SpeechOptions, folder: Path) -> Iterator[Recording]:
    """Yield recordings of rows ordered by hash, each row once; the last may be shorter."""
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
        if seconds <= MAX_WINDOW:  # a single window measures the same as the clips themselves
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
    save_sound(path, np.clip(samples, -1, 1), private=True)
    text = " ".join(" ".join(row.reference.split()) for row in rows)
    whole = SpeechRow(id=f"long/{name}", audio=str(path), text=text, content=key)
    starts = [place + first_word(row) for place, row in zip(places, rows, strict=True)]
    return Recording(whole, tuple(items), tuple(round(start, 3) for start in starts))


def first_word(row: SpeechRow) -> float:
    """Return the start of a row's first word in seconds: its first segment's, or a detected one.

    The first sound louder than silence is too early: recordings start with breath and clicks. On 42
    recordings of Common Voice and LibriSpeech the detected speech starts 0.4 s later (median). The
    method was chosen on clips of speechocean762, where it is half a second.
    """
    if row.segments:
        return row.segments[0].start
    clip = read_row(row)
    found = windows(clip)
    return found[0].start if found else sounding(clip)[0] / SAMPLE_RATE


def divide(recording: Recording, answer: Prediction, language: str) -> list[Prediction]:
    """Divide a recording's transcript among its sentences, with the start of each sentence.

    The words of all sentences are aligned with the words of the transcript. Inserted words go to
    the sentence before them. A sentence starts with the word that is aligned with its first word,
    whether it is right or wrong.

    Args:
        recording: with its sentences and their true starts.
        answer: prediction of `LongForm`.
        language: Whisper's code, for normalization.
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
        at = owner.get(place, at)  # punctuation belongs to the word before it
        texts[at] += str(word[0])
    return [
        Prediction(item.row.id, text.strip(), {"known": known, "heard": starts.get(place)})
        for place, (item, known, text) in enumerate(
            zip(recording.items, recording.starts, texts, strict=True)
        )
    ]
