"""Copies: images that repeat a training image when the adapter gets a training caption."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL.Image import Image

from mmtune.data.rows import Row
from mmtune.image.evaluation.compared_images import UNDEFINED
from mmtune.metrics.bootstrap import bootstrap
from mmtune.metrics.image.memorization import COPIES, copied, copy_threshold, share
from mmtune.metrics.image.nearest import NearestTraining
from mmtune.metrics.measure import Measure

MAX_COPIES_IN_NOTE = 5  # pairs of copy and training image that the note names


@dataclass(frozen=True)
class Copy:
    """An image that is nearer to a training image than the brand's held-out images are.

    Attributes:
        prompt: the training caption.
        image: file of the adapter's image for it.
        training: file of the nearest training image.
        similarity: of the two images, at most 1.
        base: similarity of the base's image, for the same caption and seed, to its own nearest
            training image.
    """

    prompt: str
    image: Path
    training: Path
    similarity: float
    base: float


def copies_measure(
    row_seeds: Sequence[tuple[Row, int]],
    images: Sequence[Image],
    files: Sequence[Path],
    real: Sequence[Image],
    metric: NearestTraining,
    train: Sequence[Row],
    generate_base: Callable[[Sequence[tuple[Row, int]]], Sequence[Image]],
) -> tuple[Measure, list[Copy]]:
    """Measure the share of images for training captions that repeat a training image.

    Args:
        row_seeds: training row and seed of each image.
        images: the adapter's images for them.
        files: their files.
        real: the brand's held-out images; their similarity to the training images gives the
            threshold, see `copy_threshold`.
        metric: made from the images of `train`, in their order.
        train: the training rows.
        generate_base: generates images with the base; it is called for the copies only.

    Returns:
        The measure, and the copies with the most similar first.
    """
    threshold = copy_threshold(metric.find(real))
    nearest = metric.find(images)
    stats = copied(nearest, threshold)
    adapter = bootstrap(list(stats), share, clusters=[row.id for row, _ in row_seeds])
    most_similar = np.argsort([-n.similarity for n in nearest])
    found = [i for i in most_similar if nearest[i].similarity > threshold]
    nearest_of_base = metric.find(generate_base([row_seeds[i] for i in found])) if found else []
    copies = [
        Copy(
            prompt=row_seeds[i][0].reference,
            image=files[i],
            training=train[nearest[i].index].path,
            similarity=nearest[i].similarity,
            base=base.similarity,
        )
        for i, base in zip(found, nearest_of_base, strict=True)
    ]
    measure = Measure(
        metric=COPIES.name,
        slice="training captions",
        items=len(images),
        base=UNDEFINED,
        adapter=adapter,
        difference=UNDEFINED,
        higher_is_better=False,
        note=_note(copies, len(images), threshold, len(real)),
    )
    return measure, copies


def _note(copies: Sequence[Copy], images: int, threshold: float, held_out: int) -> str:
    """Say how many copies there are, how many to expect by chance, and which they are."""
    # The threshold is the highest of n held-out images, and for n >= 100 their 99th percentile. A
    # further image of the brand is as likely as each of these to be the highest of all n + 1.
    chance = min(held_out + 1, 100)
    note = (
        f"{len(copies)} of {images} are nearer than {threshold:.2f}; by chance about 1 in "
        f"{chance} new images of the brand is"
    )
    if not copies:
        return note
    by_adapter_alone = sum(copy.base <= threshold for copy in copies)
    pairs = [
        f"{c.image.name} and {c.training.name} ({c.similarity:.2f}, base {c.base:.2f})"
        for c in copies[:MAX_COPIES_IN_NOTE]
    ]
    note += f"; for {by_adapter_alone} of them the base's image isn't: " + "; ".join(pairs)
    return note + ("; …" if len(copies) > MAX_COPIES_IN_NOTE else "")
