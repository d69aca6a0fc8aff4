"""Find the time of each word by dynamic time warping over the decoder's cross-attention.

Some heads of the cross-attention follow the speech ("alignment heads"): the frames that they attend
to while the decoder writes a token are the time of that token. Source: openai/whisper's timing.py
and transformers' `_extract_token_timestamps`.
"""

from __future__ import annotations

import codecs
import math
import string
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cache
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mmtune.metrics.text.normalize import UNSPACED
from mmtune.speech.whisper.base import WhisperBase
from mmtune.speech.whisper.decode import Spoken
from mmtune.speech.whisper.fallback import Heard
from mmtune.speech.whisper.labels import prefix_ids
from mmtune.speech.whisper.prefix import prefix_length

FRAMES = 50  # frames of the encoder's output per second
MEDIAN = 7  # frames of the median filter that smooths the attention
# Seconds. A word next to the end of a sentence lasts at most twice the smaller of this and the
# median duration.
LONG_WORD = 0.7
# Punctuation that belongs to the next word, and to the previous word.
BEFORE, AFTER = "\"'“¡¿([{-", "\"'.。,，!！?？:：”)]}、"
SENTENCE_ENDS = ".。!！?？"


@dataclass(frozen=True)
class Word:
    """A word of a transcript with its punctuation and times.

    Attributes:
        start, end: seconds from the beginning of the recording.
        text: the word with the space before it; joined words are the transcript.
        probability: mean probability of its tokens, by the model that wrote them.
    """

    start: float
    end: float
    text: str
    probability: float


@torch.no_grad()
def align(
    base: WhisperBase,
    heard: Tensor,
    spoken: Sequence[Sequence[int]],
    languages: Sequence[str | None],
    seconds: Sequence[float],
) -> list[list[Word]]:
    """Find the times of the words of known text, with the active adapter.

    The decoder gets no prompt, because a prompt takes attention from the speech.

    Args:
        base: the model.
        heard: encoder outputs, [rows, frames, width], 50 frames per second.
        spoken: text ids of each row, without prefix and end token.
        languages: language of each row; English-only bases ignore it.
        seconds: length of each row's audio; frames after it are padding.

    Returns:
        The words of each row, with times from the row's beginning.
    """
    rows = [i for i, ids in enumerate(spoken) if len(ids)]
    found: list[list[Word]] = [[] for _ in spoken]
    if not rows:
        return found
    prefixes = [prefix_ids(base, languages[i]) for i in rows]
    most = int(base.model.config.max_target_positions) - prefix_length(base.model.model.decoder)
    texts = [list(spoken[i])[: most - len(p)] for i, p in zip(rows, prefixes, strict=True)]
    lengths = [len(p) + len(t) for p, t in zip(prefixes, texts, strict=True)]
    window = heard.shape[1]
    frames = [min(window, max(1, round(seconds[i] * FRAMES))) for i in rows]
    end = base.ids["endoftext"]
    inputs = torch.full((len(rows), max(lengths)), end, device=heard.device)
    for place, (prefix, text) in enumerate(zip(prefixes, texts, strict=True)):
        inputs[place, : lengths[place]] = torch.tensor([*prefix, *text])
    with _attention(base, lengths, frames) as matrices:
        hidden = heard[rows].to(base.model.proj_out.weight.dtype)
        states = base.model.model.decoder(
            input_ids=inputs, encoder_hidden_states=hidden, use_cache=False
        ).last_hidden_state
    for place, i in enumerate(rows):
        first, text = len(prefixes[place]) - 1, texts[place]
        # The state after a token predicts the next token, and the last state predicts the end.
        logits = base.model.proj_out(states[place, first : lengths[place] - 1]).float()[:, :end]
        chosen = torch.tensor(text, device=logits.device)[:, None]
        probabilities = logits.softmax(dim=-1).gather(1, chosen)[:, 0].tolist()
        matrix = matrices[place][first:].cpu().numpy()
        jumps = _jumps(matrix) / FRAMES
        found[i] = _words(base, text, languages[i], jumps, probabilities)
    return found


