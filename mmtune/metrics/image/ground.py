"""The ground of a picture: the colour of the area that goes along its border."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mmtune.metrics.image.palette import Colours, delta_e, differences, to_lab
from mmtune.metrics.image.reduced import Reduced, distinct_colours
from mmtune.metrics.metric import Quantity

MIN_BORDER = 0.5  # share of the border that the ground must have
CANDIDATES = 64  # most frequent colours of the border that are tried as the ground's

WRONG_GROUND = Quantity(
    "wrong grounds",
    "share of images",
    "The share of the images whose ground the brand guide doesn't permit.",
    higher_is_better=False,
)


@dataclass(frozen=True)
class Ground:
    """The ground of a picture.

    Attributes:
        colour: Lab, [3]; None: it is transparent.
        border: share of the border that it has; below `MIN_BORDER` there is no single ground.
    """

    colour: Colours | None
    border: float

    @property
    def is_one(self) -> bool:
        """Whether most of the border has one colour, or is transparent."""
        return self.border >= MIN_BORDER


def find_ground(picture: Reduced, tolerance: float) -> Ground:
    """Find the colour that most of a picture's border has.

    It is the median of the area that goes on from there; the same colour elsewhere is no ground.

    Args:
        picture: from `reduce_picture`.
        tolerance: CIEDE2000 within which colours are one ground.
    """
    border = np.ones(picture.clear.shape, dtype=np.bool_)
    border[1:-1, 1:-1] = False
    around = int(border.sum())
    clear = float(picture.clear[border].mean())
    if clear >= MIN_BORDER:
        return Ground(None, clear)
    opaque = border & ~picture.clear
    colours, places = distinct_colours(picture.rgb[opaque])
    counts, lab = np.bincount(places), to_lab(colours)
    tried = lab[np.argsort(-counts, kind="stable")[:CANDIDATES]]
    # Columns are candidates: how many of the border's pixels each explains.
    held = (delta_e(lab, tried) <= tolerance).T @ counts
    main = tried[held.argmax()][None]
    like = (differences(picture.rgb, main) <= tolerance) & ~picture.clear
    ground = picture.rgb[_connected(like, border)]
    colour = np.median(to_lab(ground.astype(np.float64)), axis=0)
    return Ground(colour, float(held.max() / around))


def _connected(area: NDArray[np.bool_], border: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """The parts of an area that reach the border."""
    from scipy import ndimage  # type: ignore[import-untyped]

    parts, _ = ndimage.label(area)
    reaching = np.unique(parts[border & area])
    return np.isin(parts, reaching)
