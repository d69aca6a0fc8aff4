"""How near images come to the training images: the simplest evidence of memorisation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mmtune.data.rows import Row
from mmtune.metrics.metric import Stat
from mmtune.predict import Prediction

SIDE = 32  # pixels of the thumbnails that are compared


def thumbnails(images: Sequence[Any]) -> NDArray[np.float64]:
    """PIL images as thumbnails, [images, SIDE x SIDE x 3], 0 to 1; the picture is squeezed."""
    from PIL.Image import Resampling

    small = [i.convert("RGB").resize((SIDE, SIDE), Resampling.BOX) for i in images]
    return np.stack([np.asarray(i, dtype=np.float64).ravel() / 255 for i in small])


@dataclass(frozen=True)
class Nearest:
    """The most similar training image of one image."""

    index: int
    similarity: float


class NearestTraining:
    """Highest similarity of an image to any training image, upright or mirrored.

    The similarity is the correlation of 32x32 thumbnails after the training images' mean image is
    taken off, so that a white ground that all share counts for nothing: 1 for a copy. Near-copies
    that are moved or recoloured can escape it. It says something beside the same figure of real
    held-out images: if an adapter's images are nearer to the training images than those are, it
    repeats them.

    Args:
        training: the training images.

    Raises:
        ValueError: there are none.
    """

    name = "nearest training image"
    unit = "correlation with the nearest training image"
    meaning = "How like the most similar training image what is drawn is; 1 is a copy."
    higher_is_better = False

    def __init__(self, training: Sequence[Any]) -> None:
        if not training:
            raise ValueError("no training images")
        vectors = thumbnails(training)
        self.mean = vectors.mean(0)
        self.training = _unit(vectors - self.mean)

    def find(self, images: Sequence[Any]) -> list[Nearest]:
        """The most similar training image of each image."""
        if not images:
            return []
        upright = thumbnails(images)
        mirrored = upright.reshape(-1, SIDE, SIDE, 3)[:, :, ::-1].reshape(upright.shape)
        similar = np.maximum(
            *(_unit(vectors - self.mean) @ self.training.T for vectors in (upright, mirrored))
        )
        best = similar.argmax(1)
        return [Nearest(int(i), float(row[i])) for i, row in zip(best, similar, strict=True)]

    def observe(self, row: Row, prediction: Prediction) -> Stat:
        """[highest similarity] of one image."""
        return np.array([self.find([prediction.value])[0].similarity])

    def reduce(self, stats: Sequence[Stat] | Stat) -> float | None:
        """The mean over images; None for none."""
        matrix = np.asarray(stats, dtype=np.float64)
        return float(matrix.mean()) if len(matrix) else None


def _unit(vectors: NDArray[np.float64]) -> NDArray[np.float64]:
    norms: NDArray[np.float64] = np.linalg.norm(vectors, axis=1, keepdims=True)
    return vectors / np.maximum(norms, 1e-9)
