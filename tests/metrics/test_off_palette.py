"""The area outside a palette, and the ground, of drawn pictures whose truth is known."""

from __future__ import annotations

import io

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageDraw

from mmtune.metrics.image.ground import find_ground
from mmtune.metrics.image.off_palette import off_palette
from mmtune.metrics.image.palette import delta_e, parse_palette, to_hex
from mmtune.metrics.image.reduced import SIDE, reduce_picture

WHITE, INK, SUN, RED, BLUE = "#FFFFFF", "#3F3F3F", "#FCEA2B", "#EA5A47", "#61B2E4"
GREEN = "#00AA44"  # of no palette here
PALETTE = (WHITE, INK, SUN, RED, BLUE)
TOLERANCE = 5.0


def rgb(*colours: str) -> np.ndarray:
    return np.array([[int(c[i : i + 2], 16) for i in (1, 3, 5)] for c in colours], dtype=float)


def icon(side: int, finer: int = 1, ground: str = WHITE, ink: str = INK) -> Image.Image:
    """A flat icon with outlines; `finer` times larger and reduced, its edges are anti-aliased."""
    whole = side * finer
    image = Image.new("RGB", (whole, whole), ground)
    pen, line = ImageDraw.Draw(image), max(1, whole // 24)

    def box(*parts: float) -> tuple[float, ...]:
        return tuple(part * whole for part in parts)

    pen.ellipse(box(0.15, 0.15, 0.85, 0.85), fill=SUN, outline=ink, width=line)
    pen.rectangle(box(0.4, 0.5, 0.7, 0.75), fill=RED, outline=ink, width=line)
    pen.ellipse(box(0.3, 0.3, 0.42, 0.42), fill=BLUE, outline=ink, width=line)
    pen.line(box(0.2, 0.9, 0.9, 0.93), fill=ink, width=line)
    return image.resize((side, side), Image.Resampling.BOX)


def share(image: Image.Image, *palette: str) -> float:
    return off_palette(reduce_picture(image), rgb(*(palette or PALETTE)), TOLERANCE).share


@pytest.mark.parametrize("finer", [1, 3])
@pytest.mark.parametrize("side", [16, 33, 64, 200, 600])
def test_an_icon_of_palette_colours_keeps_it_at_any_size(side: int, finer: int) -> None:
    assert share(icon(side, finer)) == 0


def test_a_long_strip_keeps_its_short_side() -> None:
    strip = Image.new("RGB", (4000, 16), WHITE)
    ImageDraw.Draw(strip).rectangle((0, 8, 3999, 15), fill=RED)
    assert share(strip) == 0


@pytest.mark.parametrize("method", [Image.Resampling.LANCZOS, Image.Resampling.BICUBIC])
def test_an_icon_that_was_resized_keeps_it(method: Image.Resampling) -> None:
    assert share(icon(512).resize((64, 64), method)) < 0.005
    assert share(icon(200).resize((512, 512), method)) < 0.02


def test_compression_and_noise_stay_below_the_usual_limit() -> None:
    buffer = io.BytesIO()
    icon(600, 2).save(buffer, "JPEG", quality=75)
    assert share(Image.open(buffer)) < 0.01
    noise = np.random.default_rng(0).normal(0, 3, (512, 512, 3))
    noisy = np.clip(np.asarray(icon(512), dtype=float) + noise, 0, 255).astype(np.uint8)
    assert share(Image.fromarray(noisy)) < 0.01


@settings(max_examples=10, deadline=None)
@given(
    st.integers(48, 160),
    st.floats(0.05, 0.5),
    st.sampled_from([GREEN, "#9B59B6", "#808000", "#FFC0CB"]),
    st.sampled_from([1, 2]),
)
def test_one_foreign_area_is_measured_by_its_share(
    side: int, width: float, colour: str, finer: int
) -> None:
    """Only its rim of two pixels may pass for a mixture: olive is one of sun and ink."""
    whole = side * finer
    image = Image.new("RGB", (whole, whole), WHITE)
    edge = round(width * whole)
    ImageDraw.Draw(image).rectangle((3, 3, 2 + edge, 2 + edge), fill=colour)
    true = edge**2 / whole**2
    found = share(image.resize((side, side), Image.Resampling.BOX))
    assert abs(found - true) <= 8 * edge / whole / min(side, SIDE) + 1e-9


def test_the_largest_foreign_colours_are_named() -> None:
    image = icon(200)
    pen = ImageDraw.Draw(image)
    pen.rectangle((0, 0, 99, 39), fill=GREEN)
    pen.rectangle((0, 180, 49, 199), fill="#9B59B6")
    found = off_palette(reduce_picture(image), rgb(*PALETTE), TOLERANCE)
    assert [name for name, _ in found.colours] == [GREEN, "#9B59B6"]
    assert found.colours[0][1] == pytest.approx(0.1, abs=0.005)
    assert found.share == pytest.approx(0.125, abs=0.005)


@pytest.mark.parametrize("finer", [1, 4])
def test_lines_in_another_ink_are_seen(finer: int) -> None:
    """Thin lines have no flat area, and their edges are no mixture of the palette."""
    whole = 64 * finer
    for ink, kept in ((BLUE, True), (RED, False), ("#000000", False)):
        image = Image.new("RGB", (whole, whole), WHITE)
        pen = ImageDraw.Draw(image)
        for place in (10, 24, 40):
            pen.line((place * finer, 6 * finer, place * finer + 9, 58 * finer), ink, 2 * finer)
        found = share(image.resize((64, 64), Image.Resampling.BOX), WHITE, BLUE)
        assert found == 0 if kept else found > 0.04


def test_an_area_that_mixes_palette_colours_is_foreign() -> None:
    """At an edge grey is between white and ink; as an area it is a colour of its own."""
    grey = Image.new("RGB", (64, 64), "#9F9F9F")
    assert share(grey, WHITE, INK) == 1
    steps = np.repeat(np.linspace(0, 255, 256)[None, :, None], 64, 0).repeat(3, 2)
    assert share(Image.fromarray(steps.astype(np.uint8)), WHITE, "#000000") > 0.75


def test_transparent_parts_have_no_colour() -> None:
    image, alpha = Image.new("RGB", (64, 64), GREEN), Image.new("L", (64, 64), 0)
    alpha.paste(255, (0, 0, 32, 16))
    found = off_palette(reduce_picture(image, alpha), rgb(*PALETTE), TOLERANCE)
    assert found.share == pytest.approx(32 * 16 / 64**2)


@pytest.mark.parametrize(
    ("image", "colour", "one"),
    [
        (icon(64), WHITE, True),
        (icon(64, 3, BLUE), BLUE, True),
        (icon(400, 1, "#14284B"), "#14284B", True),
        (icon(64).crop((18, 18, 46, 46)), SUN, True),  # the subject fills it
        (Image.linear_gradient("L").resize((64, 64)).convert("RGB"), None, False),
    ],
    ids=["white", "blue", "navy", "close", "gradient"],
)
def test_the_ground_is_what_the_border_has(
    image: Image.Image, colour: str | None, one: bool
) -> None:
    found = find_ground(reduce_picture(image), TOLERANCE)
    assert found.is_one == one
    if colour is not None:
        assert found.colour is not None
        assert to_hex(found.colour[None]) == [colour]


def test_a_ground_may_be_noisy_interrupted_or_transparent() -> None:
    image = icon(128, 2, BLUE)
    ImageDraw.Draw(image).rectangle((0, 40, 127, 60), fill=RED)  # crosses the border twice
    noise = np.random.default_rng(0).normal(0, 3, (128, 128, 3))
    noisy = np.clip(np.asarray(image, dtype=float) + noise, 0, 255).astype(np.uint8)
    found = find_ground(reduce_picture(Image.fromarray(noisy)), TOLERANCE)
    assert found.is_one
    assert found.colour is not None
    assert delta_e(found.colour[None], parse_palette([BLUE]))[0, 0] < 2
    alpha = Image.new("L", (128, 128), 0)
    alpha.paste(255, (30, 30, 98, 98))
    clear = find_ground(reduce_picture(image, alpha), TOLERANCE)
    assert clear.colour is None
    assert clear.border == 1


def test_the_ground_s_colour_is_that_of_the_area_at_the_border() -> None:
    image = Image.new("RGB", (64, 64), "#F0F0F0")  # within the tolerance of white
    pen = ImageDraw.Draw(image)
    pen.rectangle((0, 0, 63, 63), outline="white", width=4)
    pen.rectangle((4, 4, 59, 59), outline="black", width=2)
    found = find_ground(reduce_picture(image), TOLERANCE)
    assert found.colour is not None
    assert to_hex(found.colour[None]) == [WHITE]
