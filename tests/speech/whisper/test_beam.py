"""Beam search against one that is written down plainly: one row, lists, no batch and no cache."""

from __future__ import annotations

import random
from itertools import pairwise

import pytest
import torch
from torch import Tensor

from mmtune.speech.whisper.decode import DecodeOptions, _beam, _Search

END, VOCABULARY = 0, 14


def chances(row: int, ids: tuple[int, ...]) -> Tensor:
    """Log probabilities that depend on all that was said: a model without a cache to confuse."""
    generator = torch.Generator().manual_seed(hash((row, ids)) % 2**31)
    logits = 2 * torch.randn(VOCABULARY, generator=generator)
    logits[END] += 0.4 * len(ids) - row % 3  # rows end at different steps
    return logits.log_softmax(-1)


class Script:
    """What `_beam` needs of a decoder. Each place of the batch has its own history."""

    end = END

    def __init__(self, rows: list[int]) -> None:
        self.paths: list[tuple[int, tuple[int, ...]]] = [(row, ()) for row in rows]
        self.input: Tensor | None = None
        self.reordered = self.selected = 0

    def log_probabilities(self) -> Tensor:
        if self.input is not None:
            said = self.input[:, 0].tolist()
            self.paths = [(r, (*p, s)) for (r, p), s in zip(self.paths, said, strict=True)]
        return torch.stack([chances(*path) for path in self.paths])

    def select(self, rows: Tensor) -> None:
        self.selected += 1
        self.paths = [self.paths[i] for i in rows.tolist()]

    def reorder(self, rows: Tensor) -> None:
        """As a cache of self-attention: the rows' own encoder outputs stay where they are."""
        self.reordered += 1
        own = [row for row, _ in self.paths]
        self.paths = [(own[i], self.paths[j][1]) for i, j in enumerate(rows.tolist())]
        assert [self.paths[i][0] for i in range(len(own))] == own


def plainly(row: int, limit: int, beams: int, penalty: float) -> tuple[list[int], list[float]]:
    """transformers' search with early_stopping=False: the best ids, and the sum after each."""
    live: list[tuple[tuple[int, ...], list[float]]] = [((), [0.0])]
    done: list[tuple[float, list[int], list[float]]] = []
    for length in range(1, limit + 1):
        found = [
            (sums[-1] + float(value), ids, token, sums)
            for ids, sums in live
            for token, value in enumerate(chances(row, ids))
        ]
        found = sorted(found, key=lambda each: -each[0])[: 2 * beams]
        for score, ids, token, sums in found[:beams]:
            if token == END or length == limit:
                whole = [*ids] if token == END else [*ids, token]
                done.append((score / length**penalty, whole, [*sums, score]))
        done = sorted(done, key=lambda each: -each[0])[:beams]
        alive = [each for each in found if each[2] != END][:beams]
        live = [((*ids, token), [*sums, score]) for score, ids, token, sums in alive]
        if len(done) == beams and alive[0][0] / length**penalty <= done[-1][0]:
            break
    _, ids, sums = done[0]
    return ids, sums


@pytest.mark.parametrize("penalty", [1.0, 0.3, 2.0])
@pytest.mark.parametrize("beams", [2, 5, 7])
def test_a_batch_finds_what_each_row_finds_alone(beams: int, penalty: float) -> None:
    order = random.Random(beams)
    rows = [order.randrange(1_000) for _ in range(6)]
    limits = [9, 4, 12, 1, 7, 9]
    decoder = Script(rows)
    options = DecodeOptions(beams=beams, length_penalty=penalty)
    found = _beam(decoder, limits, options)  # type: ignore[arg-type]
    lengths = set()
    for row, limit, (ids, scores) in zip(rows, limits, found, strict=True):
        wanted, sums = plainly(row, limit, beams, penalty)
        assert ids == wanted
        assert len(ids) <= limit
        own = [b - a for a, b in pairwise(sums)]
        assert scores == pytest.approx(own, abs=1e-4)
        lengths.add(len(ids))
    assert len(lengths) > 2  # rows leave the batch one by one
    assert decoder.selected > 1
    # While no row leaves, only the self-attention's cache is put in order.
    assert decoder.reordered > 0


def test_more_beams_find_texts_that_are_as_probable_or_more() -> None:
    """Without a penalty on length, the sum of all beams' best grows with their number."""
    totals = []
    for beams in (2, 4, 7):
        decoder = Script(list(range(20)))
        options = DecodeOptions(beams=beams, length_penalty=0.0)
        found = _beam(decoder, [6] * 20, options)  # type: ignore[arg-type]
        totals.append(sum(sum(scores) for _, scores in found))
    assert totals == sorted(totals)
    assert totals[-1] > totals[0]


@pytest.mark.parametrize(("best", "over"), [(-3.0, True), (-2.0, True), (-1.0, False)])
def test_the_search_ends_where_no_beam_can_become_better(best: float, over: bool) -> None:
    """At a tie, too: the finished beam came first."""
    search = _Search(0, 10, [[1], [2]], [[0.0], [0.0]], [(-0.25, [], []), (-1.0, [], [])])
    options = DecodeOptions(beams=2, length_penalty=1.0)
    assert search.advance([(best, 0, 3), (best, 1, 4)], END, options) == [0, 1]
    assert search.over == over
