"""The images of a comparison of base and adapter, and helpers that all their measures share."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from PIL.Image import Image

from mmtune.data.rows import Row
from mmtune.image.looks.embedding import Embed, Vectors
from mmtune.metrics.bootstrap import Interval, Reduce, paired_bootstrap
from mmtune.metrics.measure import Measure
from mmtune.metrics.metric import Stat

HELD_OUT_CAPTIONS = "held-out captions"
OUTSIDE_PROMPTS = "prompts outside the subjects"


@dataclass(frozen=True)
class ComparedImages:
    """Images of the base and of the adapter for the same prompts and noise, with real images.

    Attributes:
        rows: the held-out row of each generated image; all seeds of a row stand together.
        seeds: number of images per row; they use the seeds 0, 1, …
        base, adapter: the generated images, in the order of `rows`.
        real: the brand's own image of each held-out row, one per row.
        brand: the training images.
    """

    rows: Sequence[Row]
    seeds: int
    base: Sequence[Image]
    adapter: Sequence[Image]
    real: Sequence[Image]
    brand: Sequence[Image]

    @property
    def prompts(self) -> list[str]:
        """The row id of each generated image. The bootstrap resamples whole rows."""
        return [row.id for row in self.rows]

    @property
    def prompts_of_real(self) -> list[str]:
        """The row id of each real image."""
        return self.prompts[:: self.seeds]


def format_interval(interval: Interval) -> str:
    """Write a value with its 95 % confidence interval, such as `0.38 [0.28, 0.55]`."""
    return f"{interval.value:.2f} [{interval.low:.2f}, {interval.high:.2f}]"


def memoized(embed: Embed) -> Embed:
    """Wrap an encoder so that it embeds each image object only once.

    Several metrics ask for the same images.
    """
    known: dict[int, tuple[Image, Vectors]] = {}

    def embedded(images: Sequence[Image]) -> Vectors:
        # Keep the image beside its vector, so that no later image can get the same id().
        new = list({id(i): i for i in images if id(i) not in known}.values())
        for image, vector in zip(new, embed(new) if new else (), strict=True):
            known[id(image)] = image, vector
        return np.stack([known[id(image)][1] for image in images])

    return embedded


def paired_measure(
    metric: str,
    compared: ComparedImages,
    base: Iterable[Stat],
    adapter: Iterable[Stat],
    reduce: Reduce,
    *,
    higher_is_better: bool,
    note: str,
    references: dict[str, Interval],
    test_slice: str = HELD_OUT_CAPTIONS,
) -> Measure:
    """Compare base and adapter by a paired bootstrap that resamples whole prompts.

    Args:
        base, adapter: one statistic per generated image, in the order of `compared.rows`.
        reduce: turns the statistics of a resample into the metric's value.
        test_slice: name of the slice in the report.
    """
    first, second, difference = paired_bootstrap(
        list(base), list(adapter), reduce, clusters=compared.prompts
    )
    return Measure(
        metric=metric,
        slice=test_slice,
        items=len(compared.rows),
        base=first,
        adapter=second,
        difference=difference,
        higher_is_better=higher_is_better,
        note=note,
        references=references,
    )
