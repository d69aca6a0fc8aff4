"""Transcribe recordings of any length: channels, speech detection, windows, word times, terms."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mmtune.data.rows import Row
from mmtune.errors import ConfigError
from mmtune.speech.sound.channels import measure
from mmtune.speech.sound.read import SAMPLE_RATE, Span, read_channels, read_row, span_of
from mmtune.speech.speech_row import speech_row
from mmtune.speech.transcription.predictor import SpeechPredictor
from mmtune.speech.transcription.retrieve import TermIndex, prompt_with
from mmtune.speech.transcription.splice import splice
from mmtune.speech.transcription.transcript import (
    PlacedTerm,
    Transcript,
    TranscriptSegment,
    make_transcript,
    split,
)
from mmtune.speech.transcription.vad import Window, windows
from mmtune.speech.whisper.base import WhisperBase
from mmtune.speech.whisper.fallback import Heard, agrees, decode_safely, is_silence
from mmtune.speech.whisper.labels import prefix_ids
from mmtune.speech.whisper.stages import MAX_WINDOW
from mmtune.speech.whisper.word_times import Word, align, word_confidences

MAX_SECONDS = 24 * 3600.0  # longest file
ChannelChoice = Literal["auto", "split", "mix"]


def transcribe(
    source: Path | str | Row,
    predictor: SpeechPredictor,
    *,
    weights: Mapping[str, float] | None = None,
    prompt: str | None = None,
    words: bool = False,
    channels: ChannelChoice = "auto",
    names: Sequence[str] = (),
    terms: TermIndex | None = None,
) -> Transcript:
    """Transcribe a recording of any length.

    Speech is detected and cut at pauses into windows of at most 30 s; the rest is skipped. If the
    text of a window repeats itself or is a guess, the window is decoded again (see `fallback`).

    Args:
        source: an audio file, or a row with span, channel, language and prompt.
        predictor: from `open_predictor`.
        weights: weight of each active adapter by name; None: all adapters, as trained; an empty
            mapping gives the base, bit by bit.
        prompt: earlier text, or words to expect.
        words: add times to each word; a segment is then a sentence, and not a window.
        channels: "auto" transcribes channels separately if they differ, as the two sides of a call
            do; "split" always does; "mix" transcribes their mean.
        names: names of separate channels; "channel 1", "channel 2" … by default.
        terms: terms to spell correctly; a second pass is prompted with those that resemble the
            text of the first pass. What it writes in their places is put into the first text,
            which otherwise stays as it is (see `splice`).

    Raises:
        DataError: the file can't be read.
        ConfigError: the number of names differs from the number of channels.
    """
    row = speech_row(source) if isinstance(source, Row) else None
    path = source.path if isinstance(source, Row) else Path(source)
    if row is not None and span_of(row) != Span():
        tracks = [read_row(row, max_seconds=MAX_SECONDS)]
    else:
        tracks = read_tracks(path, channels)
    labels = _labels(tracks, names, path)
    speakers: list[str | None] = [*labels] or [None]
    # The times of the words order the turns of several speakers.
    timed = words or len(tracks) > 1
    found, language = listen(
        predictor,
        tracks,
        language=row.language if row else None,
        weights=weights,
        prompt=prompt or (row.prompt if row else None),
        words=timed,
        terms=terms,
    )
    segments = [
        replace(segment, channel=label, words=segment.words if words else ())
        for label, each in zip(speakers, found, strict=True)
        for segment in each
    ]
    seconds = len(tracks[0]) / SAMPLE_RATE
    return make_transcript(segments, language, labels, seconds)


def read_tracks(path: Path, channels: ChannelChoice = "auto") -> list[NDArray[np.float32]]:
    """Read the tracks of a file that are transcribed separately: [samples] each, mono, 16 kHz.

    Args:
        path: an audio file.
        channels: see `transcribe`.

    Raises:
        DataError: the file can't be read.
    """
    samples = read_channels(path, max_seconds=MAX_SECONDS)
    if len(samples) == 1:
        return [samples[0]]
    if channels == "auto":
        verdict = measure([samples.T], SAMPLE_RATE)
        if verdict.wanted is not None and verdict.wanted != "mix":
            return [samples[verdict.wanted]]
        channels = "split" if verdict.wanted is None else "mix"
    return list(samples) if channels == "split" else [samples.mean(axis=0)]


def _labels(
    tracks: Sequence[NDArray[np.float32]], names: Sequence[str], path: Path | str
) -> list[str]:
    if len(tracks) == 1:
        return []
    if names and len(names) != len(tracks):
        raise ConfigError(
            f"{path} has {len(tracks)} channels that differ, but {len(names)} names are given",
            "name each channel once: --speakers agent,customer",
        )
    return list(names) or [f"channel {i}" for i in range(1, len(tracks) + 1)]


def listen(
    predictor: SpeechPredictor,
    tracks: Sequence[NDArray[np.float32]],
    *,
    language: str | None = None,
    weights: Mapping[str, float] | None = None,
    prompt: str | None = None,
    words: bool = False,
    terms: TermIndex | None = None,
) -> tuple[list[list[TranscriptSegment]], str | None]:
    """Transcribe samples: the segments of each track, and the language.

    Windows of all tracks are decoded together, as many as the predictor's `batch_size`, so memory
    doesn't grow with the recording.

    Args:
        predictor: from `open_predictor`.
        tracks: [samples] each, mono, 16 kHz.
        language: Whisper's code; None takes the predictor's, or detects it in the first window.
        weights: weight of each active adapter by name; None: all adapters, as trained.
        prompt: earlier text, or words to expect.
        words: add times to each word.
        terms: see `transcribe`.
    """
    if weights is None:
        weights = dict.fromkeys(predictor.adapters.inner, 1.0)
    plan = [(i, window) for i, track in enumerate(tracks) for window in windows(track)]
    plan.sort(key=lambda each: (each[1].start, each[0]))
    found: list[list[TranscriptSegment]] = [[] for _ in tracks]
    size = max(1, predictor.batch_size // predictor.options.beams)
    if not plan and language is None and predictor.base.multilingual:
        language = predictor.language  # silence has no language to detect
    for first in range(0, len(plan), size):
        some = plan[first : first + size]
        clips = [window.audio(tracks[i]) for i, window in some]
        hidden = torch.stack(predictor.stage.encode_audio(clips, MAX_WINDOW))
        language = predictor.languages(hidden[:1], [language])[0]
        with predictor.adapters.on(weights):
            states = predictor.stage.finish(hidden)
            heard, placed = _decode(predictor, states, clips, language, prompt, terms)
            spoken = [() if is_silence(each) else each.ids for each in heard]
            seconds = [len(clip) / SAMPLE_RATE for clip in clips]
            languages = [language] * len(some)
            timed = align(predictor.base, states, spoken, languages, seconds) if words else []
        for place, ((i, window), each) in enumerate(zip(some, heard, strict=True)):
            if not spoken[place] or not each.text:
                continue
            segment = TranscriptSegment(
                window.start,
                window.end,
                each.text,
                log_probability=each.log_probability,
                no_speech=each.no_speech,
                temperature=each.temperature,
                terms=placed[place],
            )
            if words:
                segment = replace(segment, words=_placed(timed[place], window))
                found[i] += split(segment)
            else:
                found[i].append(segment)
    return found, language


def _placed(words: Sequence[Word], window: Window) -> tuple[Word, ...]:
    placed: list[Word] = []
    for word in words:
        start, end = window.times(word.start, word.end)
        if placed:  # words stay in order where the limits of speech moved them
            start = max(start, placed[-1].end)
        placed.append(replace(word, start=start, end=max(start, end)))
    return tuple(placed)


def _decode(
    predictor: SpeechPredictor,
    states: Tensor,
    clips: Sequence[NDArray[np.float32]],
    language: str | None,
    prompt: str | None,
    terms: TermIndex | None,
) -> tuple[list[Heard], list[tuple[PlacedTerm, ...]]]:
    base, options = predictor.base, predictor.options
    contents = [hashlib.sha256(clip.tobytes()).hexdigest() for clip in clips]
    prefix = prefix_ids(base, language, prompt)
    heard = decode_safely(base, states, [prefix] * len(clips), options, contents)
    placed: list[tuple[PlacedTerm, ...]] = [()] * len(heard)
    if terms is None:
        return heard, placed
    candidates = [terms.candidates(each.text) for each in heard]
    prompts = [prompt_with(base, each, prompt) for each in candidates]
    again = [i for i, own in enumerate(prompts) if own is not None]
    if not again:
        return heard, placed
    prefixes = [prefix_ids(base, language, prompts[i]) for i in again]
    # A failed second pass isn't tried again, because the text of the first pass remains.
    second = decode_safely(
        base, states[again], prefixes, options, [contents[i] for i in again], (0.0,)
    )
    for i, each in zip(again, second, strict=True):
        if agrees(heard[i], each):
            retrieved = [term for term, _ in candidates[i]]
            scores = word_confidences(base, heard[i], language)
            text, placed[i] = splice(heard[i].text, each.text, terms, retrieved, language, scores)
            if placed[i]:
                heard[i] = replace(heard[i], ids=_ids(base, heard[i], text), text=text, tokens=())
    return heard, placed


def _ids(base: WhisperBase, heard: Heard, text: str) -> tuple[int, ...]:
    """The ids of a text in place of a window's own, from which the times of words are found."""
    space = " " if base.tokenizer.decode(list(heard.ids)).startswith(" ") else ""
    return tuple(base.tokenizer.encode(space + text, add_special_tokens=False))


def timed_words(
    predictor: SpeechPredictor,
    audio: NDArray[np.float32],
    *,
    language: str | None = None,
    weights: Mapping[str, float] | None = None,
    prompt: str | None = None,
) -> list[Word]:
    """Transcribe a recording of any length word by word.

    Args:
        predictor: from `open_predictor`.
        audio: [samples], mono, 16 kHz.
        language: Whisper's code; None takes the predictor's, or detects it.
        weights: weight of each active adapter by name; None: all adapters, as trained.
        prompt: earlier text, or words to expect.

    Returns:
        The words in the order of time; none if nobody speaks.
    """
    (segments,), _ = listen(
        predictor, [audio], language=language, weights=weights, prompt=prompt, words=True
    )
    return [word for segment in segments for word in segment.words]
