"""Types of image encoders: embeddings, functions that compute them, and image-text scorers.

This module loads no torch, so that code that only passes embeddings on stays light.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from PIL.Image import Image

Vectors = NDArray[np.float64]  # one embedding per row, [items, width]
Embed = Callable[[Sequence[Image]], Vectors]


class Scorer(Protocol):
    """Embeds images and texts in one space, so that their similarity says whether they match.

    Attributes:
        metric: name of the metric in a report.
        min_recall: share of the run's own real images whose caption must be among the best few
            (`metrics.image.clip_score.recall`) before this scorer may judge. None: it is enough
            that real images score higher with their own captions than with others'.
    """

    metric: str
    min_recall: float | None

    def images(self, images: Sequence[Image]) -> Vectors:
        """Embed images as unit vectors, [images, width]."""
        ...

    def texts(self, texts: Sequence[str]) -> Vectors:
        """Embed texts as unit vectors, [texts, width]."""
        ...
