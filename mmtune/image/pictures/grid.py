"""A labelled grid of images, one column per prompt."""

from __future__ import annotations

from collections.abc import Sequence

from PIL import Image, ImageDraw, ImageFont

GRID_COLUMNS = 12  # at most
TILE = 128  # pixels; larger images are reduced, smaller ones enlarged without smoothing
LABEL, HEAD = 72, 20  # pixels left of and above the tiles


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
    pen, font = ImageDraw.Draw(canvas), ImageFont.load_default(13)
    for x, i in enumerate(picked):
        pen.text((LABEL + x * TILE + 4, 3), prompts[i][:20], fill="black", font=font)
    for y, (name, images) in enumerate(rows.items()):
        pen.text((6, HEAD + y * TILE + TILE // 2 - 8), name, fill="black", font=font)
        for x, i in enumerate(picked):
            canvas.paste(_tile(images[i]), (LABEL + x * TILE, HEAD + y * TILE))
    return canvas


def _tile(image: Image.Image) -> Image.Image:
    small = max(image.size) <= TILE
    scale = TILE / max(image.size)
    size = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
    how = Image.Resampling.NEAREST if small else Image.Resampling.LANCZOS
    tile = Image.new("RGB", (TILE, TILE), "white")
    scaled = image.resize(size, how)
    tile.paste(scaled, ((TILE - size[0]) // 2, (TILE - size[1]) // 2))
    return tile
