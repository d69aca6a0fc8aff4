"""Choice of strength or checkpoint: style gained and content kept, on held-out captions."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from PIL.Image import Image

from mmtune.image.looks.embedding import Scorer, Vectors
from mmtune.metrics.image.clip_score import clip_scores, mean_score, recall, shuffled
from mmtune.metrics.image.copy_search import AlignedTraining
from mmtune.metrics.image.layout import kept_layout
from mmtune.metrics.image.memorization import (
    MIN_HELD_OUT,
    copied,
    copy_threshold,
    new_images,
    share,
)
from mmtune.metrics.image.style import MIN_HELD_OUT as MIN_PROMPTS
from mmtune.metrics.image.style import StyleDistance, style_score
from mmtune.training.selection import Advice, Point, Trial, recommend
from mmtune.training.task import Monitor

KeptContent = Callable[[Sequence[Image]], float]
STYLE = Monitor("style", higher_is_better=True)
DISTANCE = Monitor("style distance", higher_is_better=False)


@dataclass(frozen=True)
class TrialImages:
    """Images of several strengths or checkpoints, for the same prompts and from the same noise.

    Attributes:
        prompts: the prompt of each image of a state.
        by_trial: the images by state of the adapter; the first state is the base.
        real: the brand's own image of each prompt, in the order of `prompts`.
        brand: the training images.
        held_out: number of the first prompts that aren't captions of training images.
    """

    prompts: Sequence[str]
    by_trial: dict[Trial, Sequence[Image]]
    real: Sequence[Image]
    brand: Sequence[Image]
    held_out: int


def advise(
    trial_images: TrialImages, metric: StyleDistance, kept: KeptContent, min_kept: float
) -> Advice:
    """Measure each state of the adapter and recommend one.

    The style score decides. Where it isn't measurable, because the base is as near to the brand as
    the brand's own images are, the style distance decides. With too few prompts for a style score
    nothing is recommended but what was trained.

    Args:
        kept: gives the share of the base's content that images keep, see `layout_kept` and
            `prompts_kept`.
        min_kept: share that a recommended state must keep, from 0 to 1.
    """
    share_of_copies = _copies(trial_images)
    first = next(iter(trial_images.by_trial.values()))
    base, real = metric.statistics(first), metric.statistics(trial_images.real)
    scores = {
        trial: style_score(metric, base, metric.statistics(images), real, trial_images.prompts)
        for trial, images in trial_images.by_trial.items()
    }
    measurable = all(score.measurable for score in scores.values())
    points = []
    for trial, score in scores.items():
        images = trial_images.by_trial[trial]
        chosen = score.score if measurable else score.adapter
        content = kept(images)
        figures = {"style": score.score.value} if measurable else {}
        points.append(
            Point(
                trial.scale,
                chosen.value,
                None if math.isnan(content) else content,
                chosen.low,
                chosen.high,
                figures | {"style distance": score.adapter.value} | share_of_copies(images),
                trial.step,
            )
        )
    prompts = len(set(trial_images.prompts))
    if prompts < MIN_PROMPTS:
        reason = f"{prompts} captions are too few to compare; {MIN_PROMPTS} are needed"
        by_step = any(point.step is not None for point in points)
        return Advice(tuple(points), points[0] if by_step else points[-1], reason)
    return recommend(points, STYLE if measurable else DISTANCE, min_kept)


def _copies(trial_images: TrialImages) -> Callable[[Sequence[Image]], dict[str, float]]:
    """Make a function that gives the share of copies, if the held-out images show what is one."""
    held_out = trial_images.real[: trial_images.held_out]
    if len(held_out) < MIN_HELD_OUT:
        return lambda images: {}
    similar = AlignedTraining(trial_images.brand)
    new = new_images(held_out, similar)
    if len(new) < MIN_HELD_OUT:
        return lambda images: {}
    limit = copy_threshold(new)
    return lambda images: {"copies": share(copied(similar.find(images), limit)) or 0.0}


def layout_kept(base: Sequence[Image], prompts: Sequence[str]) -> KeptContent:
    """Make a function that gives the share of the base's layout that images keep.

    It needs no model; see `mmtune.metrics.image.layout.kept_layout`.

    Args:
        base: the base's images.
        prompts: the prompt of each.
    """
    return lambda images: kept_layout(images, base, prompts)


def prompts_kept(trial_images: TrialImages, scorer: Scorer) -> KeptContent:
    """Make a function that gives the share of the base's prompt following that images keep.

    1 means that images match their captions as well as the base's images do; 0 means that they
    match no better than the base's images match others' captions. The share is NaN if the scorer
    can't tell the captions of the base's images apart, or if there is only one caption. If the
    scorer has a `min_recall` and doesn't reach it on the real images, `layout_kept` is used.

    Args:
        scorer: CLIP score or prompt match.
    """
    prompts, base = trial_images.prompts, next(iter(trial_images.by_trial.values()))
    if len(set(prompts)) < 2:
        return lambda images: math.nan
    own = scorer.texts(prompts)
    min_recall = scorer.min_recall
    if (
        min_recall is not None
        and recall(scorer.images(trial_images.real), own, list(prompts)).share < min_recall
    ):
        return layout_kept(base, prompts)
    others = own[shuffled(prompts)]

    def score(images: Sequence[Image], captions: Vectors) -> float:
        return float(mean_score(clip_scores(scorer.images(images), captions)) or 0.0)

    one, zero = score(base, own), score(base, others)
    if one <= zero:
        return lambda images: math.nan
    return lambda images: (score(images, own) - zero) / (one - zero)
