"""Distances between two sets of images, with intervals: KID and CMMD.

Both are the squared maximum mean discrepancy (Gretton et al., JMLR 13, 2012) of embeddings. Their
unbiased estimator may be below 0 if the sets don't differ. They differ in the kernel:

- KID (Bińkowski et al., ICLR 2018): (x·y / d + 1)^3 on an encoder's features of d numbers;
- CMMD (Jayasumana et al., CVPR 2024, arXiv 2401.09603): exp(-|x - y|^2 / (2 · 10^2)) on unit
  vectors of CLIP, times 1000. (The authors' code keeps the diagonal, which the paper's equation 4
  leaves out. That hardly matters for a thousand images, but it does for forty.)
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mmtune.metrics.bootstrap import Interval, interval_of, resample_counts
from mmtune.metrics.metric import Quantity

Vectors = NDArray[np.float64]
Kernel = Callable[[Vectors, Vectors], Vectors]
SIGMA, SCALE = 10.0, 1000.0  # constants of CMMD
KID = Quantity(
    "KID", "KID", "How far the whole set is from the training images.", higher_is_better=False
)
CMMD = Quantity(
    "CMMD",
    "CMMD",
    "How far the whole set is from the training images, as CLIP sees.",
    higher_is_better=False,
)


def polynomial(x: Vectors, y: Vectors) -> Vectors:
    """Compute KID's kernel of each pair of rows, [len(x), len(y)]."""
    kernel: Vectors = (x @ y.T / x.shape[1] + 1) ** 3
    return kernel


def gaussian(x: Vectors, y: Vectors) -> Vectors:
    """Compute CMMD's kernel of each pair of rows, times its scale, [len(x), len(y)]."""
    squares = (x**2).sum(1)[:, None] + (y**2).sum(1)[None] - 2 * x @ y.T
    kernel: Vectors = SCALE * np.exp(-np.maximum(squares, 0) / (2 * SIGMA**2))
    return kernel


@dataclass(frozen=True)
class KernelDistance:
    """The squared MMD between sets of embeddings and a fixed reference set.

    Attributes:
        kernel: `polynomial` or `gaussian`.
        reference: embeddings of the brand's images, at least two, [images, features].
    """

    kernel: Kernel
    reference: Vectors

    def __post_init__(self) -> None:
        if len(self.reference) < 2:
            raise ValueError(f"a set needs two images or more, not {len(self.reference)}")

    def distances(self, vectors: Vectors, counts: Vectors) -> Vectors:
        """Compute the distance of each resample, [resamples]; nan if it holds only one image.

        An image that occurs twice in a resample isn't compared with itself. Its similarity of 1
        would make the distance of every resample too large.

        Args:
            vectors: [images, features].
            counts: number of times that each resample holds each image, [resamples, images].
        """
        within = self.kernel(vectors, vectors)
        np.fill_diagonal(within, 0)
        total = counts.sum(1)
        pairs = total**2 - (counts**2).sum(1)
        own = ((counts @ within) * counts).sum(1) / np.where(pairs > 0, pairs, np.nan)
        across = counts @ self.kernel(vectors, self.reference).mean(1) / total
        distance: Vectors = own + self._spread() - 2 * across
        return distance

    def _spread(self) -> float:
        within = self.kernel(self.reference, self.reference)
        n = len(within)
        return float((within.sum() - np.trace(within)) / (n * (n - 1)))

    def of(self, vectors: Vectors) -> float:
        """Compute the distance of one set; nan for fewer than two images."""
        if len(vectors) < 2:
            return float("nan")
        return float(self.distances(vectors, np.ones((1, len(vectors))))[0])

    def interval(self, vectors: Vectors, clusters: Sequence[Hashable]) -> Interval:
        """Compute the distance with its interval, resampled by `clusters`."""
        counts = resample_counts(len(vectors), clusters)
        return interval_of(self.of(vectors), self.distances(vectors, counts))

    def paired(
        self, base: Vectors, adapter: Vectors, clusters: Sequence[Hashable]
    ) -> tuple[Interval, Interval, Interval]:
        """Compute the intervals of base, adapter and adapter - base from the same resamples.

        Raises:
            ValueError: `base` and `adapter` differ in length.
        """
        if len(base) != len(adapter):
            raise ValueError(f"paired images differ: {len(base)} and {len(adapter)}")
        counts = resample_counts(len(base), clusters)
        x, y = self.distances(base, counts), self.distances(adapter, counts)
        first, second = self.of(base), self.of(adapter)
        return (
            interval_of(first, x),
            interval_of(second, y),
            interval_of(second - first, y - x),
        )
