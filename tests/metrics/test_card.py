"""CLIP score's gate, copies, and diversity within a prompt, on values that are known."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.distance import pdist

from mmtune.metrics.bootstrap import Interval
from mmtune.metrics.image.clip_score import (
    Recall,
    check_prompts,
    clip_scores,
    mean_score,
    recall,
    shuffled,
)
from mmtune.metrics.image.diversity import mean_spread, spread, spread_by_prompt
from mmtune.metrics.image.memorization import copied, copy_threshold, share
from mmtune.metrics.image.nearest import Nearest

NONE = Interval(0.0, 0.0, 0.0)


def test_scores_are_cosines_that_never_fall_below_0() -> None:
    images = np.array([[2.0, 0], [0, 3], [1, 1], [0, 0]])
    texts = np.array([[5.0, 0], [0, -1], [0, 2], [1, 0]])
    found = clip_scores(images, texts)
    np.testing.assert_allclose(found[:, 0], [100, 0, 100 / math.sqrt(2), 0])
    assert mean_score(found) == pytest.approx(found.mean())
    assert mean_score([]) is None


@given(st.lists(st.sampled_from("abcdefg"), min_size=2, max_size=30))
@settings(max_examples=50, deadline=None)
def test_shuffling_gives_each_item_another_prompt(prompts: list[str]) -> None:
    if len(set(prompts)) < 2:
        with pytest.raises(ValueError, match="two different prompts"):
            shuffled(prompts)
        return
    order = shuffled(prompts)
    assert all(prompts[i] != prompt for i, prompt in zip(order, prompts, strict=True))
    assert {prompts[i] for i in order} == set(prompts)


def test_prompts_are_turned_by_half_of_their_number() -> None:
    assert shuffled("abc") == [1, 2, 0]
    assert shuffled("abcde") == [2, 3, 4, 0, 1]
    assert shuffled("aab") == [2, 2, 0]


def scores(mean: float, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).normal(mean, 1, (40, 1))


@pytest.mark.parametrize(
    ("low", "kept"), [(-0.1, True), (-0.45, True), (-0.7, False), (0.2, True), (math.nan, False)]
)
def test_an_adapter_may_lose_a_tenth_of_the_gap(low: float, kept: bool) -> None:
    prompts = [str(i) for i in range(40)]
    found = check_prompts(scores(25, 0), scores(20, 1), Interval(0.1, low, 1), prompts)
    assert found.gap.value == pytest.approx(5, abs=0.5)
    assert found.valid
    assert found.kept is kept
    assert str(found).startswith("kept" if kept else "not shown")


def test_recall_counts_whose_prompt_is_among_the_best() -> None:
    names = [f"thing {i}" for i in range(24)]
    texts = np.eye(24)
    images = np.eye(24)
    # A quarter of the images: ten other prompts match better than their own.
    for i in range(6):
        images[i, 10:20] = 2
    assert recall(images, texts, names) == Recall(0.75, 5, 24)
    assert recall(images[:9], texts[:9], names[:9]).at == 2
    assert recall(images[:2], texts[:2], names[:2]).at == 1
    # Two pictures of each of twelve things: a prompt is a candidate once.
    twice = [name for name in names[:12] for _ in range(2)]
    assert recall(np.repeat(np.eye(12), 2, 0), np.repeat(np.eye(12), 2, 0), twice) == Recall(
        1.0, 3, 12
    )
    # One vector for everything finds nothing.
    assert recall(np.ones((24, 4)), np.ones((24, 4)), names).share == 0


def test_a_scorer_that_must_find_captions_and_does_not_is_not_valid() -> None:
    prompts = [str(i) for i in range(40)]
    own, others, same = scores(25, 0), scores(20, 1), Interval(0, -0.1, 0.1)
    good = check_prompts(own, others, same, prompts, Recall(0.5, 5, 40), 0.5)
    assert (good.valid, good.kept) == (True, True)
    assert "real images: recall@5 0.50 of 40 captions" in str(good)
    bad = check_prompts(own, others, same, prompts, Recall(0.49, 5, 40), 0.5)
    assert (bad.valid, bad.kept) == (False, False)
    assert str(bad).startswith("not valid")


def test_a_scorer_that_cannot_tell_captions_apart_judges_nothing() -> None:
    prompts = [str(i) for i in range(40)]
    found = check_prompts(scores(20, 0), scores(20, 1), NONE, prompts)
    assert not found.valid
    assert not found.kept
    assert "not valid" in str(found)


@pytest.mark.parametrize(
    ("gap", "valid"), [(0.05, False), (0.3, False), (0.4, True), (2.0, True), (-2.0, False)]
)
def test_a_gap_that_chance_explains_makes_no_scorer_valid(gap: float, valid: bool) -> None:
    """The interval decides and not the value: 40 differences of `gap` plus or minus 1."""
    prompts = [str(i) for i in range(40)]
    others = np.full((40, 1), 20.0)
    own = others + gap + np.tile([[1.0], [-1.0]], (20, 1))
    found = check_prompts(own, others, Interval(0.0, 0.0, 0.0), prompts)
    assert found.gap.value == pytest.approx(gap)
    assert (found.gap.low > 0) is valid
    assert (found.valid, found.kept) == (valid, valid)


def near(*similar: float) -> list[Nearest]:
    return [Nearest(0, value) for value in similar]


def test_copies_are_nearer_than_real_images_come() -> None:
    limit = copy_threshold(near(*np.linspace(0, 0.6, 40)))
    assert limit == pytest.approx(0.6)  # of forty, the highest
    assert copy_threshold(near(*np.linspace(0, 1, 1001))) == pytest.approx(0.99)
    stats = copied(near(0.2, 0.6, 0.61, 0.99), limit)
    np.testing.assert_array_equal(stats[:, 0], [0, 0, 1, 1])
    assert share(stats) == 0.5
    assert share([]) is None
    assert copied([], limit).shape == (0, 1)
    with pytest.raises(ValueError, match="no held-out"):
        copy_threshold([])


def test_spread_is_the_mean_pairwise_distance() -> None:
    x = np.random.default_rng(0).normal(size=(5, 7))
    assert spread(x) == pytest.approx(pdist(x).mean() / math.sqrt(7))
    assert spread(np.repeat(x[:1], 4, axis=0)) == 0
    assert math.isnan(spread(x[:1]))


def test_prompts_are_kept_apart_and_in_order() -> None:
    x = np.array([[0.0], [9], [1], [9], [5]])
    found = spread_by_prompt(x, ["a", "b", "a", "b", "alone"])
    np.testing.assert_array_equal(found, [[1], [0]])
    assert mean_spread(found) == 0.5
    assert mean_spread(spread_by_prompt(x[:1], ["a"])) is None
    with pytest.raises(ValueError, match="5 images but 2 prompts"):
        spread_by_prompt(x, ["a", "b"])
