"""Nearest training image: copies are found, other pictures are not."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFilter, ImageOps

from mmtune.image.image_row import ImageRow
from mmtune.metrics.image.copy_search import AlignedTraining
from mmtune.metrics.image.memorization import new_images
from mmtune.metrics.image.nearest import NearestTraining
from mmtune.predict import Prediction


def icon(seed: int) -> Image.Image:
    """Some coloured shapes on white."""
    rng = np.random.default_rng(seed)
    image = Image.new("RGB", (64, 64), "white")
    pen = ImageDraw.Draw(image)
    for _ in range(4):
        x, y, w, h = (int(v) for v in rng.integers(4, 30, 4))
        pen.ellipse((x, y, x + w, y + h), fill=tuple(int(v) for v in rng.integers(0, 255, 3)))
    return image


TRAINING = [icon(i) for i in range(20)]


@pytest.mark.parametrize(
    "copy",
    [
        lambda i: i,
        lambda i: i.resize((256, 256)),
        ImageOps.mirror,
        lambda i: i.filter(ImageFilter.GaussianBlur(1)),
    ],
)
def test_copies_are_found(copy: object) -> None:
    metric = NearestTraining(TRAINING)
    found = metric.find([copy(image) for image in TRAINING])  # type: ignore[operator]
    assert [n.index for n in found] == list(range(20))
    assert min(n.similarity for n in found) > 0.9


def test_other_pictures_are_far() -> None:
    metric = NearestTraining(TRAINING)
    found = metric.find([icon(i) for i in range(100, 120)])
    assert max(n.similarity for n in found) < 0.9
    stats = [
        metric.observe(ImageRow(id="x", image="x.png", caption="x"), Prediction("x", icon(i)))
        for i in range(100, 120)
    ]
    assert metric.reduce(stats) == pytest.approx(np.mean([n.similarity for n in found]))
    assert metric.reduce([]) is None
    assert metric.find([]) == []


def test_a_white_ground_is_no_likeness() -> None:
    metric = NearestTraining(TRAINING)
    [blank] = metric.find([Image.new("RGB", (64, 64), "white")])
    assert blank.similarity < 0.9
    with pytest.raises(ValueError, match="no training images"):
        NearestTraining([])


def moved(image: Image.Image, x: float, y: float, size: float = 1.0) -> Image.Image:
    """Shifted by shares of its side, and scaled around its middle, on white."""
    back, middle = 1 / size, 32 * (1 - 1 / size)
    matrix = (back, 0, middle - 64 * x * back, 0, back, middle - 64 * y * back)
    return image.transform((64, 64), Image.Transform.AFFINE, matrix, Image.Resampling.BICUBIC,
                           fillcolor="white")  # fmt: skip


def turned(image: Image.Image, hue: int) -> Image.Image:
    h, s, v = image.convert("HSV").split()
    return Image.merge("HSV", (h.point(lambda x: (x + hue) % 256), s, v)).convert("RGB")


@pytest.mark.parametrize(
    "copy",
    [
        lambda i: i,
        lambda i: i.resize((300, 200)),
        lambda i: moved(i, 0.1, -0.1),
        lambda i: moved(i, 0.07, 0.03),
        lambda i: moved(i, 0, 0, 0.8),
        lambda i: moved(i, 0, 0, 1.2),
        lambda i: moved(i, -0.05, 0.06, 0.9),
        lambda i: turned(i, 90),
        lambda i: turned(moved(i, 0.08, 0.02, 1.1), 200),
        lambda i: i.filter(ImageFilter.GaussianBlur(0.7)),
    ],
)
def test_copies_are_found_wherever_they_are_shown(copy: object) -> None:
    training = TRAINING[:4]
    metric = AlignedTraining(training)
    for mirrored in (False, True):
        made = [copy(ImageOps.mirror(i) if mirrored else i) for i in training]  # type: ignore[operator]
        found = metric.find(made)
        assert [n.index for n in found] == list(range(4))
        assert min(n.similarity for n in found) > 0.95
        assert all(n.mirrored is mirrored for n in found)


@pytest.mark.parametrize("size", [0.8, 0.9, 1.0, 1.1, 1.25])
def test_a_scaled_copy_is_as_similar_as_an_unscaled_one(size: float) -> None:
    metric = AlignedTraining(TRAINING[:4])
    found = metric.find([moved(i, 0.1, -0.1, size) for i in TRAINING[:4]])
    assert min(n.similarity for n in found) > 0.9975


def test_other_pictures_are_less_alike_than_copies() -> None:
    metric = AlignedTraining(TRAINING[:8])
    others = [*(icon(i) for i in range(100, 108)), Image.new("RGB", (64, 64), "white")]
    assert max(n.similarity for n in metric.find(others)) < 0.95
    alone = metric.find(TRAINING[:8], without=range(8))
    assert all(n.index != i and n.similarity < 0.95 for i, n in enumerate(alone))
    assert metric.find([]) == []
    with pytest.raises(ValueError, match="no training images"):
        AlignedTraining([])


def test_held_out_images_that_repeat_tell_nothing_of_new_ones() -> None:
    metric = AlignedTraining(TRAINING[:4])
    new = [icon(200), icon(201), icon(202)]
    repeats = [moved(TRAINING[1], 0.05, 0), turned(TRAINING[2], 60), moved(new[1], 0, 0.04)]
    kept = new_images([*new, *repeats], metric)
    assert kept == metric.find(new)
    assert new_images(repeats[:2], metric) == []
