"""Rows that have ended leave the batch: the rules of times must follow the rows that stay."""

from __future__ import annotations

import torch
from torch import Tensor

from mmtune.speech.whisper.decode import SHRINK, Sampling, _greedy

END, VOCABULARY = 9, 12


class Script:
    """A decoder whose row r, which begins with the id r, says r times the id r and then ends."""

    end = END

    def __init__(self, rows: list[int]) -> None:
        self.input = torch.tensor([[r] for r in rows])
        self.rows = torch.tensor(rows)
        self.said = torch.zeros_like(self.rows)
        self.sizes: list[int] = []

    def step(self) -> Tensor:
        self.sizes.append(len(self.rows))
        logits = torch.zeros(len(self.rows), VOCABULARY)
        tokens = torch.where(self.said < self.rows, self.rows, END)
        logits[torch.arange(len(self.rows)), tokens] = 20.0
        self.said = self.said + 1
        return logits

    def select(self, keep: Tensor) -> None:
        self.rows, self.said = self.rows[keep], self.said[keep]


def test_the_rules_see_the_history_of_the_rows_that_are_left() -> None:
    """Each row's history is its own first id and what it has said, at every step."""
    for rows in ([1, 5, 2, 7], [7, 1, 1, 1, 6], [3], [2, 2, 8]):
        decoder, asked = Script(rows), 0

        def rules(history: Tensor, logits: Tensor, decoder: Script = decoder) -> Tensor:
            nonlocal asked
            asked += 1
            for own, told in zip(decoder.rows.tolist(), history.tolist(), strict=True):
                said = told[1:]
                assert told[0] == own
                assert said[:own] == [own] * min(own, len(said))
                assert set(said[own:]) <= {END}
            assert history.shape[1] == asked
            return logits

        found = _greedy(decoder, [20] * len(rows), None, rules)  # type: ignore[arg-type]
        assert [ids for ids, _ in found] == [[r] * r for r in rows]
        assert [len(scores) for _, scores in found] == [r + 1 for r in rows]
        assert asked == len(decoder.sizes) == max(rows) + 1
        # Finished rows stay until so many have ended that leaving them out pays.
        sizes = [len(rows)]
        for step in range(max(rows)):
            running = sum(r > step for r in rows)
            sizes.append(running if running <= SHRINK * sizes[-1] else sizes[-1])
        assert decoder.sizes == sizes


def test_a_sampled_row_draws_its_own_numbers_after_others_have_left() -> None:
    """Row 7 gets the same draws beside three short rows as alone."""

    def drawn(rows: list[int], seeds: tuple[int, ...]) -> dict[int, list[int]]:
        hot = Sampling(temperature=8.0, seeds=seeds)
        found = _greedy(Script(rows), [12] * len(rows), hot)  # type: ignore[arg-type]
        return {seed: ids for seed, (ids, _) in zip(seeds, found, strict=True)}

    together = drawn([1, 7, 2, 7], (1, 2, 3, 4))
    assert drawn([7], (2,)) == {2: together[2]}
    assert drawn([7, 2], (4, 3)) == {4: together[4], 3: together[3]}
