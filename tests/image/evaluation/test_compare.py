"""What a comparison says, and the grid that it draws."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mmtune.image.evaluation.compare import headline
from mmtune.image.pictures.grid import GRID_COLUMNS, HEAD, LABEL, TILE, draw_grid, wrapped
from mmtune.metrics.bootstrap import Interval
from mmtune.metrics.image.style import StyleScore
from mmtune.metrics.measure import Measure

SOME = Interval(0.5, 0.41, 0.59)
NEAREST = Measure("nearest training image", "x", 3, SOME, SOME, SOME, False, "real 0.61")


def style(measurable: bool) -> StyleScore:
    score = SOME if measurable else Interval(math.nan, math.nan, math.nan)
    return StyleScore(score, SOME, SOME, SOME, "" if measurable else "why")


def test_the_headline_is_the_readmes_line() -> None:
    assert headline("brand_style", style(True), NEAREST, Path("runs/grid.png")) == (
        "image    brand style   style 0 = base, 1 = brand: 0.50 [0.41, 0.59]   "
        "nearest training image 0.50 [0.41, 0.59] (real 0.61)   grid runs/grid.png"
    )
    assert "1 = brand: not measurable " in headline("b", style(False), NEAREST, Path("g"))


@pytest.mark.parametrize(
    ("text", "lines"),
    [
        ("a red dog", ["a red dog"]),
        ("a red dog at the lake", ["a red dog", "at the lake"]),
        ("a red dog at the lake by night", ["a red dog", "at the lak…"]),
        ("donaudampfschiff", ["donaudampf…"]),
        ("donaudampfschiff and boat", ["donaudampf…", "and boat"]),
        ("", [""]),
    ],
)
def test_captions_of_a_grid_stay_above_their_tiles(text: str, lines: list[str]) -> None:
    assert wrapped(text, len, 11, 2) == lines


def test_long_captions_of_neighbours_stay_apart() -> None:
    tile = Image.new("RGB", (64, 64), "white")
    grid = draw_grid(["W" * 40, "W" * 40], {"a very long name of a row": [tile, tile]})
    pixels = np.asarray(grid.convert("L"))
    for left in (LABEL, LABEL + TILE):
        assert pixels[:HEAD, left : left + 4].min() == 255
        assert pixels[:HEAD, left + 4 : left + TILE].min() < 128
    assert pixels[HEAD:, LABEL - 4 :].min() == 255


def test_the_grid_keeps_proportions_and_spreads_over_the_prompts() -> None:
    prompts = [f"p{i}" for i in range(30)]
    colours = [(i * 8, 0, 0) for i in range(30)]
    flat = [Image.new("RGB", (64, 64), c) for c in colours]
    wide = [Image.new("RGB", (400, 100), "blue") for _ in prompts]
    grid = np.asarray(draw_grid(prompts, {"base": flat, "brand": wide}))
    assert grid.shape == (HEAD + 2 * TILE, LABEL + GRID_COLUMNS * TILE, 3)
    middles = [grid[HEAD + TILE // 2, LABEL + x * TILE + TILE // 2, 0] for x in range(GRID_COLUMNS)]
    assert middles == [8 * (x * 30 // GRID_COLUMNS) for x in range(GRID_COLUMNS)]
    tile = grid[HEAD + TILE :, LABEL : LABEL + TILE]
    blue = (tile == (0, 0, 255)).all(-1)
    assert blue.any(1).sum() == TILE // 4
    assert blue.any(0).all()
