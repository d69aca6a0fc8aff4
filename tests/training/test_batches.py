"""Properties of the plan of batches and of row-wise randomness."""

from __future__ import annotations

from collections import Counter

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mmtune.training.batches import Plan, Slot, shard
from mmtune.training.randomness import Draw
from mmtune.training.task import Monitor
from tests.training.toy import rows


@given(n=st.integers(1, 60), size=st.integers(1, 9), buckets=st.integers(1, 4), seed=st.integers())
def test_an_epoch_meets_every_row_once_in_pure_batches(
    n: int, size: int, buckets: int, seed: int
) -> None:
    items = rows(n)

    def bucket(row: object) -> str:
        return str(hash(row.id) % buckets)  # type: ignore[attr-defined]

    plan = Plan(items, bucket, size, seed)
    for epoch in range(2):
        batches = plan.epoch(epoch)
        assert len(batches) == plan.steps_per_epoch
        assert Counter(s.row.id for b in batches for s in b) == Counter(r.id for r in items)
        assert all(len({bucket(slot.row) for slot in batch}) == 1 for batch in batches)
        assert all(len(batch) <= size for batch in batches)


@given(n=st.integers(2, 40), seed=st.integers(0, 99))
def test_the_plan_does_not_depend_on_the_order_of_the_manifest(n: int, seed: int) -> None:
    items = rows(n)
    forward = Plan(items, lambda row: "", 4, seed).epoch(1)
    backward = Plan(items[::-1], lambda row: "", 4, seed).epoch(1)
    assert [[s.row.id for s in b] for b in forward] == [[s.row.id for s in b] for b in backward]


def test_epochs_differ() -> None:
    plan = Plan(rows(40), lambda row: "", 8, 0)
    assert plan.epoch(0) != plan.epoch(1)


@given(n=st.integers(1, 20), world=st.integers(1, 4), micro=st.none() | st.integers(1, 5))
def test_shards_hold_every_row_once_and_keep_processes_in_step(
    n: int, world: int, micro: int | None
) -> None:
    items = [Slot(row) for row in rows(n)]
    shares = [shard(items, rank, world, micro) for rank in range(world)]
    assert len({len(share) for share in shares}) == 1
    counted = [s.row.id for share in shares for group in share for s in group if s.counts]
    assert Counter(counted) == Counter(slot.row.id for slot in items)


def test_draws_depend_on_row_epoch_seed_and_purpose() -> None:
    values = {
        Draw(seed, epoch, row).uniform(name)
        for seed in (0, 1) for epoch in (0, 1) for row in ("a", "b") for name in ("x", "y")
    }  # fmt: skip
    assert len(values) == 16
    assert all(0 <= value < 1 for value in values)
    assert torch.equal(Draw(0, 1, "a").normal("n", (3,)), Draw(0, 1, "a").normal("n", (3,)))


def test_uniform_draws_are_uniform() -> None:
    values = torch.tensor([Draw(0, 0, str(i)).uniform("u") for i in range(4000)])
    counts = torch.histc(values, 10, 0, 1)
    assert float(((counts - 400) ** 2 / 400).sum()) < 27.9  # chi square, 9 degrees, p = .001


@pytest.mark.parametrize(("higher", "better"), [(True, 2.0), (False, 0.5)])
def test_a_monitor_ignores_non_finite_values(higher: bool, better: float) -> None:
    monitor = Monitor("m", higher)
    assert monitor.better(better, 1.0)
    assert not monitor.better(1.0, better)
    assert not monitor.better(float("nan"), None)
    assert not monitor.better(float("inf"), 1.0)
