"""Nearest training image: copies are found, other pictures are not."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFilter, ImageOps

from mmtune.image.image_row import ImageRow
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
