"""Adapters of a diffusion model merged into one folder, and settings of them tried out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from mmtune.adapters.routing import Router
from mmtune.adapters.ways import TestSet
from mmtune.image.corpus.held_out import held_out
from mmtune.image.corpus.prompt import caption_of
from mmtune.image.diffusion.base import load_base
from mmtune.image.evaluation.compare import judge_of
from mmtune.image.evaluation.measures import once, short
from mmtune.image.image_options import ImageOptions
from mmtune.image.pictures.pixels import open_image
from mmtune.image.sampling.predictor import ImagePredictor
from mmtune.metrics.bootstrap import bootstrap
from mmtune.metrics.image.nearest import NearestTraining
from mmtune.metrics.image.style import StyleDistance, style_score
from mmtune.predict import Request
from mmtune.system.precision import DTYPES, choose_precision
from mmtune.system.processes import pick_device


def try_out(
    base: str,
    adapters: Mapping[str, Path],
    choices: Mapping[str, Router],
    test_sets: Sequence[TestSet],
) -> dict[str, list[str]]:
    """Style of each setting towards each trial's brand, and likeness to its training images.

    Each is drawn as the trial's run draws: its captions, trigger, seeds and sampling. Where the
    base is as near to a brand as the brand's own images are, the distance stands for the style.

    Raises:
        DataError: a trial has fewer than two held-out or two training images.
    """
    device = pick_device()
    precision = test_sets[0].config.train.precision
    loaded = load_base(base, device, DTYPES[choose_precision(precision, device)])
    predictor = ImagePredictor(loaded, adapters, steps=1, guidance=1.0)
    columns: dict[str, list[str]] = {}
    for test_set in test_sets:
        options = test_set.config.task
        assert isinstance(options, ImageOptions)
        mine = predictor.sampling(options.steps, options.guidance, options.resolution)
        test, train = held_out(test_set.dataset), test_set.dataset.split("train")
        asked = [
            (row.model_copy(update={"caption": caption_of(row, options.trigger)}), seed)
            for row in test
            for seed in range(options.seeds)
        ]
        drawn = {
            name: [p.value for p in mine.predict([Request(r, choose(r), s) for r, s in asked])]
            for name, choose in choices.items()
        }
        brand = [open_image(row.path, options.background) for row in train]
        real = [open_image(row.path, options.background) for row in test]
        metric = StyleDistance(once(judge_of(options, mine.sampler)), brand)
        statistics = {name: metric.statistics(images) for name, images in drawn.items()}
        prompts = [row.id for row, _ in asked]
        scores = [
            style_score(
                metric,
                statistics["base"],
                each,
                np.repeat(metric.statistics(real), options.seeds, axis=0),
                prompts,
            )
            for each in statistics.values()
        ]
        on = f"{test_set.name} ({len(test)} captions)"
        if all(score.measurable for score in scores):
            columns[f"style, {on}"] = [short(score.score) for score in scores]
        else:
            columns[f"style distance, {on}"] = [short(score.adapter) for score in scores]
        similar = NearestTraining(brand)
        columns[f"nearest training image, {test_set.name}"] = [
            short(
                bootstrap(
                    [np.array([near.similarity]) for near in similar.find(images)],
                    similar.reduce,
                    clusters=prompts,
                )
            )
            for images in drawn.values()
        ]
    return columns
