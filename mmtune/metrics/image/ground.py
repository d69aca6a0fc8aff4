"""The ground of a picture: the colour of the area that goes along its border."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mmtune.metrics.image.palette import Colours, delta_e, to_lab
from mmtune.metrics.image.reduced import Reduced, differences, distinct_colours
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
        area: share of the picture's area.
    """

    colour: Colours | None
    border: float
    area: float

    @property
    def is_one(self) -> bool:
        """Whether most of the border has one colour, or is transparent."""
        return self.border >= MIN_BORDER


def find_ground(picture: Reduced, tolerance: float) -> Ground:
    """Find the colour that most of a picture's border has, and the area that goes on from there.

    Args:
        picture: from `reduce_picture`.
        tolerance: CIEDE2000 within which colours are one ground.
    """
    border = np.ones(picture.clear.shape, dtype=np.bool_)
    border[1:-1, 1:-1] = False
    around = int(border.sum())
    clear = float(picture.clear[border].mean())
    if clear >= MIN_BORDER:
        return Ground(None, clear, _connected(picture.clear, border))
    opaque = border & ~picture.clear
    colours, places = distinct_colours(picture.rgb[opaque])
    counts, lab = np.bincount(places), to_lab(colours)
    tried = lab[np.argsort(-counts, kind="stable")[:CANDIDATES]]
    # Columns are candidates: how many of the border's pixels each explains.
    held = (delta_e(lab, tried) <= tolerance).T @ counts
    main = tried[held.argmax()][None]
    like = (differences(picture.rgb, main) <= tolerance) & ~picture.clear
    colour = np.median(to_lab(picture.rgb[like].reshape(-1, 3).astype(np.float64)), axis=0)
    return Ground(colour, float(held.max() / around), _connected(like, border))


def _connected(area: NDArray[np.bool_], border: NDArray[np.bool_]) -> float:
    """The share of a picture that is in the parts of an area which reach the border."""
    from scipy import ndimage  # type: ignore[import-untyped]

    parts, _ = ndimage.label(area)
    reaching = np.unique(parts[border & area])
    return float(np.isin(parts, reaching[reaching > 0]).mean())
