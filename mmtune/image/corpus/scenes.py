"""Frames of a video that are worth training on: one of each scene, without near-copies."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from mmtune.image.corpus.evaluation_rows import evenly_spaced
from mmtune.image.pictures.alike import KnownLooks, look_of
from mmtune.image.pictures.picture import Picture
from mmtune.image.pictures.video import Frame, Frames

SIDE = 64  # pixels along a side of the copies in which cuts are looked for
SHARP = 256  # pixels along a side of those in which sharpness is measured
# The score of FFmpeg's scdet filter (libavfilter/vf_scdet.c), from 0 to 100, and its threshold.
CUT = 10.0
LONG = 10.0  # seconds after which a scene without a cut gives another picture
PLAIN = 16  # levels of 255; a frame whose values all lie closer together shows nothing


@dataclass(frozen=True)
class Chosen:
    """A frame that becomes a picture: its place in the video, and its time in seconds."""

    number: int
    time: float


@dataclass
class Survey:
    """What a video gives.

    Attributes:
        chosen: the frames that become pictures, in their order.
        frames: how many frames were decoded.
        scenes: how many scenes it has; long ones count for each `LONG` seconds.
        copies: scenes that look like an earlier picture.
        plain: scenes that show one colour only, such as black.
        near: scenes that are too close in time to the picture before.
        surplus: pictures above the number that was asked for.
    """

    chosen: list[Chosen] = field(default_factory=list)
    frames: int = 0
    scenes: int = 0
    copies: int = 0
    plain: int = 0
    near: int = 0
    surplus: int = 0


def survey(
    frames: Frames,
    known: KnownLooks,
    most: int,
    apart: float,
    progress: Callable[[], None] | None = None,
) -> Survey:
    """Choose the sharpest frame of each scene, without near-copies.

    Args:
        frames: of the video.
        known: the pictures of earlier videos; those that are chosen of this one are added.
        most: how many pictures to choose at most; they are spread over the video.
        apart: the least seconds between two pictures.
        progress: called for each picture that is chosen.

    Raises:
        ImageFault: the video can't be read at all.
    """
    found = Survey()
    cuts = _Cuts()
    best: tuple[float, Frame] | None = None
    begun = 0.0
    looks: list[bytes] = []  # of the chosen frames
    own = KnownLooks()

    def close() -> None:
        if best is not None:
            found.scenes += 1
            look = _take(best[1], found, (known, own), apart)
            if look is not None:
                own.add(look)
                looks.append(look)
                if progress is not None:
                    progress()

    for frame in frames:
        found.frames += 1
        if cuts.is_cut(frame.scaled(SIDE, SIDE)) or frame.time - begun >= LONG:
            close()
            best, begun = None, frame.time
        sharp = _sharpness(frame.scaled(SHARP, SHARP, "gray"))
        if best is None or sharp > best[0]:
            best = sharp, frame
    close()
    if len(found.chosen) > most:
        found.surplus = len(found.chosen) - most
        found.chosen = evenly_spaced(found.chosen, most)
        looks = evenly_spaced(looks, most)
    for look in looks:  # a later video isn't compared with surplus pictures, which nobody gets
        known.add(look)
    return found


class _Cuts:
    """Finds cuts as FFmpeg's scdet does: frames differ, and more than the two before them."""

    def __init__(self) -> None:
        self._last: NDArray[np.int16] | None = None
        self._difference = 0.0

    def is_cut(self, small: NDArray[np.uint8]) -> bool:
        values = small.astype(np.int16)
        if self._last is None:
            self._last = values
            return False
        difference = float(np.abs(values - self._last).mean()) * 100 / 255
        score = min(difference, abs(difference - self._difference))
        self._last, self._difference = values, difference
        return score >= CUT


def _take(frame: Frame, found: Survey, known: Sequence[KnownLooks], apart: float) -> bytes | None:
    """Choose a frame, or count why it isn't chosen.

    Returns:
        The look of a frame that is chosen; None: it isn't.
    """
    if found.chosen and frame.time - found.chosen[-1].time < apart:
        found.near += 1
        return None
    picture = Picture(frame.picture())
    small = np.asarray(picture.thumbnail(SIDE))
    look = look_of(picture)
    if not look or (not picture.is_transparent and int(np.ptp(small, (0, 1)).max()) < PLAIN):
        found.plain += 1
        return None
    if any(each.copies_of(look) for each in known):
        found.copies += 1
        return None
    found.chosen.append(Chosen(frame.number, frame.time))
    return look


def _sharpness(grey: NDArray[np.uint8]) -> float:
    """The variance of the Laplacian, which is larger the sharper an image is."""
    values = grey.astype(np.float32)
    inner = 4 * values[1:-1, 1:-1]
    around = values[:-2, 1:-1] + values[2:, 1:-1] + values[1:-1, :-2] + values[1:-1, 2:]
    return float((inner - around).var())
