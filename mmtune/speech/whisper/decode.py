"""Decode encoder outputs to ids: greedy, sampled or beam search, with a prompt for each row.

The ids equal those of transformers' `generate()` if that works. This loop exists because
`generate()` takes one prompt for a whole batch, recomputes or refuses stored encoder outputs in its
fallbacks, and continues to decode rows that have finished.

Beam search follows `GenerationMixin._beam_search` with `early_stopping=False` (transformers 5.23,
generation/utils.py). Its rows never influence one another.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

from mmtune.speech.whisper.prefix import prefix_length

SPOKEN = 224  # most ids of a clip, as openai/whisper's `sample_len`
PACE, AT_ONCE = 10.0, 24  # most ids per second, and in addition: twice those of the fastest speech
SHRINK = 0.75  # drop finished rows once this share of a batch, or less, is unfinished


@dataclass(frozen=True)
class DecodeOptions:
    """Settings of the search.

    Attributes:
        beams: number of beams; 1 is greedy search.
        max_new_tokens: limit for all rows or for each, with the end token; None: up to the
            decoder's last position.
        length_penalty: finished beams are ranked by log probability / length ** length_penalty.
        timestamps: write times between the words; needs one beam and prefixes that allow it.
    """

    beams: int = 1
    max_new_tokens: int | tuple[int, ...] | None = None
    length_penalty: float = 1.0
    timestamps: bool = False


@dataclass(frozen=True)
class Sampling:
    """Draw ids at random; the other rows of a batch don't change what a row gets.

    Attributes:
        temperature: logits are divided by it; greater than 0.
        seeds: a random seed for each row.
    """

    temperature: float
    seeds: tuple[int, ...]


@dataclass(frozen=True)
class Spoken:
    """The decoded ids of one row, and the model's confidence.

    Attributes:
        ids: the ids without the end token.
        log_probability: mean over the ids and the end token (`avg_logprob` in openai/whisper's
            decoding.py).
        no_speech: probability at the start token that the window holds no speech.
        no_words: probability of an empty text, which decoding forbids.
        tokens: the log probability of each id.
        language: the most probable language at the start token (see `detect_language`), whatever
            language the prefix names; a prompt before it may influence it. None for bases of one
            language.
    """

    ids: list[int]
    log_probability: float
    no_speech: float
    no_words: float = 0.0
    tokens: tuple[float, ...] = ()
    language: str | None = None


def most_ids(seconds: float, most: int = SPOKEN) -> int:
    """Return the largest number of ids for a clip: `SPOKEN` for 30 s, fewer for a short clip.

    If the text is longer, the model repeats itself. Decoding it to the end would take most of the
    time of an evaluation, and a few such clips would dominate the WER of a corpus.
    """
    return min(most, AT_ONCE + round(PACE * seconds))


def decode(
    model: Any, hidden: Tensor, prefixes: Sequence[Sequence[int]], options: DecodeOptions
) -> list[list[int]]:
    """Decode a batch and return only the ids; see `decode_scored`."""
    return [each.ids for each in decode_scored(model, hidden, prefixes, options)]


@torch.no_grad()
def decode_scored(
    model: Any,
    hidden: Tensor,
    prefixes: Sequence[Sequence[int]],
    options: DecodeOptions,
    sampling: Sampling | None = None,
) -> list[Spoken]:
    """Decode a batch to ids, with the model's confidence in each row.

    Args:
        model: a `WhisperForConditionalGeneration`; the active adapters of its layers act.
        hidden: encoder outputs, [rows, frames, width], one window for all rows.
        prefixes: ids that each row's decoder gets first; lengths may differ.
        options: settings of the search.
        sampling: draw ids at random instead of searching; beams are then ignored.

    Returns:
        The decoded row for each prefix.

    Raises:
        ValueError: a prefix leaves no position for text; the numbers of rows, prefixes and seeds
            differ; or timestamps are combined with several beams.
    """
    if len(hidden) != len(prefixes):
        raise ValueError(f"{len(hidden)} encoder outputs but {len(prefixes)} prefixes")
    if sampling is not None and len(sampling.seeds) != len(prefixes):
        raise ValueError(f"{len(prefixes)} prefixes but {len(sampling.seeds)} seeds")
    if options.timestamps and options.beams > 1:
        raise ValueError("timestamps are decoded with one beam only")
    if not prefixes:
        return []
    decoder = _Decoder(model, hidden, prefixes)
    rules = _time_rules(model, decoder) if options.timestamps else None
    wanted = options.max_new_tokens
    most = wanted if isinstance(wanted, tuple) else [wanted] * len(prefixes)
    rooms = [decoder.positions - len(prefix) for prefix in prefixes]
    limits = [min(one or room, room) for one, room in zip(most, rooms, strict=True)]
    if min(limits) < 1:
        raise ValueError(f"a prefix of {max(map(len, prefixes))} ids leaves no room to decode")
    if options.beams == 1 or sampling is not None:
        found = _greedy(decoder, limits, sampling, rules)
    else:
        found = _beam(decoder, limits, options)
    return [
        Spoken(
            ids, sum(scores) / (len(ids) + 1), silent, ending, tuple(scores[: len(ids)]), language
        )
        for (ids, scores), silent, ending, language in zip(
            found, decoder.no_speech, decoder.no_words, decoder.languages, strict=True
        )
    ]


class _Decoder:
    """The decoder with its key-value cache; `rows` of the batch can be selected or repeated."""

    def __init__(self, model: Any, hidden: Tensor, prefixes: Sequence[Sequence[int]]) -> None:
        from transformers import DynamicCache, EncoderDecoderCache

        self.decoder = model.model.decoder
        self.project = model.proj_out
        self.positions = int(model.config.max_target_positions) - prefix_length(self.decoder)
        generation = model.generation_config
        self.end = int(generation.eos_token_id)
        device = self.project.weight.device
        self.suppressed = torch.tensor(generation.suppress_tokens or [], device=device).long()
        self.suppressed_first = torch.tensor(
            generation.begin_suppress_tokens or [], device=device
        ).long()
        self.hidden = hidden.to(device, self.project.weight.dtype)
        self.cache = EncoderDecoderCache(DynamicCache(), DynamicCache())
        # Shorter prefixes are padded on the left and masked; equal ones need no mask.
        longest = max(map(len, prefixes))
        pads = torch.tensor([longest - len(prefix) for prefix in prefixes], device=device)
        self.input = torch.tensor(
            [[self.end] * (longest - len(prefix)) + list(prefix) for prefix in prefixes],
            device=device,
        )
        self.pads = pads if bool(pads.any()) else None
        self.length = 0  # positions in the cache
        start = int(generation.decoder_start_token_id)
        self.starts = [
            longest - len(prefix) + (list(prefix).index(start) if start in prefix else 0)
            for prefix in prefixes
        ]
        # In OpenAI's vocabularies it stands before <|notimestamps|>, under two names.
        stamps = getattr(generation, "no_timestamps_token_id", None)
        self.silent = None if stamps is None else int(stamps) - 1
        self.no_speech = [0.0] * len(prefixes)
        self.no_words = [0.0] * len(prefixes)
        several = getattr(generation, "is_multilingual", False)
        names: dict[str, int] = generation.lang_to_id if several else {}
        self.names = [name.strip("<|>") for name in names]
        self.name_ids = torch.tensor(list(names.values()), device=device).long()
        self.languages: list[str | None] = [None] * len(prefixes)

    def step(self) -> Tensor:
        """Logits after `input`, [rows, vocabulary] float32, suppressed ids at -inf."""
        new = self.input.shape[1]
        extra: dict[str, Tensor] = {}
        if self.pads is not None:
            places = torch.arange(self.length + new, device=self.input.device)
            extra["attention_mask"] = (places >= self.pads[:, None]).long()
            own = places[None, self.length :] - self.pads[:, None]
            extra["position_ids"] = own.clamp(min=0)
        output = self.decoder(
            input_ids=self.input,
            encoder_hidden_states=self.hidden,
            past_key_values=self.cache,
            use_cache=True,
            **extra,
        )
        first, self.length = self.length == 0, self.length + new
        states = output.last_hidden_state
        if first:
            at_start = states[torch.arange(len(states)), self.starts]
            chances = self.project(at_start).float().softmax(dim=-1)
            if self.silent is not None:
                self.no_speech = chances[:, self.silent].tolist()
            if self.names:
                best = chances[:, self.name_ids].argmax(dim=-1).tolist()
                self.languages = [self.names[i] for i in best]
        logits: Tensor = self.project(states[:, -1]).float()
        if first:
            self.no_words = logits.softmax(dim=-1)[:, self.end].tolist()
        return self._suppress(logits, first)

    def _suppress(self, logits: Tensor, first: bool) -> Tensor:
        logits[:, self.suppressed] = -torch.inf
        if first:
            logits[:, self.suppressed_first] = -torch.inf
        return logits

    def log_probabilities(self) -> Tensor:
        """Like `step`, but normalised over the whole vocabulary before ids are suppressed."""
        first = self.length == 0
        saved = self.suppressed, self.suppressed_first
        self.suppressed = self.suppressed_first = saved[0][:0]
        logits = self.step()
        self.suppressed, self.suppressed_first = saved
        return self._suppress(torch.log_softmax(logits, dim=-1), first)

    def select(self, rows: Tensor) -> None:
        """Keep (or repeat) these rows of the batch, in this order."""
        self.cache.batch_select_indices(rows)
        self.hidden = self.hidden[rows]
        if self.pads is not None:
            self.pads = self.pads[rows]

    def reorder(self, rows: Tensor) -> None:
        """Reorder only the cache of self-attention, among rows with the same encoder output."""
        self.cache.self_attention_cache.reorder_cache(rows)


def _time_rules(model: Any, decoder: _Decoder) -> Any:
    # Whisper's rules for timestamps: they come in pairs, never decrease, and start a window.
    from transformers.generation.logits_process import WhisperTimeStampLogitsProcessor

    begin = decoder.input.shape[1]
    return WhisperTimeStampLogitsProcessor(model.generation_config, begin_index=begin)


def _greedy(
    decoder: _Decoder, limits: list[int], sampling: Sampling | None, rules: Any = None
) -> list[tuple[list[int], list[float]]]:
    results: list[list[int]] = [[] for _ in limits]
    scores: list[list[float]] = [[] for _ in limits]  # log probabilities of the ids and the end
    rows = list(range(len(limits)))  # the row that each place of the batch decodes
    running = set(rows)
    draws = [torch.Generator().manual_seed(s) for s in sampling.seeds] if sampling else []
    history = decoder.input
    while True:
        logits = decoder.step()
        if rules is not None:
            logits = rules(history, logits)
        if sampling is None:
            tokens = logits.argmax(dim=-1)
        else:
            # The largest logit after adding Gumbel noise is a draw from the softmax.
            uniform = torch.stack([torch.rand(logits.shape[-1], generator=draws[r]) for r in rows])
            gumbel = -torch.log(-torch.log(uniform.double().clamp(min=1e-20))).float()
            tokens = (logits / sampling.temperature + gumbel.to(logits.device)).argmax(dim=-1)
        chosen = logits.log_softmax(dim=-1).gather(1, tokens[:, None])[:, 0]
        for row, token, value in zip(rows, tokens.tolist(), chosen.tolist(), strict=True):
            if row not in running:
                continue
            scores[row].append(value)
            if token == decoder.end:
                running.discard(row)
                continue
            results[row].append(token)
            if len(results[row]) >= limits[row]:
                running.discard(row)
        if not running:
            return list(zip(results, scores, strict=True))
        if len(running) <= SHRINK * len(rows):
            keep = torch.tensor([i for i, row in enumerate(rows) if row in running])
            keep = keep.to(tokens.device)
            decoder.select(keep)
            tokens, history = tokens[keep], history[keep]
            rows = [row for row in rows if row in running]
        decoder.input = tokens[:, None]
        history = torch.cat([history, decoder.input], dim=1)


@dataclass
class _Search:
    """The beams of one row: their ids, with the summed log probability after each id.

    A finished beam is (score, ids, sums); the last sum includes the end token.
    """

    row: int
    limit: int
    live: list[list[int]]
    sums: list[list[float]]
    done: list[tuple[float, list[int], list[float]]]
    over: bool = False

    def advance(
        self, candidates: list[tuple[float, int, int]], end: int, options: DecodeOptions
    ) -> list[int]:
        """Choose the beams of the next step.

        Args:
            candidates: the 2 x beams best (summed log probability, beam, id), best first.

        Returns:
            For each new live beam, the index of the beam that it continues.
        """
        length = len(self.live[0]) + 1
        last = length >= self.limit
        for score, beam, token in candidates[: options.beams]:
            # Only the best `beams` can finish; the others ensure that enough stay alive.
            if token == end or last:
                ids = self.live[beam] + ([] if token == end else [token])
                sums = [*self.sums[beam], score]
                self.done.append((score / length**options.length_penalty, ids, sums))
        self.done.sort(key=lambda each: -each[0])
        del self.done[options.beams :]
        alive = [each for each in candidates if each[2] != end][: options.beams]
        self.live = [[*self.live[beam], token] for _, beam, token in alive]
        self.sums = [[*self.sums[beam], score] for score, beam, _ in alive]
        best = alive[0][0] / length**options.length_penalty
        full = len(self.done) == options.beams
        self.over = last or (full and best <= self.done[-1][0])
        return [beam for _, beam, _ in alive]


def _beam(
    decoder: _Decoder, limits: list[int], options: DecodeOptions
) -> list[tuple[list[int], list[float]]]:
    searches = [_Search(row, limit, [[]], [[]], []) for row, limit in enumerate(limits)]
    results: list[tuple[list[int], list[float]]] = [([], []) for _ in limits]
    width = 1  # number of beams per row in the batch; the prefix is decoded once
    while True:
        scores = decoder.log_probabilities()
        device = scores.device
        vocabulary = scores.shape[-1]
        sums = torch.tensor([sum(s[-1:]) for each in searches for s in each.sums], device=device)
        totals = (scores + sums[:, None]).view(len(searches), width * vocabulary)
        best, places = totals.topk(2 * options.beams, dim=-1)
        source: list[int] = []
        for i, each in enumerate(searches):
            beams = [(p // vocabulary, p % vocabulary) for p in places[i].tolist()]
            candidates = [(s, *b) for s, b in zip(best[i].tolist(), beams, strict=True)]
            source += [i * width + b for b in each.advance(candidates, decoder.end, options)]
        left = [i for i, each in enumerate(searches) if not each.over]
        for each in searches:
            if each.over:
                _, ids, history = max(each.done, key=lambda one: one[0])
                results[each.row] = ids, [b - a for a, b in pairwise([0.0, *history])]
        if not left:
            return results
        order = [source[i * options.beams + b] for i in left for b in range(options.beams)]
        rows = torch.tensor(order, device=device)
        if width == options.beams and len(left) == len(searches):
            decoder.reorder(rows)
        else:
            decoder.select(rows)
        searches = [searches[i] for i in left]
        width = options.beams
        decoder.input = torch.tensor([[ids[-1]] for each in searches for ids in each.live]).to(
            device
        )


@torch.no_grad()
def detect_language(model: Any, hidden: Tensor) -> list[str]:
    """Return the most probable language of each row, as codes ("en"); multilingual bases only.

    Source: `detect_language` in openai/whisper's decoding.py.

    Args:
        model: a `WhisperForConditionalGeneration`.
        hidden: encoder outputs, [rows, frames, width].

    Raises:
        ValueError: the model knows only one language.
    """
    start = [int(model.generation_config.decoder_start_token_id)]
    decoder = _Decoder(model, hidden, [start] * len(hidden))
    if not decoder.names:
        raise ValueError("the model knows only one language")
    decoder.step()
    return [str(language) for language in decoder.languages]
