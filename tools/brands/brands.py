"""Three looks of the same things, to try one recipe on: OpenMoji, a pictogram and a hatching.

    python tools/brands/brands.py --out runs/brands
    for look in openmoji pictogram hatched; do
        mmtune train brand_style --data runs/brands/$look/manifest.jsonl --name brand_$look
    done

All three have the captions and splits of recipes/brand_style/openmoji.py; the shapes of the two
others are OpenMoji's too (CC BY-SA 4.0, by the OpenMoji project), drawn anew in other colours and
fills.
"""

from __future__ import annotations

import argparse
import io
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

sys.path.insert(0, str(Path(__file__).parents[2] / "recipes" / "brand_style"))
from openmoji import SIZE, draw, make_brand, rendered

Mask = NDArray[np.bool_]
INK = 70  # of 255: what is darker is a line of the drawing
NAVY, CORAL = (24, 40, 88), (255, 122, 89)  # the pictogram's ground and figure
PAPER, PEN = (246, 236, 214), (46, 74, 62)
LEFT_OUT = {"hibiscus"}  # without its colours nearly the blossom, which is held out
PERIOD = 22  # pixels of the large drawing between two strokes, five of the small one
GRAIN = 10.0  # of 255: deviation of the paper's lightness


def parts(svg: Path) -> tuple[Mask, Mask, NDArray[np.float64]]:
    """What an icon covers, the lines in it, and its lightness, 0 to 1; each [high, wide]."""
    pixels = np.asarray(rendered(svg), dtype=np.float64)
    lightness = pixels[..., :3] @ np.array([0.299, 0.587, 0.114])
    shape = pixels[..., 3] > 127
    return shape, shape & (lightness < INK), lightness / 255


def pictogram(svg: Path) -> bytes:
    """A silhouette in one colour on a ground of another, which its lines are cut out in."""
    shape, lines, _ = parts(svg)
    figure = shape & ~lines
    if figure.sum() < lines.sum():  # an icon of lines alone
        figure = shape
    return _png(np.where(figure[..., None], CORAL, NAVY).astype(np.float64))


def hatched(svg: Path) -> bytes:
    """Strokes at 45 degrees on grainy paper, thicker where the icon is darker, and its lines."""
    shape, lines, lightness = parts(svg)
    high, wide = shape.shape
    y, x = np.mgrid[:high, :wide]
    thick = np.clip(1.1 - lightness, 0.25, 0.75) * PERIOD
    ink = lines | (shape & ((x + y) % PERIOD < thick))
    rng = np.random.default_rng(list(svg.stem.encode()))  # of the icon: the same in every run
    paper = np.array(PAPER, dtype=np.float64) + _grain(rng, high, wide)[..., None]
    return _png(np.where(ink[..., None], PEN, paper))


LOOKS: dict[str, Callable[[Path], bytes]] = {
    "openmoji": draw,
    "pictogram": pictogram,
    "hatched": hatched,
}


def _grain(rng: np.random.Generator, high: int, wide: int) -> NDArray[np.float64]:
    # As coarse as the small picture's pixels, or its reduction would average it away.
    coarse = rng.normal(0, GRAIN, (SIZE, SIZE)).astype(np.float32)
    large = Image.fromarray(coarse).resize((wide, high), Image.Resampling.NEAREST)
    return np.asarray(large, dtype=np.float64)


def _png(pixels: NDArray[np.float64]) -> bytes:
    image = Image.fromarray(np.clip(np.rint(pixels), 0, 255).astype(np.uint8))
    buffer = io.BytesIO()
    image.resize((SIZE, SIZE), Image.Resampling.BOX).save(buffer, "PNG")
    return buffer.getvalue()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--out", type=Path, default=Path("runs/brands"), metavar="DIR")
    out: Path = parser.parse_args().out
    for name, look in LOOKS.items():
        print(make_brand(out / name, look, LEFT_OUT))


if __name__ == "__main__":
    main()
