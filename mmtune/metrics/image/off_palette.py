"""How much of a picture has colours outside a palette, where edges may be mixtures of colours.

Renderers draw edges as mixtures (anti-aliasing), and so do cameras, resizing and autoencoders. A
mixture of two or three palette colours is no foreign colour at an edge; as an area of its own it is
one. A pixel is at an edge where the colours around it differ.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from mmtune.metrics.image.palette import (
    Colours,
    delta_e,
    differences,
    pairwise_delta_e,
    to_hex,
    to_lab,
)
from mmtune.metrics.image.reduced import Reduced, distinct_colours
from mmtune.metrics.metric import Quantity

FLAT = 16  # levels of 255 by which a channel may differ among a pixel and its eight neighbours
REACH = 2  # pixels from an edge's pixel to the nearest one with a palette colour
EDGE_FACTOR = 2.0  # tolerance of mixtures, in tolerances: resizing overshoots at edges
MAX_PROJECTED = 500_000  # colours times groups of palette colours at once; bounds the memory
MAX_NAMED = 3  # foreign colours that are named
MERGED = 12.0  # CIEDE2000 within which foreign colours are named as one

OFF_PALETTE = Quantity(
    "off-palette images",
    "share of images",
    "The share of the images in which more than the brand guide allows lies outside its palette.",
    higher_is_better=False,
)


@dataclass(frozen=True)
class OffPalette:
    """The part of a picture outside a palette.

    Attributes:
        share: of the picture's area, from 0 to 1.
        colours: the largest foreign colours as `#RRGGBB`, with their shares of the area.
    """

    share: float
    colours: tuple[tuple[str, float], ...]


def off_palette(
    picture: Reduced, palette: Colours, tolerance: float, behind: Colours | None = None
) -> OffPalette:
    """Measure how much of a picture has colours outside a palette.

    Transparent pixels count as inside. At edges, mixtures of up to three palette colours do, too.

    Args:
        picture: from `reduce_picture`.
        palette: sRGB from 0 to 255, [colours, 3].
        tolerance: CIEDE2000 within which a colour is one of the palette.
        behind: further colours that mixtures may have, such as what lies behind transparent parts.
    """
    from scipy import ndimage  # type: ignore[import-untyped]

    rgb = picture.rgb
    inside = differences(rgb, to_lab(palette)) <= tolerance
    inside |= picture.clear
    highest = ndimage.maximum_filter(rgb, size=(3, 3, 1), mode="nearest")
    lowest = ndimage.minimum_filter(rgb, size=(3, 3, 1), mode="nearest")
    at_edge = (highest.astype(np.int16) - lowest).max(2) > FLAT
    around = ndimage.maximum_filter(inside, size=2 * REACH + 1, mode="nearest")
    mixed = ~inside & at_edge & around
    if mixed.any():
        # Four levels are far less than the tolerance, and a photograph then has few colours.
        colours, places = distinct_colours(rgb[mixed] // 4 * 4 + 2)
        parts = palette if behind is None else np.concatenate([palette, behind])
        inside[mixed] = _are_mixtures(colours, parts, EDGE_FACTOR * tolerance)[places]
    return OffPalette(float((~inside).mean()), _main_colours(rgb[~inside], inside.size))


def _are_mixtures(colours: Colours, palette: Colours, most: float) -> NDArray[np.bool_]:
    """Which colours are within `most` (CIEDE2000) of a mixture of up to three palette colours.

    Renderers mix sRGB values as they are, so mixtures lie on segments and triangles of them.
    """
    found = np.zeros(len(colours), dtype=np.bool_)
    for size in range(2, min(3, len(palette)) + 1):
        left = colours[~found]  # most edges are between two colours
        corners = palette[np.array(list(combinations(range(len(palette)), size)))]
        found[~found] = pairwise_delta_e(to_lab(left), to_lab(_nearest(left, corners))) <= most
    return found


def _nearest(colours: Colours, corners: Colours) -> Colours:
    """The mixture that is nearest to each colour in sRGB, of some groups of corners.

    Where a colour's projection lies outside each group's segment or triangle, the nearest corner is
    taken.

    Args:
        colours: [colours, 3].
        corners: [groups, 2 or 3, 3].
    """
    ends = corners.reshape(-1, 3)
    nearest: Colours = ends[((colours[:, None] - ends[None]) ** 2).sum(2).argmin(1)]
    distance = ((nearest - colours) ** 2).sum(1)
    step = max(1, MAX_PROJECTED // max(1, len(colours)))
    for start in range(0, len(corners), step):
        some = corners[start : start + step]
        edges = (some[:, 1:] - some[:, :1]).transpose(0, 2, 1)  # [groups, 3, 1 or 2]
        away = colours[:, None] - some[None, :, 0]  # [colours, groups, 3]
        parts = np.einsum("gij,ngj->ngi", np.linalg.pinv(edges), away)
        points = some[None, :, 0] + np.einsum("gij,ngj->ngi", edges, parts)
        squares = ((points - colours[:, None]) ** 2).sum(2)
        squares[(parts < 0).any(2) | (parts.sum(2) > 1)] = np.inf
        best = squares.argmin(1)
        own = np.arange(len(colours))
        closer = squares[own, best] < distance
        nearest[closer] = points[own, best][closer]
        distance[closer] = squares[own, best][closer]
    return nearest


def _main_colours(rgb: NDArray[np.uint8], area: int) -> tuple[tuple[str, float], ...]:
    """Name the largest groups of like colours among some pixels, each by its most frequent."""
    found: list[tuple[str, float]] = []
    left = rgb
    while len(left) and len(found) < MAX_NAMED:
        colours, places = distinct_colours(left)
        counts = np.bincount(places)
        coarse = colours.astype(np.int64) // 16
        keys = coarse[:, 0] << 8 | coarse[:, 1] << 4 | coarse[:, 2]
        largest = np.bincount(keys, weights=counts).argmax()
        own = keys == largest
        lab = to_lab(colours)
        main = lab[np.flatnonzero(own)[counts[own].argmax()]][None]
        like = delta_e(lab, main)[:, 0] <= MERGED
        found.append((to_hex(main)[0], float(counts[like].sum() / area)))
        left = left[~like[places]]
    return tuple(sorted(found, key=lambda each: -each[1]))
