"""The shipped style encoder on styles that it never saw, drawn here."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw, ImageFilter

from mmtune.image.looks.backbone import STYLE, load_backbone
from mmtune.image.looks.style_net import SIDE, statistics
from mmtune.system.resources import resource

CPU = torch.device("cpu")
Style = Callable[[ImageDraw.ImageDraw, list[tuple[int, int, int, int]]], None]
BRIGHT = ("#e4572e", "#17bebb", "#ffc914", "#2e282a", "#76b041")
PALE = ("#cdb4db", "#ffc8dd", "#ffafcc", "#bde0fe", "#a2d2ff")


def things(seed: int) -> list[tuple[int, int, int, int]]:
    """Where the parts of a thing are, at four times its size."""
    rng = np.random.default_rng(seed)
    corners = rng.integers(20, 120, (5, 2))
    return [
        (x, y, x + w, y + h)
        for (x, y), (w, h) in zip(corners, rng.integers(40, 110, (5, 2)), strict=True)
    ]


def flat(pen: ImageDraw.ImageDraw, boxes: list[tuple[int, int, int, int]]) -> None:
    for i, box in enumerate(boxes):
        (pen.ellipse if i % 2 else pen.rectangle)(box, fill=BRIGHT[i])


def outlined(pen: ImageDraw.ImageDraw, boxes: list[tuple[int, int, int, int]]) -> None:
    for i, box in enumerate(boxes):
        (pen.ellipse if i % 2 else pen.rectangle)(box, fill=BRIGHT[i], outline="black", width=9)


def pale(pen: ImageDraw.ImageDraw, boxes: list[tuple[int, int, int, int]]) -> None:
    for i, box in enumerate(boxes):
        (pen.ellipse if i % 2 else pen.rectangle)(box, fill=PALE[i])


def line(pen: ImageDraw.ImageDraw, boxes: list[tuple[int, int, int, int]]) -> None:
    for i, box in enumerate(boxes):
        (pen.ellipse if i % 2 else pen.rectangle)(box, outline="black", width=8)


STYLES: tuple[Style, ...] = (flat, outlined, pale, line)


def picture(style: Style, seed: int) -> Image.Image:
    image = Image.new("RGB", (4 * SIDE, 4 * SIDE), "white")
    style(ImageDraw.Draw(image), things(seed))
    return image.resize((SIDE, SIDE), Image.Resampling.BOX)


@pytest.mark.parametrize("blur", [0.0, 0.5])
def test_pictures_are_nearest_to_those_of_their_style(blur: float) -> None:
    """Each style shows things of its own, so that only the look can match."""
    embed = load_backbone(STYLE, CPU)
    seeds = range(12)
    labels = np.repeat(np.arange(len(STYLES)), len(seeds))
    pictures = [picture(style, 100 * s + i) for s, style in enumerate(STYLES) for i in seeds]
    queries = [p.filter(ImageFilter.GaussianBlur(blur)) for p in pictures] if blur else pictures
    likeness = embed(queries) @ embed(pictures).T
    np.fill_diagonal(likeness, -2)
    right = labels[likeness.argmax(1)] == labels
    assert right.mean() > 0.9


def test_embeddings_are_unit_vectors_of_one_picture_alone() -> None:
    embed = load_backbone(STYLE, CPU)
    pictures = [picture(STYLES[i % 4], i) for i in range(40)]
    together = embed(pictures)
    np.testing.assert_allclose(np.linalg.norm(together, axis=1), 1, atol=1e-6)
    np.testing.assert_allclose(embed(pictures[33:]), together[33:], atol=1e-5)
    large = [p.resize((4 * SIDE, 4 * SIDE), Image.Resampling.NEAREST) for p in pictures[:3]]
    np.testing.assert_allclose(embed(large), together[:3], atol=1e-5)


def test_a_mirror_image_has_the_same_style() -> None:
    x = torch.from_numpy(np.stack([np.asarray(picture(s, 7)) for s in STYLES]))
    x = x.permute(0, 3, 1, 2).float() / 255
    same = (statistics(x) - statistics(x.flip(3))).abs()
    # Edges are taken towards the right and down, so a mirror image's are those one pixel on.
    assert float(same.mean()) < 0.01
    assert float((statistics(x)[0] - statistics(x)[3]).abs().mean()) > 0.05


def test_near_colours_have_near_statistics() -> None:
    """What shading or noise moves over the bound of a cell is no other style."""
    x = torch.ones(3, 3, SIDE, SIDE)
    for i, red in enumerate((0.399, 0.401, 0.7)):
        x[i, :, 16:48, 16:48] = torch.tensor([red, 0.2, 0.3])[:, None, None]
    found = statistics(x)
    assert float((found[0] - found[1]).norm()) < 0.2 * float((found[0] - found[2]).norm())


def test_pictures_without_ink_give_numbers() -> None:
    blank = torch.ones(2, 3, SIDE, SIDE)
    blank[1] = 0
    assert statistics(blank).isfinite().all()
    assert np.isfinite(load_backbone(STYLE, CPU)([Image.new("RGB", (9, 5), "white")])).all()


def test_the_weights_are_small() -> None:
    [file] = resource("assets", "style-encoder").glob("*.safetensors")
    assert file.stat().st_size < 3_000_000
