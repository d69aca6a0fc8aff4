"""Similarity to the nearest training image: the simplest sign of memorisation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mmtune.data.rows import Row
from mmtune.metrics.metric import Stat
from mmtune.predict import Prediction

SIDE = 32  # pixels; side of the thumbnails that are compared


def thumbnails(images: Sequence[Any]) -> NDArray[np.float64]:
    """Turn PIL images into thumbnails, [images, SIDE x SIDE x 3] from 0 to 1, made square."""
    from PIL.Image import Resampling

    small = [i.convert("RGB").resize((SIDE, SIDE), Resampling.BOX) for i in images]
    return np.stack([np.asarray(i, dtype=np.float64).ravel() / 255 for i in small])


@dataclass(frozen=True)
class Nearest:
    """The training image that is most similar to an image.

    Attributes:
        index: of the training image.
        similarity: of the two, at most 1.
        mirrored: whether it is similar to the mirrored training image.
    """

    index: int
    similarity: float
    mirrored: bool = False


class NearestTraining:
    """The highest similarity of an image to any training image, upright or mirrored.

    The similarity is the correlation of 32x32 thumbnails after the training images' mean image is
    subtracted, so that a shared white background doesn't count. A copy has 1. Copies that are
    shifted or recoloured can be missed. Compare the value with that of real held-out images: if an
    adapter's images are more similar to the training images, the adapter repeats them.

    Args:
        training: the training images.

    Raises:
        ValueError: there are no training images.
    """

    name = "nearest training image"
    unit = "correlation with the nearest training image"
    meaning = "How similar each image is to the training image most like it; 1 is a copy."
    higher_is_better = False

    def __init__(self, training: Sequence[Any]) -> None:
        if not training:
            raise ValueError("no training images")
        vectors = thumbnails(training)
        self.mean = vectors.mean(0)
        self.training = _unit(vectors - self.mean)

    def find(self, images: Sequence[Any]) -> list[Nearest]:
        """Find the most similar training image for each image."""
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
        """The highest similarity of one image, [1]."""
        return np.array([self.find([prediction.value])[0].similarity])

    def reduce(self, stats: Sequence[Stat] | Stat) -> float | None:
        """Mean over images; None without images."""
        matrix = np.asarray(stats, dtype=np.float64)
        return float(matrix.mean()) if len(matrix) else None


def _unit(vectors: NDArray[np.float64]) -> NDArray[np.float64]:
    norms: NDArray[np.float64] = np.linalg.norm(vectors, axis=1, keepdims=True)
    return vectors / np.maximum(norms, 1e-9)
