"""Copies: images that repeat a training image when the adapter gets a training caption."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL.Image import Image

from mmtune.data.rows import Row
from mmtune.image.corpus.evaluation_rows import evenly_spaced
from mmtune.metrics.bootstrap import UNDEFINED, bootstrap
from mmtune.metrics.image.copy_search import AlignedTraining
from mmtune.metrics.image.memorization import (
    COPIES,
    MIN_HELD_OUT,
    copy_threshold,
    new_images,
    share,
)
from mmtune.metrics.measure import Measure

MAX_HELD_OUT = 300  # held-out images that give the threshold; more would only take time
MAX_COPIES_IN_NOTE = 5  # pairs of copy and training image that the note names


@dataclass(frozen=True)
class Copy:
    """An image that is nearer to a training image than new images are, and than the base's is.

    Attributes:
        prompt: the training caption.
        image: file of the adapter's image for it.
        training: file of the nearest training image.
        similarity: of the two images, at most 1.
        base: similarity of the base's image, for the same caption and seed, to its own nearest
            training image.
        mirrored: whether the image repeats the mirrored training image.
    """

    prompt: str
    image: Path
    training: Path
    similarity: float
    base: float
    mirrored: bool = False


def copies_measure(
    row_seeds: Sequence[tuple[Row, int]],
    images: Sequence[Image],
    files: Sequence[Path],
    real: Sequence[Image],
    brand: Sequence[Image],
    train: Sequence[Row],
    generate_base: Callable[[Sequence[tuple[Row, int]]], Sequence[Image]],
) -> tuple[Measure, list[Copy]]:
    """Measure the share of images for training captions that repeat a training image.

    An image counts if it is more similar to a training image than `copy_threshold`, and more than
    the base's image for the same caption and noise is: a thing that is always drawn in one way
    isn't a copy.

    Args:
        row_seeds: training row and seed of each image.
        images: the adapter's images for them.
        files: their files.
        real: the brand's held-out images, of which up to `MAX_HELD_OUT` are used. Those that repeat
            a training image are left out; the others give the threshold. With fewer than
            `MIN_HELD_OUT` the share isn't known.
        brand: the images of `train`, in their order.
        train: the training rows.
        generate_base: generates images with the base; it is called for the candidates only.

    Returns:
        The measure, and the copies with the most similar first.
    """
    metric, real = AlignedTraining(brand), evenly_spaced(real, MAX_HELD_OUT)
    new = new_images(real, metric)
    known = len(new) >= MIN_HELD_OUT
    threshold = copy_threshold(new) if new else 1.0
    nearest = metric.find(images)
    most_similar = np.argsort([-n.similarity for n in nearest])
    near = [i for i in most_similar if nearest[i].similarity > threshold]
    nearest_of_base = metric.find(generate_base([row_seeds[i] for i in near])) if near else []
    stats = np.zeros((len(images), 1))
    copies = []
    for i, base in zip(near, nearest_of_base, strict=True):
        found = nearest[i]
        if found.similarity > base.similarity:
            stats[i] = 1
            copies.append(
                Copy(
                    prompt=row_seeds[i][0].reference,
                    image=files[i],
                    training=train[found.index].path,
                    similarity=found.similarity,
                    base=base.similarity,
                    mirrored=found.mirrored,
                )
            )
    adapter = bootstrap(list(stats), share, clusters=[row.id for row, _ in row_seeds])
    repeated = len(real) - len(new)
    without = f" ({repeated} more repeat training images or one another)" if repeated else ""
    if known:
        note = _note(copies, len(near), len(images), threshold, len(new)) + without
    else:
        note = (
            f"{len(new)} held-out images{without} can't tell copies from new images; "
            f"{MIN_HELD_OUT} are needed" + (f"; most similar{_pairs(copies)}" if copies else "")
        )
    measure = Measure(
        metric=COPIES.name,
        slice="training captions",
        items=len(images),
        base=UNDEFINED,
        adapter=adapter if known else UNDEFINED,
        difference=UNDEFINED,
        higher_is_better=False,
        note=note,
    )
    return measure, copies


def _note(copies: Sequence[Copy], near: int, images: int, threshold: float, held_out: int) -> str:
    """Say how many copies there are, how many to expect by chance, and which they are."""
    # The threshold is the highest of n held-out images, and for n >= 100 their 99th percentile. A
    # further image of the brand is as likely as each of these to be the highest of all n + 1.
    chance = min(held_out + 1, 100)
    note = f"{near} of {images} are more similar to a training image than {threshold:.2f}"
    if near:
        note += f"; {len(copies)} of these are also nearer than the base's image, and count"
    mirrored = sum(copy.mirrored for copy in copies)
    if mirrored:
        note += f" ({mirrored} mirrored)"
    note += f". By chance about 1 in {chance} new images of the brand is that similar"
    return note + (f". Copies{_pairs(copies)}" if copies else "")


def _pairs(copies: Sequence[Copy]) -> str:
    """Name the most similar pairs; empty without copies."""
    if not copies:
        return ""
    pairs = [
        f"{c.image.name} and {c.training.name}{', mirrored' if c.mirrored else ''} "
        f"({c.similarity:.2f}, base {c.base:.2f})"
        for c in copies[:MAX_COPIES_IN_NOTE]
    ]
    return ": " + "; ".join(pairs) + ("; …" if len(copies) > MAX_COPIES_IN_NOTE else "")
