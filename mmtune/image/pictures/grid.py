"""A labelled grid of images, one column per prompt."""

from __future__ import annotations

import bisect
from collections.abc import Callable, Sequence

from PIL import Image, ImageDraw, ImageFont

GRID_COLUMNS = 12  # at most
TILE = 128  # pixels; larger images are reduced, smaller ones enlarged without smoothing
LABEL, HEAD = 80, 40  # pixels left of and above the tiles
FONT_SIZE, LINE = 14, 17  # pixels
CAPTION_LINES = 2  # at most; the rest of a caption is left out
MARGIN = 4  # pixels beside a text


def draw_grid(prompts: Sequence[str], rows: dict[str, Sequence[Image.Image]]) -> Image.Image:
    """Draw one labelled row for each set of images, with one column per prompt.

    Args:
        prompts: one for each image of a set; of more than `GRID_COLUMNS`, some are left out
            evenly over the list.
        rows: images by the label of their row.
    """
    columns = min(GRID_COLUMNS, len(prompts))
    # Evenly over all prompts: the first ones alone would all start with the same letters.
    picked = [i * len(prompts) // columns for i in range(columns)]
    canvas = Image.new("RGB", (LABEL + columns * TILE, HEAD + len(rows) * TILE), "white")
    pen, font = ImageDraw.Draw(canvas), ImageFont.load_default(FONT_SIZE)
    assert isinstance(font, ImageFont.FreeTypeFont)
    for x, i in enumerate(picked):
        lines = wrapped(prompts[i], font.getlength, TILE - 2 * MARGIN, CAPTION_LINES)
        top = HEAD - MARGIN - LINE * len(lines)  # just above the tile
        for y, line in enumerate(lines):
            place = (LABEL + x * TILE + MARGIN, top + y * LINE)
            pen.text(place, line, fill="black", font=font)
    for y, (name, images) in enumerate(rows.items()):
        [shown] = wrapped(name, font.getlength, LABEL - 2 * MARGIN, 1)
        place = (MARGIN, HEAD + y * TILE + TILE // 2 - 8)
        pen.text(place, shown, fill="black", font=font)
        for x, i in enumerate(picked):
            canvas.paste(_tile(images[i]), (LABEL + x * TILE, HEAD + y * TILE))
    return canvas


def wrapped(text: str, length: Callable[[str], float], width: float, most: int) -> list[str]:
    """Divide a text into lines that fit; what doesn't ends with an ellipsis.

    Args:
        text: the text.
        length: the length of a line in pixels.
        width: the most that a line may have.
        most: the most lines.

    Returns:
        At least one line, which may be empty.
    """
    lines: list[str] = []
    words = text.split()
    while words and len(lines) < most:
        count = 1
        while count < len(words) and length(" ".join(words[: count + 1])) <= width:
            count += 1
        if len(lines) == most - 1:
            count = len(words)
        line, words = " ".join(words[:count]), words[count:]
        lines.append(line if length(line) <= width else cut(line, length, width))
    return lines or [""]


def cut(text: str, length: Callable[[str], float], width: float) -> str:
    """The longest beginning of a text that fits with an ellipsis behind it."""
    fits = bisect.bisect(range(len(text)), width, key=lambda end: length(f"{text[:end]}…"))
    return f"{text[: max(0, fits - 1)].rstrip()}…"


def _tile(image: Image.Image) -> Image.Image:
    small = max(image.size) <= TILE
    scale = TILE / max(image.size)
    size = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
    how = Image.Resampling.NEAREST if small else Image.Resampling.LANCZOS
    tile = Image.new("RGB", (TILE, TILE), "white")
    scaled = image.resize(size, how)
    tile.paste(scaled, ((TILE - size[0]) // 2, (TILE - size[1]) // 2))
    return tile
