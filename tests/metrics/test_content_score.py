"""Content on embeddings whose captions are known, and the test of a scorer on halves."""

from __future__ import annotations

import numpy as np
import pytest

from mmtune.metrics.image.content_score import caption_gaps, content, split_test

NAMES = [f"thing {i}" for i in range(40)]


def embedded(clarity: float, seed: int = 0, names: int = 40) -> tuple[np.ndarray, np.ndarray]:
    """Images that are `clarity` of their caption and noise, and the captions."""
    rng = np.random.default_rng(seed)
    texts = np.random.default_rng(9).normal(size=(names, 32))
    return clarity * texts + rng.normal(size=(names, 32)), texts


def test_a_gap_is_the_own_caption_less_the_mean_of_the_others() -> None:
    images = np.array([[2.0, 0, 0], [0, 3, 4], [0, 5, 0]])
    texts = np.array([[1.0, 0, 0], [0, 2, 0], [0, 2, 0]])
    found = caption_gaps(images, texts, ["a", "b", "b"])
    np.testing.assert_allclose(found[:, 0], [100, 60, 100])
    # What is alike to all captions counts for none.
    plain = caption_gaps(np.ones((3, 2)), np.eye(2)[[0, 1, 1]], ["a", "b", "b"])
    np.testing.assert_allclose(plain, 0, atol=1e-12)


@pytest.mark.parametrize(
    ("clarity", "low", "high"), [(1.0, 0.9, 1.1), (0.3, 0.2, 0.6), (0, -1, 0.2)]
)
def test_content_is_measured_in_the_brands_own(clarity: float, low: float, high: float) -> None:
    real, texts = embedded(1.0)
    one = caption_gaps(real, texts, NAMES)
    drawn, _ = embedded(clarity, seed=1)
    found = content(caption_gaps(drawn, texts, NAMES), NAMES, one, NAMES)
    assert low < found.value < high
    assert found.low < found.value < found.high
    assert content(one, NAMES, one, NAMES).value == pytest.approx(1)
    assert content(0 * one, NAMES, one, NAMES).value == 0
    # With other images of the brand as the scale, chance moves both.
    other = content(one[:20], NAMES[:20], one[20:], NAMES[20:])
    assert other.low < 1 < other.high
    assert np.isnan(content(one, NAMES, 0 * one, NAMES).value)


def test_halves_of_the_brands_images_pass_and_others_captions_fail() -> None:
    images, texts = embedded(1.0)
    test = split_test(images, texts, NAMES)
    assert test.valid
    assert (test.own, test.permuted, test.splits) == (100, 100, 100)
    assert str(test) == (
        "of 100 halves of the brand's own images 100 pass with their own captions and 100 fail "
        "with others'"
    )
    blind = split_test(embedded(0.0)[0], texts, NAMES)
    assert not blind.valid
    assert blind.own < 95
    few = split_test(images[:10], texts[:10], NAMES[:10])
    assert few.permuted >= 95
