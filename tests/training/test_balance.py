"""Balanced groups: equal shares of an epoch, a limit on repeats, and every row in its turn."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mmtune.config import TrainOptions
from mmtune.data.rows import Row
from mmtune.errors import ConfigError
from mmtune.training.balance import MAX_TURNS, balance_groups, whole_turns
from mmtune.training.batches import Plan, Slot
from mmtune.training.loop import fit
from mmtune.training.randomness import Draw
from mmtune.training.reporter import Reporter
from tests.training.toy import ToyTask, rows

COUNTS = st.dictionaries(st.sampled_from("abcdef"), st.integers(1, 25), min_size=1)


def labelled(counts: dict[str, int], without: int = 0, label: str = "accent") -> list[Row]:
    found: list[Row] = [
        row.model_copy(update={"group": {label: value}})
        for value, count in counts.items()
        for row in rows(count, value)
    ]
    return [*found, *rows(without, "none")]


@given(counts=COUNTS)
def test_groups_have_equal_shares_of_the_same_epoch(counts: dict[str, int]) -> None:
    balance = balance_groups(labelled(counts), "accent")
    shares = {value: balance.turns[value] * count for value, count in counts.items()}
    assert sum(shares.values()) == pytest.approx(sum(counts.values()))
    assert max(balance.turns.values()) <= MAX_TURNS
    most = max(shares.values())
    for value, share in shares.items():
        limited = balance.turns[value] == MAX_TURNS
        assert share == pytest.approx(most) or (limited and share < most)


@settings(max_examples=50)
@given(
    counts=COUNTS,
    without=st.integers(0, 20),
    buckets=st.integers(1, 4),
    size=st.integers(1, 9),
    seed=st.integers(0, 99),
)
def test_every_epoch_has_as_many_steps_and_every_row_its_turn(
    counts: dict[str, int], without: int, buckets: int, size: int, seed: int
) -> None:
    items = labelled(counts, without)

    def bucket(row: Row) -> str:
        return str(Draw(0, 0, row.id).integer("bucket", buckets))

    balance = balance_groups(items, "accent")
    plan = Plan(items, bucket, size, seed, balance)
    seen: Counter[str] = Counter()
    epochs = 4
    for epoch in range(epochs):
        batches = plan.epoch(epoch)
        assert len(batches) == plan.steps_per_epoch
        assert all(len({bucket(slot.row) for slot in batch}) == 1 for batch in batches)
        slots = [slot for batch in batches for slot in batch]
        # No two turns of a row share their random numbers.
        assert len({slot.draw(seed, epoch) for slot in slots}) == len(slots)
        of_group = Counter(slot.row.group.get("accent") for slot in slots)
        assert of_group[None] == without
        for value, count in counts.items():
            exact = balance.turns[value] * count
            assert abs(of_group[value] - exact) < 0.501 or exact < of_group[value] <= buckets
        seen.update(slot.row.id for slot in slots)
    cells: dict[tuple[str | None, str], list[int]] = {}
    for row in items:
        cells.setdefault((row.group.get("accent"), bucket(row)), []).append(seen[row.id])
    # Over some epochs the rows of a group and bucket have had the same number of turns, but for
    # those of the rotation that isn't complete.
    assert all(max(each) - min(each) <= 1 for each in cells.values())


def test_the_limit_and_the_repeats_are_said() -> None:
    balance = balance_groups(labelled({"scots": 1, "welsh": 3, "london": 116}, 9), "accent")
    assert balance.turns == {"scots": 20.0, "welsh": pytest.approx(50 / 3), "london": 50 / 116}
    assert balance.lines() == [
        "accent scots has 1 row; it is seen 20 times an epoch, which is the most: this group "
        "weighs less than others, so add rows of it",
        "accent welsh has 3 rows; each is seen 16.7 times an epoch",
        "accent london has 116 rows; each is seen 0.431 times an epoch",
    ]
    alike = balance_groups(labelled({"welsh": 2, "scots": 2, "london": 4}), "accent").lines()
    assert [line.split()[1] for line in alike] == ["scots", "welsh", "london"]
    many = balance_groups(labelled({f"g{n:02}": 1 + n for n in range(11)}), "accent")
    assert len(many.lines()) == 9
    assert many.lines()[-1] == "and 3 larger groups"
    assert balance_groups(labelled({"scots": 7}), "accent").lines() == [
        "train.balance changes nothing: all 7 training rows with the label accent have the value "
        "scots"
    ]


def test_a_label_that_no_row_has_is_an_error() -> None:
    with pytest.raises(ConfigError, match="no training row has the label 'acent'") as caught:
        balance_groups(labelled({"scots": 2, "welsh": 1}), "acent")
    assert "accent" in caught.value.cure
    with pytest.raises(ConfigError) as caught:
        balance_groups(rows(3), "accent")
    assert "leave train.balance out" in caught.value.cure


def test_small_buckets_keep_a_row_and_the_sum_is_exact() -> None:
    assert whole_turns(1.4, {"a": 1, "b": 1, "c": 1, "d": 1, "e": 1}) == {
        "a": 2, "b": 2, "c": 1, "d": 1, "e": 1,
    }  # fmt: skip
    assert whole_turns(0.25, {"a": 9, "b": 1}) == {"a": 2, "b": 1}
    assert whole_turns(0.1, {"a": 1, "b": 1, "c": 1}) == {"a": 1, "b": 1, "c": 1}


def test_without_balance_rows_have_the_order_and_numbers_that_they_had() -> None:
    items = rows(11)
    [only] = Plan(items, lambda row: "", 11, 3).epoch(2)
    assert only == [
        Slot(row) for row in sorted(items, key=lambda row: Draw(3, 2, row.id).key("order"))
    ]
    assert Slot(items[0]).draw(3, 2) == Draw(3, 2, items[0].id)


def test_a_run_says_how_often_rows_are_seen(tmp_path: Path) -> None:
    class Notes(Reporter):
        said: list[str] = []  # noqa: RUF012

        def note(self, text: str) -> None:
            self.said.append(text)

    notes = Notes()
    options = TrainOptions(epochs=1, batch_size=8, precision="fp32", balance="accent")
    fit(ToyTask(), labelled({"scots": 3, "london": 15}), [], options, tmp_path, notes)
    assert notes.said[:2] == [
        "balance    accent scots has 3 rows; each is seen 3 times an epoch",
        "balance    accent london has 15 rows; each is seen 0.6 times an epoch",
    ]
    with pytest.raises(ConfigError, match="no training row has the label 'age'"):
        fit(ToyTask(), labelled({"a": 3}), [], options.model_copy(update={"balance": "age"}),
            tmp_path / "wrong")  # fmt: skip
