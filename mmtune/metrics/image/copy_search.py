"""Similarity to a training image that was shifted, scaled, mirrored or turned in hue."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mmtune.metrics.image.nearest import Nearest

Vectors = NDArray[np.float64]

SIDE = 64  # pixels; side of the images that are compared
PART = 0.64  # side of a training image's middle part, which is searched for, as a share of its own
CELLS = (12, 24)  # side of the compared parts: to find the place, and to compare there
SCALES = np.array([0.8, 0.86, 0.93, 1.0, 1.075, 1.16, 1.25])  # of the part in the other image
SHIFTS = np.linspace(-0.1, 0.1, 9)  # places of its middle, as a share of the side
MIDDLE = (np.ones(1), np.zeros(1), np.zeros(1))  # scale and shifts of a training image's own part
CANDIDATES = 4  # training images whose place is searched closely
ROUNDS = 3  # of the close search; each halves the steps
SCALE_STEP, SHIFT_STEP = 0.035, 0.0125  # of its first round
MIRROR_MARGIN = 0.01  # by which a mirrored one must be more similar: many things are symmetric
FLAT = 0.03  # deviation of a part below which it counts as empty, from 0 to 1


class AlignedTraining:
    """The highest similarity of an image to any training image, wherever it shows it.

    The middle of each training image is searched for in the other image: at 0.8 to 1.25 times its
    size, shifted by up to a tenth of the side in both directions, and mirrored. The similarity is
    the correlation of the two parts, 1 for a copy. It compares the lightest and the darkest of a
    pixel's three colours, which a turn of the hue (HSV) leaves as they are.

    Args:
        training: the training images.

    Raises:
        ValueError: there are no training images.
    """

    def __init__(self, training: Sequence[Any]) -> None:
        if not training:
            raise ValueError("no training images")
        planes = [_planes(image) for image in training]
        # By whether they are mirrored: the middles of all training images, coarse and fine.
        self._middles = [
            tuple(np.concatenate([_parts(p, *MIDDLE, cells) for p in some]) for cells in CELLS)
            for some in (planes, [p[:, :, ::-1] for p in planes])
        ]

    def find(self, images: Sequence[Any], without: Sequence[int] | None = None) -> list[Nearest]:
        """Find the most similar training image for each image.

        Args:
            without: for each image the index of a training image that it isn't compared with.
        """
        others = [-1] * len(images) if without is None else without
        return [
            self._nearest(_planes(image), other)
            for image, other in zip(images, others, strict=True)
        ]

    def _nearest(self, planes: Vectors, other: int) -> Nearest:
        parts = _parts(planes, SCALES, SHIFTS, SHIFTS, CELLS[0])
        # By whether they are mirrored: [mirrored, places, training images].
        similar = np.stack([parts @ coarse.T for coarse, _ in self._middles])
        if other >= 0:
            similar[:, :, other] = -1
        best, highest = (-2.0, Nearest(0, -1.0)), similar.max(1)
        for candidate in np.argsort(-highest, axis=None)[:CANDIDATES]:
            mirrored, index = divmod(int(candidate), highest.shape[1])
            place = _place(int(similar[mirrored, :, index].argmax()), SCALES, SHIFTS, SHIFTS)
            likeness = _search(planes, self._middles[mirrored][1][index], place)
            rank = likeness - MIRROR_MARGIN * mirrored
            if index != other and rank > best[0]:
                best = rank, Nearest(index, likeness, bool(mirrored))
        return best[1]


def _search(planes: Vectors, middle: Vectors, place: tuple[float, float, float]) -> float:
    """Search around a place for the best similarity, in ever smaller steps."""
    best, scale_step, shift_step = -1.0, SCALE_STEP, SHIFT_STEP
    for _ in range(ROUNDS):
        scale, y, x = place
        scales = scale + scale_step * np.array([-1.0, 0.0, 1.0])
        steps = shift_step * np.array([-1.0, -0.5, 0.0, 0.5, 1.0])
        similar = _parts(planes, scales, y + steps, x + steps, CELLS[1]) @ middle
        best = max(best, float(similar.max()))
        place = _place(int(similar.argmax()), scales, y + steps, x + steps)
        scale_step, shift_step = scale_step / 2, shift_step / 2
    return best


def _place(
    index: int, scales: Vectors, down: Vectors, right: Vectors
) -> tuple[float, float, float]:
    """The scale and the shifts of one of the rows of `_parts`."""
    i, y, x = np.unravel_index(index, (len(scales), len(down), len(right)))
    return float(scales[i]), float(down[y]), float(right[x])


def _planes(image: Any) -> Vectors:
    """The lightest and the darkest colour of each pixel, [2, SIDE, SIDE] from 0 to 1."""
    from PIL.Image import Resampling

    small = image.convert("RGB").resize((SIDE, SIDE), Resampling.BOX)
    pixels = np.asarray(small, dtype=np.float64) / 255
    return np.stack([pixels.max(2), pixels.min(2)])


def _parts(planes: Vectors, scales: Vectors, down: Vectors, right: Vectors, cells: int) -> Vectors:
    """Cut square parts out of an image, as vectors of length 1 around their mean.

    Args:
        scales: side of a part, as a multiple of `PART`.
        down, right: shifts of its middle from the image's middle, as a share of the side.
        cells: number of cells along a side of the result.

    Returns:
        [scales x down x right, 2 x cells x cells]; a part that is nearly flat is shorter than 1.
    """
    found = []
    for scale in scales:
        rows, columns = (_averages(0.5 + s, PART * float(scale), cells) for s in (down, right))
        cut = (rows @ planes @ columns.T).reshape(2, len(down), cells, len(right), cells)
        found.append(cut.transpose(1, 3, 0, 2, 4).reshape(-1, 2, cells * cells))
    parts = np.concatenate(found)
    parts = (parts - parts.mean(2, keepdims=True)).reshape(len(parts), -1)
    lengths = np.linalg.norm(parts, axis=1, keepdims=True)
    unit: Vectors = parts / np.maximum(lengths, FLAT * np.sqrt(parts.shape[1]))
    return unit


def _averages(middles: Vectors, side: float, cells: int) -> Vectors:
    """Weights of the pixels of a line in the cells of parts of it, [middles x cells, SIDE]."""
    ends = SIDE * (middles[:, None] + side * (np.arange(cells + 1) / cells - 0.5))
    pixel = np.arange(SIDE)
    last, first = ends[:, 1:, None], ends[:, :-1, None]
    weights = np.maximum(np.minimum(last, pixel + 1) - np.maximum(first, pixel), 0)
    averages: Vectors = weights / np.maximum(weights.sum(2, keepdims=True), 1e-9)
    return averages.reshape(-1, SIDE)
