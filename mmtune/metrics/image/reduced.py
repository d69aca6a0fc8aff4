"""A picture as its colours are judged: reduced by averaging, with its transparent parts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

SIDE = 256  # pixels along a side of a square; others are reduced to the same area
CLEAR = 128  # alpha below which a pixel counts as transparent


@dataclass(frozen=True)
class Reduced:
    """The pixels of a picture, at most about `SIDE` x `SIDE` of them.

    Attributes:
        rgb: sRGB from 0 to 255, [height, width, 3].
        clear: which pixels are transparent, [height, width].
    """

    rgb: NDArray[np.uint8]
    clear: NDArray[np.bool_]


def reduce_picture(image: Any, alpha: Any = None) -> Reduced:
    """Reduce a picture by averaging, so that its size, noise and grain don't matter.

    A pattern finer than a pixel of the result has its mean colour, as it has for the eye.

    Args:
        image: a PIL image; its transparent parts lie on a background already.
        alpha: its alpha as a PIL image of mode L; None: all of it is opaque.
    """
    from PIL.Image import Resampling

    scale = min(1.0, SIDE / (image.width * image.height) ** 0.5)
    size = tuple(max(1, round(side * scale)) for side in image.size)
    small = image.convert("RGB").resize(size, Resampling.BOX)
    rgb = np.asarray(small, dtype=np.uint8)
    if alpha is None:
        return Reduced(rgb, np.zeros(rgb.shape[:2], dtype=np.bool_))
    return Reduced(rgb, np.asarray(alpha.resize(size, Resampling.BOX)) < CLEAR)


def distinct_colours(
    rgb: NDArray[np.uint8] | NDArray[np.float64],
) -> tuple[NDArray[np.float64], NDArray[np.intp]]:
    """The distinct colours of pixels, [colours, 3], and the index of each pixel's colour.

    Args:
        rgb: whole numbers from 0 to 255, [..., 3].
    """
    red, green, blue = rgb.reshape(-1, 3).astype(np.int64).T
    codes, places = np.unique(red << 16 | green << 8 | blue, return_inverse=True)
    colours = np.stack([codes >> 16, codes >> 8 & 255, codes & 255], axis=1)
    return colours.astype(np.float64), places
