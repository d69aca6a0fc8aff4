"""Whether an adapter draws its training images again."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL.Image import Image

from mmtune.data.rows import Row
from mmtune.image.evaluation.measures import UNDEFINED
from mmtune.metrics.bootstrap import bootstrap
from mmtune.metrics.image.memorization import copied, copy_threshold, share
from mmtune.metrics.image.nearest import NearestTraining
from mmtune.metrics.measure import Measure

MOST_NAMED = 5  # pairs in a note


@dataclass(frozen=True)
class Copy:
    """An image drawn for a training caption that is nearer to a training image than real ones come.

    Attributes:
        prompt: the caption.
        image: what the adapter drew.
        training: the training image that it is near.
        similarity: of the two.
        base: of what the base draws for the same caption and seed, to any training image.
    """

    prompt: str
    image: Path
    training: Path
    similarity: float
    base: float


def copies_measure(
    asked: Sequence[tuple[Row, int]],
    images: Sequence[Image],
    files: Sequence[Path],
    real: Sequence[Image],
    metric: NearestTraining,
    train: Sequence[Row],
    draw_base: Callable[[Sequence[tuple[Row, int]]], Sequence[Image]],
) -> tuple[Measure, list[Copy]]:
    """The share of the images drawn for training captions that repeat a training image.

    Args:
        asked: training row and seed of each image.
        images: what the adapter drew for them.
        files: where these are written.
        real: held-out images: how near those come is the threshold.
        draw_base: draws with the base, only what the adapter repeated.
    """
    limit = copy_threshold(metric.find(real))
    near = metric.find(images)
    stats = copied(near, limit)
    adapter = bootstrap(list(stats), share, clusters=[row.id for row, _ in asked])
    over = [i for i in np.argsort([-n.similarity for n in near]) if near[i].similarity > limit]
    by_base = metric.find(draw_base([asked[i] for i in over])) if over else []
    copies = [
        Copy(
            prompt=asked[i][0].reference,
            image=files[i],
            training=train[near[i].index].path,
            similarity=near[i].similarity,
            base=of_base.similarity,
        )
        for i, of_base in zip(over, by_base, strict=True)
    ]
    alone = sum(copy.base <= limit for copy in copies)
    # Of n + 1 images of one kind, each is as likely as the others to be the nearest.
    chance = min(len(real) + 1, 100)
    note = (
        f"{len(copies)} of {len(images)} are nearer than {limit:.2f}, as new images of the brand "
        f"are 1 in {chance} times"
    )
    if copies:
        note += f"; for {alone} of them the base isn't"
        pairs = [
            f"{c.image.name} and {c.training.name} ({c.similarity:.2f}, base {c.base:.2f})"
            for c in copies
        ]
        note += ": " + "; ".join(pairs[:MOST_NAMED])
        note += "; …" if len(copies) > MOST_NAMED else ""
    measure = Measure(
        metric="copies",
        slice="training captions",
        items=len(images),
        base=UNDEFINED,
        adapter=adapter,
        difference=UNDEFINED,
        higher_is_better=False,
        note=note,
    )
    return measure, copies
