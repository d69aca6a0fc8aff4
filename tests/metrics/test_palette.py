"""CIEDE2000 against the published pairs, palettes that are known, shares by count."""

from __future__ import annotations

import math

import numpy as np
import pytest
from PIL import Image

from mmtune.errors import ConfigError
from mmtune.image.image_row import ImageRow
from mmtune.metrics.image.palette import (
    PaletteShare,
    delta_e,
    estimate_palette,
    parse_palette,
    to_hex,
    to_lab,
)
from mmtune.predict import Prediction

# Sharma, Wu & Dalal, Color Research & Application 30 (2005), table 1: L, a, b twice, and dE00.
PAIRS = """
50 2.6772 -79.7751 50 0 -82.7485 2.0425
50 3.1571 -77.2803 50 0 -82.7485 2.8615
50 2.8361 -74.0200 50 0 -82.7485 3.4412
50 -1.3802 -84.2814 50 0 -82.7485 1.0000
50 -1.1848 -84.8006 50 0 -82.7485 1.0000
50 -0.9009 -85.5211 50 0 -82.7485 1.0000
50 0 0 50 -1 2 2.3669
50 -1 2 50 0 0 2.3669
50 2.4900 -0.0010 50 -2.4900 0.0009 7.1792
50 2.4900 -0.0010 50 -2.4900 0.0010 7.1792
50 2.4900 -0.0010 50 -2.4900 0.0011 7.2195
50 2.4900 -0.0010 50 -2.4900 0.0012 7.2195
50 -0.0010 2.4900 50 0.0009 -2.4900 4.8045
50 -0.0010 2.4900 50 0.0010 -2.4900 4.8045
50 -0.0010 2.4900 50 0.0011 -2.4900 4.7461
50 2.5 0 50 0 -2.5 4.3065
50 2.5 0 73 25 -18 27.1492
50 2.5 0 61 -5 29 22.8977
50 2.5 0 56 -27 -3 31.9030
50 2.5 0 58 24 15 19.4535
50 2.5 0 50 3.1736 0.5854 1.0000
50 2.5 0 50 3.2972 0 1.0000
50 2.5 0 50 1.8634 0.5757 1.0000
50 2.5 0 50 3.2592 0.3350 1.0000
60.2574 -34.0099 36.2677 60.4626 -34.1751 39.4387 1.2644
63.0109 -31.0961 -5.8663 62.8187 -29.7946 -4.0864 1.2630
61.2901 3.7196 -5.3901 61.4292 2.2480 -4.9620 1.8731
35.0831 -44.1164 3.7933 35.0232 -40.0716 1.5901 1.8645
22.7233 20.0904 -46.6940 23.0331 14.9730 -42.5619 2.0373
36.4612 47.8580 18.3852 36.2715 50.5065 21.2231 1.4146
90.8027 -2.0831 1.4410 91.1528 -1.6435 0.0447 1.4441
90.9257 -0.5406 -0.9208 88.6381 -0.8985 -0.7239 1.5381
6.7747 -0.2908 -2.4247 5.8714 -0.0985 -2.2286 0.6377
2.0776 0.0795 -1.1350 0.9033 -0.0636 -0.5514 0.9082
"""
TABLE = np.array([[float(x) for x in line.split()] for line in PAIRS.strip().splitlines()])
YELLOW, BLACK, WHITE = (252, 234, 43), (0, 0, 0), (255, 255, 255)


def test_ciede2000_gives_the_published_differences() -> None:
    assert len(TABLE) == 34
    found = np.diag(delta_e(TABLE[:, :3], TABLE[:, 3:6]))
    np.testing.assert_allclose(found, TABLE[:, 6], atol=1e-4)
    np.testing.assert_allclose(np.diag(delta_e(TABLE[:, 3:6], TABLE[:, :3])), found, atol=1e-4)
    assert delta_e(TABLE[:, :3], TABLE[:5, 3:6]).shape == (34, 5)


def test_lab_is_that_of_d65() -> None:
    """Lindbloom's calculator: the primary red of sRGB."""
    np.testing.assert_allclose(
        to_lab(np.array([[255.0, 0, 0]]))[0], [53.24, 80.09, 67.20], atol=0.1
    )
    np.testing.assert_allclose(to_lab(np.array([[255.0, 255, 255]]))[0], [100, 0, 0], atol=0.05)


def picture(*colours: tuple[int, int, int], side: int = 40) -> Image.Image:
    """Stripes of equal height."""
    rows = np.repeat(np.array(colours, dtype=np.uint8), side // len(colours), axis=0)
    return Image.fromarray(np.repeat(rows[:, None], side, axis=1))


def test_a_given_palette_counts_its_pixels() -> None:
    metric = PaletteShare(parse_palette(["#FCEA2B", "000000"]))
    assert to_hex(metric.palette) == ["#FCEA2B", "#000000"]
    assert metric.share(picture(YELLOW, BLACK)) == 1
    assert metric.share(picture(YELLOW, WHITE)) == 0.5
    assert (
        metric.share(picture((250, 232, 45), WHITE, WHITE, WHITE)) == 0.25
    )  # not to be told apart
    assert metric.share(picture((252, 200, 43), WHITE)) == 0
    images = [picture(YELLOW, WHITE), picture(BLACK, BLACK)]
    stats = metric.statistics(images)
    row = ImageRow(id="x", image="x.png", caption="x")
    observed = [metric.observe(row, Prediction("x", image)) for image in images]
    np.testing.assert_array_equal(np.stack(observed), stats)
    assert metric.reduce(stats) == 0.75
    assert metric.reduce([]) is None


@pytest.mark.parametrize("written", ["yellow", "#FFF", "", "#12345G"])
def test_what_is_no_colour_is_named(written: str) -> None:
    with pytest.raises(ConfigError, match=r"task\.palette.*not a colour"):
        parse_palette(["#000000", written])


def test_large_pictures_are_thinned_without_new_colours() -> None:
    fine = np.zeros((256, 256, 3), dtype=np.uint8)
    fine[::2] = YELLOW
    metric = PaletteShare(parse_palette(["#FCEA2B", "#000000"]))
    assert metric.share(Image.fromarray(fine)) == 1


def test_an_estimate_finds_flat_colours_among_their_blends() -> None:
    rng = np.random.default_rng(0)
    brand = [(252, 234, 43), (234, 90, 71), (97, 178, 228), (0, 0, 0), (255, 255, 255)]
    images = []
    for _ in range(6):
        blocks = np.array(brand, dtype=np.uint8)[rng.integers(5, size=(6, 6))]
        large = Image.fromarray(blocks).resize((240, 240), Image.Resampling.NEAREST)
        images.append(large.resize((62, 62), Image.Resampling.BILINEAR))
    palette = estimate_palette(images)
    wanted = to_lab(np.array(brand, dtype=np.float64))
    assert delta_e(wanted, palette).min(1).max() < 1
    np.testing.assert_array_equal(palette, estimate_palette(images))
    metric = PaletteShare(palette)
    assert metric.share(images[0]) > 0.75
    assert metric.share(picture((150, 60, 200))) == 0


def test_a_palette_of_few_colours_is_found_whole() -> None:
    palette = estimate_palette([picture(YELLOW, WHITE), picture(BLACK, WHITE)])
    assert len(palette) == 3
    assert palette[0][0] == pytest.approx(100, abs=0.1)  # white is half of it
    with pytest.raises(ValueError, match="no images"):
        estimate_palette([])
    assert math.isclose(PaletteShare(palette).share(picture(YELLOW, BLACK)), 1)
