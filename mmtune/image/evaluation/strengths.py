"""Which strength or checkpoint of a look to use: what each costs and buys, on held-out captions."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from PIL.Image import Image

from mmtune.metrics.image.clip_score import clip_scores, mean_score, recall, shuffled
from mmtune.metrics.image.layout import kept_layout
from mmtune.metrics.image.memorization import copied, copy_threshold, share
from mmtune.metrics.image.nearest import NearestTraining
from mmtune.metrics.image.style import StyleDistance, style_score
from mmtune.train.selection import Advice, Point, Trial, recommend
from mmtune.train.task import Monitor

if TYPE_CHECKING:
    from mmtune.image.looks.backbone import Scorer

Vectors = NDArray[np.float64]
KeptContent = Callable[[Sequence[Image]], float]
STYLE = Monitor("style", higher_is_better=True)
DISTANCE = Monitor("style distance", higher_is_better=False)


@dataclass(frozen=True)
class Tried:
    """The images of a comparison of strengths or checkpoints.

    Attributes:
        prompts: of each image drawn.
        drawn: by the adapter's state, from the same noise; the first is the base.
        real: the brand's own image of each prompt, in their order.
        brand: the training images.
    """

    prompts: Sequence[str]
    drawn: dict[Trial, Sequence[Image]]
    real: Sequence[Image]
    brand: Sequence[Image]


def advise(tried: Tried, metric: StyleDistance, kept: KeptContent, least: float) -> Advice:
    """The figures of each state, and the one to use.

    Where the base is as near to the brand as the brand's own images are, there is no style score:
    then the distance decides.

    Args:
        kept: the share of the base's content that images keep, see `layout_kept`, `prompts_kept`.
        least: of that, which a recommended state must keep.
    """
    similar = NearestTraining(tried.brand)
    limit = copy_threshold(similar.find(tried.real))
    first = next(iter(tried.drawn.values()))
    base, real = metric.statistics(first), metric.statistics(tried.real)
    scores = {
        trial: style_score(metric, base, metric.statistics(images), real, tried.prompts)
        for trial, images in tried.drawn.items()
    }
    measurable = all(score.measurable for score in scores.values())
    points = []
    for trial, score in scores.items():
        images = tried.drawn[trial]
        chosen = score.score if measurable else score.adapter
        content = kept(images)
        copies = share(copied(similar.find(images), limit)) or 0.0
        figures = {"style": score.score.value} if measurable else {}
        points.append(
            Point(
                trial.scale,
                chosen.value,
                None if math.isnan(content) else content,
                chosen.low,
                chosen.high,
                figures | {"style distance": score.adapter.value, "copies": copies},
                trial.step,
            )
        )
    return recommend(points, STYLE if measurable else DISTANCE, least)


def layout_kept(base: Sequence[Image], prompts: Sequence[str]) -> KeptContent:
    """Needs no model; see `kept_layout`."""
    return lambda images: kept_layout(images, base, prompts)


def prompts_kept(tried: Tried, scorer: Scorer) -> KeptContent:
    """By CLIP score or prompt match: 1 as the base matches its captions, 0 as it matches others'.

    nan where the scorer can't tell the captions of the base's images apart, or there is only one. A
    scorer that must find the real images' captions first, and doesn't, leaves it to `layout_kept`.
    """
    prompts, base = tried.prompts, next(iter(tried.drawn.values()))
    if len(set(prompts)) < 2:
        return lambda images: math.nan
    own = scorer.texts(prompts)
    must_find = scorer.least_recall
    if (
        must_find is not None
        and recall(scorer.images(tried.real), own, list(prompts)).share < must_find
    ):
        return layout_kept(base, prompts)
    others = own[shuffled(prompts)]

    def score(images: Sequence[Image], captions: Vectors) -> float:
        return float(mean_score(clip_scores(scorer.images(images), captions)) or 0.0)

    one, zero = score(base, own), score(base, others)
    if one <= zero:
        return lambda images: math.nan
    return lambda images: (score(images, own) - zero) / (one - zero)
