"""Decode again at higher temperatures if a text repeats itself or is a guess.

The criteria and temperatures are those of openai/whisper's transcribe.py (Radford et al. 2022,
section 4.5).
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from mmtune.metrics.text.repeats import COMPRESSION, compression
from mmtune.speech.whisper.base import WhisperBase
from mmtune.speech.whisper.decode import DecodeOptions, Sampling, Spoken, decode_scored

TEMPERATURES = (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)
LOG_PROBABILITY = -1.0  # a text with a lower mean log probability is a guess
NO_SPEECH = 0.6  # a window with a higher probability of no speech may be silent
NO_WORDS = 0.5  # a silent window has a higher probability of an empty text


@dataclass(frozen=True)
class Heard:
    """The transcript of a window.

    Attributes:
        ids: the ids of the text.
        text: the text without spaces around it; empty if there is no speech.
        log_probability, no_speech, no_words: see `Spoken`.
        temperature: temperature of the decoding; 0 is greedy or beam search.
        tokens: the log probability of each id.
    """

    ids: tuple[int, ...]
    text: str
    log_probability: float
    no_speech: float
    temperature: float
    no_words: float = 0.0
    tokens: tuple[float, ...] = ()


def is_silence(heard: Heard | Spoken) -> bool:
    """Whether the model predicts no speech and is unsure of its words, or predicts no words.

    openai/whisper uses the first two criteria. Its decoding forbids an empty text, so a model that
    has learned silence must write some words. The probability of an empty text counts here too.
    """
    unsure = heard.log_probability < LOG_PROBABILITY or heard.no_words > NO_WORDS
    return heard.no_speech > NO_SPEECH and unsure


def failed(heard: Heard) -> bool:
    """Whether a text repeats itself or is a guess."""
    if compression(heard.text) > COMPRESSION:
        return True
    return heard.log_probability < LOG_PROBABILITY and not is_silence(heard)


def agrees(first: Heard, second: Heard) -> bool:
    """Whether a second pass, with a prompt, has about as many words as the first.

    A prompt can make Whisper repeat the prompt, or stop at once.
    """
    if failed(second) or is_silence(second):
        return False
    own, new = len(first.text.split()), len(second.text.split())
    return 0.5 * own - 1 <= new <= 1.5 * own + 3


def decode_safely(
    base: WhisperBase,
    heard: Tensor,
    prefixes: Sequence[Sequence[int]],
    options: DecodeOptions,
    contents: Sequence[str],
    temperatures: Sequence[float] = TEMPERATURES,
) -> list[Heard]:
    """Decode a batch; decode rows that failed again at rising temperatures.

    If all attempts of a row fail, the most probable text without repetition is taken, or else the
    most probable text.

    Args:
        base: the model; its active adapters act.
        heard: encoder outputs, [rows, frames, width].
        prefixes: see `decode_scored`.
        options: settings of the search at temperature 0.
        contents: a hash of each row's audio; it is the seed of the sampling.
        temperatures: in the order in which they are tried.
    """
    tried: list[list[Heard]] = [[] for _ in prefixes]
    left = list(range(len(prefixes)))
    for temperature in temperatures:
        sampling = None
        if temperature > 0:
            sampling = Sampling(temperature, tuple(_seed(contents[i], temperature) for i in left))
        spoken = decode_scored(
            base.model, heard[left], [prefixes[i] for i in left], options, sampling
        )
        for i, each in zip(left, spoken, strict=True):
            tried[i].append(_read(base, each, temperature))
        left = [i for i in left if failed(tried[i][-1])]
        if not left:
            break
    return [_best(each) for each in tried]


def _read(base: WhisperBase, spoken: Spoken, temperature: float) -> Heard:
    text = base.text_of(spoken.ids)
    return Heard(
        tuple(spoken.ids),
        text,
        spoken.log_probability,
        spoken.no_speech,
        temperature,
        spoken.no_words,
        spoken.tokens,
    )


def _best(tried: Sequence[Heard]) -> Heard:
    if not failed(tried[-1]):
        return tried[-1]
    varied = [each for each in tried if compression(each.text) <= COMPRESSION]
    return max(varied or tried, key=lambda each: each.log_probability)


def _seed(content: str, temperature: float) -> int:
    digest = hashlib.sha256(f"{content} {temperature:.2f}".encode()).digest()
    return int.from_bytes(digest[:7], "big")