def alignment_heads(base: WhisperBase) -> list[tuple[int, int]]:
    """Return (layer, head) of the cross-attention heads that follow the speech.

    The generation config of OpenAI's models names them. For models whose config doesn't, all heads
    of the upper half of the layers are used, as in openai/whisper.
    """
    named = getattr(base.model.generation_config, "alignment_heads", None)
    if named:
        return [(int(layer), int(head)) for layer, head in named]
    config = base.model.config
    layers = range(config.decoder_layers // 2, config.decoder_layers)
    return [(layer, head) for layer in layers for head in range(config.decoder_attention_heads)]


@contextmanager
def _attention(
    base: WhisperBase, lengths: Sequence[int], frames: Sequence[int]
) -> Iterator[list[Tensor]]:
    """Record the attention of the alignment heads during a pass of the decoder.

    Yields:
        For each row [its length, its frames], the mean over the heads, normalized over the tokens
        and smoothed over time.
    """
    heads = alignment_heads(base)
    matrices: list[Tensor] = [torch.zeros(0)] * len(lengths)
    queries: dict[int, Tensor] = {}

    def add(layer: int, attention: Any, keys: Tensor) -> None:
        chosen = [head for at, head in heads if at == layer]
        size, scale = attention.head_dim, attention.scaling
        for row, (length, frame) in enumerate(zip(lengths, frames, strict=True)):
            q = queries[layer][row, :length].view(length, -1, size)[:, chosen].float()
            k = keys[row, :frame].view(frame, -1, size)[:, chosen].float()
            weights = torch.einsum("lhs,fhs->hlf", q * scale, k).softmax(dim=-1)
            deviation, mean = torch.std_mean(weights, dim=1, keepdim=True, correction=0)
            # A frame to which all tokens attend equally carries no information.
            even = (weights - mean) / deviation.clamp(min=torch.finfo(torch.float32).tiny)
            total = smooth(even).sum(dim=0) / len(heads)
            matrices[row] = total if not len(matrices[row]) else matrices[row] + total

    handles = []
    try:
        for layer in sorted({layer for layer, _ in heads}):
            attention = base.model.model.decoder.layers[layer].encoder_attn

            def hear(_: Any, __: Any, out: Tensor, at: int = layer) -> None:
                queries[at] = out

            def compare(_: Any, __: Any, out: Tensor, at: int = layer, a: Any = attention) -> None:
                add(at, a, out)
                del queries[at]

            # If a LoRA layer replaces the module, its output includes the adapter's part.
            handles.append(attention.q_proj.register_forward_hook(hear))
            handles.append(attention.k_proj.register_forward_hook(compare))
        yield matrices
    finally:
        for handle in handles:
            handle.remove()


def smooth(weights: Tensor) -> Tensor:
    """Take the median of 7 neighbours along the last dimension, mirrored at its ends."""
    half = MEDIAN // 2
    if weights.shape[-1] <= half:
        return weights
    padded = torch.nn.functional.pad(weights, (half, half), mode="reflect")
    return padded.unfold(-1, MEDIAN, 1).median(dim=-1).values


def word_confidences(
    base: WhisperBase, spoken: Spoken | Heard, language: str | None
) -> list[list[str | float]]:
    """Return the words of a text, each with the geometric mean of its tokens' probabilities.

    A mean, and not a product, so that long words don't get low confidence for their length.

    Args:
        base: the model whose tokens they are.
        spoken: with a log probability for each id.
        language: Whisper's code; None is English.

    Returns:
        [text, confidence] of each word, as JSON stores it. Timestamps and other special ids are
        left out, and punctuation is a word of its own.
    """
    end = base.ids["endoftext"]
    scores = zip(spoken.ids, spoken.tokens, strict=True)
    text = [(token, score) for token, score in scores if token < end]
    words: list[list[str | float]] = []
    place = 0
    for written, count in group(base.tokenizer, [token for token, _ in text], language):
        mean = sum(score for _, score in text[place : place + count]) / count
        words.append([written, round(math.exp(mean), 4)])
        place += count
    return words


def _jumps(matrix: NDArray[np.float32]) -> NDArray[np.float64]:
    """Return the frame at which each token of [tokens, frames] begins on the best path."""
    rows, columns = warp(-matrix)
    first = np.r_[True, np.diff(rows) > 0]
    return columns[first].astype(np.float64)


def warp(cost: NDArray[np.float32]) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Find the cheapest monotonic path through a matrix, from its first to its last cell.

    It computes one anti-diagonal at a time, because its cells depend only on the two before it.

    Args:
        cost: [rows, columns].

    Returns:
        Row and column of each cell of the path.
    """
    n, m = cost.shape
    # Diagonal d holds the cells i + j = d at index i, with a border of infinity.
    skewed = np.full((n + m - 1, n), np.inf, np.float32)
    row, column = np.indices((n, m))
    skewed[row + column, row] = cost
    steps = np.zeros((n + m - 1, n), np.int8)
    totals = np.full((n + m + 1, n + 1), np.inf, np.float32)
    totals[0, 0] = 0.0  # the corner before the first cell
    for d, values in enumerate(skewed):
        both, up, left = totals[d, :-1], totals[d + 1, :-1], totals[d + 1, 1:]
        # On equal costs the audio advances, even at a higher price, as in openai/whisper.
        diagonal = both < np.minimum(up, left)
        down = (up < left) & (up < both)
        least = np.where(diagonal, both, np.where(down, up, left))
        np.add(values, least, out=totals[d + 2, 1:])
        steps[d] = np.where(diagonal, 0, np.where(down, 1, 2))
    path = [(n - 1, m - 1)]
    while path[-1] != (0, 0):
        i, j = path[-1]
        step = 2 if i == 0 else 1 if j == 0 else int(steps[i + j, i])
        path.append((i - (step != 2), j - (step != 1)))
    found = np.array(path[::-1], dtype=np.intp)
    return found[:, 0], found[:, 1]


def _words(
    base: WhisperBase,
    ids: Sequence[int],
    language: str | None,
    jumps: NDArray[np.float64],
    probabilities: Sequence[float],
) -> list[Word]:
    # A word starts with its first token, and ends where the next word starts.
    words: list[Word] = []
    place = 0
    for text, count in group(base.tokenizer, ids, language):
        mean = sum(probabilities[place : place + count]) / count
        start, end = float(jumps[place]), float(jumps[place + count])
        words.append(Word(start, end, text, mean))
        place += count
    return merge_punctuation(_shorten(words))


def _shorten(words: list[Word]) -> list[Word]:
    """Shorten words next to the end of a sentence, because their times include the silence."""
    durations = [w.end - w.start for w in words if w.end > w.start]
    if not durations:
        return words
    most = 2 * min(LONG_WORD, float(np.median(durations)))
    result = words[:1]
    for last, word in pairwise(words):
        if word.end - word.start > most:
            if word.text.strip() in SENTENCE_ENDS:
                word = replace(word, end=word.start + most)
            elif last.text.strip() in SENTENCE_ENDS:
                word = replace(word, start=word.end - most)
        result.append(word)
    return result


def group(tokenizer: Any, ids: Sequence[int], language: str | None) -> list[tuple[str, int]]:
    """Group ids into words: (text, number of ids) of each; punctuation is a word of its own.

    A word starts at a space. In languages without spaces each character is a word.

    Args:
        tokenizer: Whisper's tokenizer.
        ids: text ids without special tokens.
        language: Whisper's code; None is English.
    """
    spaced = language not in UNSPACED
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    words: list[tuple[str, int]] = []
    text, count = "", 0
    for place, token in enumerate(tokenizer.convert_ids_to_tokens(list(ids))):
        # The bytes of a character may be in several tokens.
        text += decoder.decode(_bytes(token), final=place == len(ids) - 1)
        count += 1
        if decoder.getstate()[0]:
            continue
        alone = text.startswith(" ") or text.strip() in string.punctuation
        if words and spaced and not alone:
            last, tokens = words.pop()
            if words and last in string.punctuation:  # within a word: 3.5, it's, well-known
                before, more = words.pop()
                last, tokens = before + last, tokens + more
            words.append((last + text, tokens + count))
        else:
            words.append((text, count))
        text, count = "", 0
    return words


@cache
def _byte_of() -> dict[str, int]:
    from transformers.convert_slow_tokenizer import bytes_to_unicode

    return {character: byte for byte, character in bytes_to_unicode().items()}


def _bytes(token: str) -> bytes:
    table = _byte_of()
    if all(character in table for character in token):
        return bytes(table[character] for character in token)
    return token.encode()  # an added token is written as it is


def merge_punctuation(words: Sequence[Word]) -> list[Word]:
    """Attach opening punctuation to the next word and all other punctuation to the previous one.

    Times and probability stay those of the word without punctuation.
    """
    forward: list[Word] = []
    opening = ""
    for word in words:
        if word.text.startswith(" ") and word.text.strip() in BEFORE:
            opening += word.text
            continue
        forward.append(replace(word, text=opening + word.text))
        opening = ""
    if opening:
        forward.append(replace(words[-1], text=opening))
    result: list[Word] = []
    for word in forward:
        closing = word.text in AFTER and word.text
        if result and closing and not result[-1].text.endswith(" "):
            result[-1] = replace(result[-1], text=result[-1].text + word.text)
        else:
            result.append(word)
    return result
