"""When each word was said: dynamic time warping over the decoder's attention to the audio.

Some heads of the cross-attention follow the speech ("alignment heads"): where they look while the
decoder writes a token is when it was said. Source: openai/whisper's timing.py, and transformers'
`_extract_token_timestamps`.
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
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mmtune.metrics.text.normalize import UNSPACED
from mmtune.speech.whisper.base import WhisperBase
from mmtune.speech.whisper.decode import Spoken
from mmtune.speech.whisper.labels import prefix_ids

if TYPE_CHECKING:
    pass

FRAMES = 50  # of the encoder's output, a second
MEDIAN = 7  # frames over which attention is smoothed
LONG_WORD = (
    0.7  # seconds; a word beside the end of a sentence lasts at most twice the median, or this
)
BEFORE, AFTER = "\"'“¡¿([{-", "\"'.。,，!！?？:：”)]}、"  # written with the next or last word
SENTENCE_ENDS = ".。!！?？"


@dataclass(frozen=True)
class Word:
    """A word as it is written, its punctuation with it.

    Attributes:
        start, end: seconds from the beginning of the recording.
        text: with the space before it, where one is written: joined, words are the transcript.
        probability: the mean of its tokens', as the model that wrote them gives it.
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
    """The words of known text in given audio, with whatever adapter is active.

    No prompt is given: it takes attention from the speech.

    Args:
        base: the model.
        heard: encoder outputs, [rows, frames, width], 50 frames a second.
        spoken: the text ids of each row, without prefix and end token.
        languages: of each row; English-only bases ignore them.
        seconds: how long each row's audio is; what lies behind it is padding.

    Returns:
        The words of each row; times are from its beginning.
    """
    rows = [i for i, ids in enumerate(spoken) if len(ids)]
    found: list[list[Word]] = [[] for _ in spoken]
    if not rows:
        return found
    prefixes = [prefix_ids(base, languages[i]) for i in rows]
    most = int(base.model.config.max_target_positions)
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
        # The state after a token writes the next one, so that the last one writes the end.
        logits = base.model.proj_out(states[place, first : lengths[place] - 1]).float()[:, :end]
        chosen = torch.tensor(text, device=logits.device)[:, None]
        probabilities = logits.softmax(dim=-1).gather(1, chosen)[:, 0].tolist()
        matrix = matrices[place][first:].cpu().numpy()
        jumps = _jumps(matrix) / FRAMES
        found[i] = _words(base, text, languages[i], jumps, probabilities)
    return found


def alignment_heads(base: WhisperBase) -> list[tuple[int, int]]:
    """(layer, head) of the cross-attention that follows the speech.

    The generation config of OpenAI's models names them. Where one doesn't (a model tuned or
    converted elsewhere), they are all heads of the upper half of the layers, as in openai/whisper.
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
    """Within it, a pass of the decoder adds up its alignment heads' attention.

    Yields:
        For each row [its length, its frames], the mean of the heads: normalized over the tokens,
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
            # A frame that all tokens see alike says nothing.
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

            # With a LoRA in its place, the module's output has the adapter's share in it.
            handles.append(attention.q_proj.register_forward_hook(hear))
            handles.append(attention.k_proj.register_forward_hook(compare))
        yield matrices
    finally:
        for handle in handles:
            handle.remove()


def smooth(weights: Tensor) -> Tensor:
    """The median of each 7 neighbours along the last dimension, mirrored at its ends."""
    half = MEDIAN // 2
    if weights.shape[-1] <= half:
        return weights
    padded = torch.nn.functional.pad(weights, (half, half), mode="reflect")
    return padded.unfold(-1, MEDIAN, 1).median(dim=-1).values


def word_confidences(
    base: WhisperBase, spoken: Spoken, language: str | None
) -> list[list[str | float]]:
    """The words of a text with the model's confidence in each: the geometric mean of its tokens'.

    A mean of log probabilities, so that long words aren't doubted for their length alone.

    Args:
        base: whose tokens they are.
        spoken: with a log probability for each id.
        language: Whisper's code; None is English.

    Returns:
        [text, confidence] of each, as JSON keeps it; times and other special ids are no words, and
        punctuation is a word by itself.
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
    """The frame at which each row of [tokens, frames] begins on the best path."""
    rows, columns = warp(-matrix)
    first = np.r_[True, np.diff(rows) > 0]
    return columns[first].astype(np.float64)


def warp(cost: NDArray[np.float32]) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """The cheapest monotonic path through a matrix, from its first to its last corner.

    Computed one anti-diagonal at a time: its cells depend on the two before it alone.

    Args:
        cost: [rows, columns].

    Returns:
        Row and column of each cell of the path.
    """
    n, m = cost.shape
    # Diagonal d holds the cells i + j = d, at place i; a border of infinity is around them.
    skewed = np.full((n + m - 1, n), np.inf, np.float32)
    row, column = np.indices((n, m))
    skewed[row + column, row] = cost
    steps = np.zeros((n + m - 1, n), np.int8)
    totals = np.full((n + m + 1, n + 1), np.inf, np.float32)
    totals[0, 0] = 0.0  # the corner before the first cell
    for d, values in enumerate(skewed):
        both, up, left = totals[d, :-1], totals[d + 1, :-1], totals[d + 1, 1:]
        # Where costs are equal the audio goes on, even at a price: so it is upstream.
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
    # A word begins where its first token does, and ends where the next word begins.
    words: list[Word] = []
    place = 0
    for text, count in group(base.tokenizer, ids, language):
        mean = sum(probabilities[place : place + count]) / count
        start, end = float(jumps[place]), float(jumps[place + count])
        words.append(Word(start, end, text, mean))
        place += count
    return merge_punctuation(_shorten(words))


def _shorten(words: list[Word]) -> list[Word]:
    """Beside the end of a sentence, silence is counted into the words; leave it out."""
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
    """The words that ids write, as (text, number of ids); punctuation is by itself.

    A word begins at a space. Languages without spaces begin one at each character.

    Args:
        tokenizer: Whisper's.
        ids: text only.
        language: Whisper's code; None is English.
    """
    spaced = language not in UNSPACED
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    words: list[tuple[str, int]] = []
    text, count = "", 0
    for place, token in enumerate(tokenizer.convert_ids_to_tokens(list(ids))):
        # A character's bytes may stand in several tokens.
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
    """Opening punctuation goes to the next word, all other to the last one.

    Times and probability are those of the word itself.
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
