"""How much of a picture is in a brand's colours, as the eye tells colours apart."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mmtune.data.rows import Row
from mmtune.errors import ConfigError
from mmtune.metrics.metric import Stat
from mmtune.predict import Prediction

NEAR = 5.0  # CIEDE2000: two colours that side by side are told apart, and taken for one apart
COLOURS = 12  # of an estimated palette
SIDE = 64  # pixels that are looked at along a side
FIT = 20_000  # pixels that an estimate is made from
MIN_SHARE = 0.005  # share of the pixels that a colour must have to count as the brand's
_HEX = re.compile(r"#?([0-9a-fA-F]{6})")

Colours = NDArray[np.float64]


def pixels_of(image: Any) -> Colours:
    """Some of an image's pixels as sRGB from 0 to 255, [pixels, 3].

    Larger images are thinned out and not averaged, which would mix colours that aren't there.
    """
    from PIL.Image import Resampling

    size = (min(SIDE, image.width), min(SIDE, image.height))
    small = image.convert("RGB").resize(size, Resampling.NEAREST)
    return np.asarray(small, dtype=np.float64).reshape(-1, 3)


def to_lab(rgb: Colours) -> Colours:
    """sRGB from 0 to 255 as CIELAB (D65), both [colours, 3]."""
    from basic_colormath.vec_distance import rgbs_to_lab

    return np.asarray(rgbs_to_lab(rgb), dtype=np.float64)


def to_hex(lab: Colours) -> list[str]:
    """Lab colours as `#FCEA2B`."""
    from basic_colormath.vec_distance import labs_to_rgb

    rgb = np.rint(np.asarray(labs_to_rgb(lab), dtype=np.float64)).astype(int)
    return [f"#{red:02X}{green:02X}{blue:02X}" for red, green, blue in rgb]


def delta_e(first: Colours, second: Colours) -> Colours:
    """CIEDE2000 (Sharma, Wu & Dalal 2005) of every two of two lists of Lab colours.

    Args:
        first: [n, 3].
        second: [m, 3].

    Returns:
        [n, m]; 2.3 is about the least that is noticed.
    """
    from basic_colormath.vec_distance import get_deltas_e_lab

    columns = [get_deltas_e_lab(first, np.broadcast_to(c, first.shape)) for c in second]
    # Of colours that differ by rounding the sum under the root may be below 0.
    return np.nan_to_num(np.stack(columns, axis=1), nan=0.0)


def parse_palette(written: Sequence[str]) -> Colours:
    """A palette of hexadecimal sRGB colours (`#FCEA2B`) in Lab, [colours, 3].

    Raises:
        ConfigError: one isn't six hexadecimal digits.
    """
    found = [_HEX.fullmatch(text.strip()) for text in written]
    for text, match in zip(written, found, strict=True):
        if match is None:
            raise ConfigError(
                f"task.palette: {text!r} is no colour", "write six hexadecimal digits, as #FCEA2B"
            )
    rgb = [[int(m[1][i : i + 2], 16) for i in (0, 2, 4)] for m in found if m is not None]
    return to_lab(np.asarray(rgb, dtype=np.float64))


def estimate_palette(images: Sequence[Any], colours: int = COLOURS, seed: int = 0) -> Colours:
    """The colours that a brand's images are made of, in Lab, most frequent first.

    k-means of their pixels; of each cluster the median and not the mean, which lies between a flat
    colour and its blends at the edges. Clusters with fewer than `MIN_SHARE` of the pixels are
    left out.

    Raises:
        ValueError: no images.
    """
    from scipy.cluster.vq import kmeans2  # type: ignore[import-untyped]

    if not images:
        raise ValueError("no images to estimate a palette from")
    rng = np.random.default_rng(seed)
    pixels = np.concatenate([pixels_of(image) for image in images])
    pixels = to_lab(pixels[rng.permutation(len(pixels))[:FIT]])
    distinct = np.unique(pixels.round(1), axis=0)
    if len(distinct) <= colours:
        centres = distinct
        labels = ((pixels[:, None] - centres[None]) ** 2).sum(2).argmin(1)
    else:
        _, labels = kmeans2(pixels, colours, iter=20, minit="++", rng=seed, missing="warn")
    counts = np.bincount(labels, minlength=colours)
    kept = [i for i in np.argsort(-counts, kind="stable") if counts[i] >= MIN_SHARE * len(pixels)]
    return np.stack([np.median(pixels[labels == i], axis=0) for i in kept])


class PaletteShare:
    """Share of an image's pixels that are within ΔE2000 `NEAR` of some colour of a palette.

    White counts like any colour: a ground that all share is in an estimated palette, and belongs
    into a given one. A share says something beside that of real held-out images.

    Args:
        palette: in Lab, [colours, 3]: `parse_palette` or `estimate_palette`.
    """

    name = "palette"
    unit = "share of pixels"
    meaning = "Pixels that have a colour of the brand."
    higher_is_better = True

    def __init__(self, palette: Colours) -> None:
        self.palette = palette

    def observe(self, row: Row, prediction: Prediction) -> Stat:
        """[share] of one image."""
        return np.array([self.share(prediction.value)])

    def statistics(self, images: Sequence[Any]) -> Stat:
        """The same for many images, [images, 1]."""
        return np.array([[self.share(image)] for image in images])

    def share(self, image: Any) -> float:
        """0 to 1."""
        # A picture has far fewer colours than pixels.
        red, green, blue = pixels_of(image).astype(np.int64).T
        codes, counts = np.unique(red << 16 | green << 8 | blue, return_counts=True)
        colours = np.stack([codes >> 16, codes >> 8 & 255, codes & 255], axis=1)
        near = delta_e(to_lab(colours.astype(np.float64)), self.palette).min(1) <= NEAR
        return float(counts[near].sum() / counts.sum())

    def reduce(self, stats: Sequence[Stat] | Stat) -> float | None:
        """The mean over images; None for none."""
        matrix = np.asarray(stats, dtype=np.float64)
        return float(matrix.mean()) if len(matrix) else None
