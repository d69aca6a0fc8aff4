"""Distance between two sets of images as a whole: KID and CMMD, with intervals.

Both are the squared maximum mean discrepancy (Gretton et al., JMLR 13, 2012) of embeddings, by the
unbiased estimator: it may fall below 0 where the sets don't differ. They differ in kernel:

- KID (Bińkowski et al., ICLR 2018): (x·y / d + 1)^3 on an encoder's features of d numbers;
- CMMD (Jayasumana et al., CVPR 2024, arXiv 2401.09603): exp(-|x - y|^2 / (2 · 10^2)) on unit
  vectors of CLIP, times 1000. (The code that was published with it keeps the diagonal, which the
  paper's equation 4 leaves out; of a thousand images it hardly matters, of forty it does.)
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
SIGMA, SCALE = 10.0, 1000.0  # of CMMD
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
    """KID's kernel of every two rows, [len(x), len(y)]."""
    kernel: Vectors = (x @ y.T / x.shape[1] + 1) ** 3
    return kernel


def gaussian(x: Vectors, y: Vectors) -> Vectors:
    """CMMD's kernel of every two rows, times its scale, [len(x), len(y)]."""
    squares = (x**2).sum(1)[:, None] + (y**2).sum(1)[None] - 2 * x @ y.T
    kernel: Vectors = SCALE * np.exp(-np.maximum(squares, 0) / (2 * SIGMA**2))
    return kernel


@dataclass(frozen=True)
class KernelDistance:
    """MMD² of sets of embeddings to a fixed reference.

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
        """The distance of each resample, [resamples]; nan where it holds only one image.

        An image that a resample holds twice isn't compared with itself: its likeness of 1 would
        pull every resample towards a greater distance.

        Args:
            vectors: [images, features].
            counts: how often each resample holds each image, [resamples, images].
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
        """The distance of one set; nan for fewer than two images."""
        if len(vectors) < 2:
            return float("nan")
        return float(self.distances(vectors, np.ones((1, len(vectors))))[0])

    def interval(self, vectors: Vectors, clusters: Sequence[Hashable]) -> Interval:
        """The distance with its interval over `clusters`."""
        counts = resample_counts(len(vectors), clusters)
        return interval_of(self.of(vectors), self.distances(vectors, counts))

    def paired(
        self, base: Vectors, adapter: Vectors, clusters: Sequence[Hashable]
    ) -> tuple[Interval, Interval, Interval]:
        """Base, adapter and adapter - base, from the same resamples.

        Raises:
            ValueError: the two differ in length.
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
