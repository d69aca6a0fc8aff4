"""Palette share: how much of an image has a brand's colours, by perceived colour difference."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mmtune.data.rows import Row
from mmtune.errors import ConfigError
from mmtune.metrics.image.reduced import distinct_colours
from mmtune.metrics.metric import Stat
from mmtune.predict import Prediction

MAX_DIFFERENCE = 5.0  # CIEDE2000; people see it side by side, but not between separate images
COLOURS = 12  # number of colours in an estimated palette
SIDE = 64  # pixels; images are reduced to this side
FIT = 20_000  # number of pixels from which a palette is estimated
MIN_SHARE = 0.005  # least share of the pixels for a colour of an estimated palette
_HEX = re.compile(r"#?([0-9a-fA-F]{6})")

Colours = NDArray[np.float64]


def pixels_of(image: Any) -> Colours:
    """Take some of an image's pixels as sRGB from 0 to 255, [pixels, 3].

    Larger images are reduced by leaving pixels out. Averaging would mix colours that the image
    doesn't have.
    """
    from PIL.Image import Resampling

    size = (min(SIDE, image.width), min(SIDE, image.height))
    small = image.convert("RGB").resize(size, Resampling.NEAREST)
    return np.asarray(small, dtype=np.float64).reshape(-1, 3)


def to_lab(rgb: Colours) -> Colours:
    """Convert sRGB from 0 to 255 to CIELAB (D65), both [colours, 3]."""
    from basic_colormath.vec_distance import rgbs_to_lab

    return np.asarray(rgbs_to_lab(rgb), dtype=np.float64)


def to_hex(lab: Colours) -> list[str]:
    """Write Lab colours in hexadecimal, such as `#FCEA2B`."""
    from basic_colormath.vec_distance import labs_to_rgb

    rgb = np.rint(np.asarray(labs_to_rgb(lab), dtype=np.float64)).astype(int)
    return [f"#{red:02X}{green:02X}{blue:02X}" for red, green, blue in rgb]


def delta_e(first: Colours, second: Colours) -> Colours:
    """Compute the CIEDE2000 difference (Sharma, Wu & Dalal 2005) of each pair of Lab colours.

    Args:
        first: colours, [n, 3].
        second: other colours, [m, 3].

    Returns:
        The differences, [n, m]; about 2.3 is just noticeable.
    """
    columns = [pairwise_delta_e(first, np.broadcast_to(c, first.shape)) for c in second]
    return np.stack(columns, axis=1)


def pairwise_delta_e(first: Colours, second: Colours) -> Colours:
    """Compute the CIEDE2000 difference of each Lab colour to the one at its place: [n]."""
    from basic_colormath.vec_distance import get_deltas_e_lab

    found = np.asarray(get_deltas_e_lab(first, second), dtype=np.float64)
    # For colours that differ only by rounding, the sum under the root may be below 0.
    return np.nan_to_num(found, nan=0.0)


def differences(rgb: NDArray[np.uint8] | Colours, colours: Colours) -> Colours:
    """CIEDE2000 of each pixel to the nearest of some Lab colours; each colour is compared once.

    Args:
        rgb: pixels, [..., 3].
        colours: Lab, [colours, 3].

    Returns:
        The differences, [...].
    """
    distinct, places = distinct_colours(rgb)
    nearest = delta_e(to_lab(distinct), colours).min(1)
    found: Colours = nearest[places].reshape(rgb.shape[:-1])
    return found


def parse_palette(written: Sequence[str]) -> Colours:
    """Parse a palette of hexadecimal sRGB colours (`#FCEA2B`) into Lab colours, [colours, 3].

    Raises:
        ConfigError: a colour isn't written with six hexadecimal digits.
    """
    found = [_HEX.fullmatch(text.strip()) for text in written]
    for text, match in zip(written, found, strict=True):
        if match is None:
            raise ConfigError(
                f"task.palette: {text!r} is not a colour",
                "write six hexadecimal digits, such as #FCEA2B",
            )
    rgb = [[int(m[1][i : i + 2], 16) for i in (0, 2, 4)] for m in found if m is not None]
    return to_lab(np.asarray(rgb, dtype=np.float64))


def estimate_palette(images: Sequence[Any], colours: int = COLOURS, seed: int = 0) -> Colours:
    """Estimate the colours of a brand's images, in Lab, most frequent first.

    The pixels are clustered by k-means. Each cluster gives its median, because the mean would lie
    between a flat colour and its blends at edges. Clusters with a share of pixels below
    `MIN_SHARE` are left out.

    Args:
        images: the brand's images (PIL).
        colours: number of clusters.
        seed: random seed of the clustering.

    Raises:
        ValueError: there are no images.
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
    """The share of an image's pixels within `MAX_DIFFERENCE` (ΔE2000) of some palette colour.

    White counts like any other colour. A common background is part of an estimated palette, and
    should be part of a given one. Compare the share with that of real held-out images.

    Args:
        palette: Lab colours, [colours, 3], from `parse_palette` or `estimate_palette`.
    """

    name = "palette"
    unit = "share of pixels"
    meaning = "The share of pixels that have a colour of the brand."
    higher_is_better = True

    def __init__(self, palette: Colours) -> None:
        self.palette = palette

    def observe(self, row: Row, prediction: Prediction) -> Stat:
        """The share of one image, [1]."""
        return np.array([self.share(prediction.value)])

    def statistics(self, images: Sequence[Any]) -> Stat:
        """The shares of many images, [images, 1]."""
        return np.array([[self.share(image)] for image in images])

    def share(self, image: Any) -> float:
        """Compute the share of one image, from 0 to 1."""
        return float((differences(pixels_of(image), self.palette) <= MAX_DIFFERENCE).mean())

    def reduce(self, stats: Sequence[Stat] | Stat) -> float | None:
        """Mean over images; None without images."""
        matrix = np.asarray(stats, dtype=np.float64)
        return float(matrix.mean()) if len(matrix) else None
