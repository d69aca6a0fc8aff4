"""Trial of several ways to combine image adapters, on the test sets of their runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from mmtune.adapters.combinations import TestSet
from mmtune.adapters.routing import Router
from mmtune.image.corpus.evaluation_rows import held_out_rows
from mmtune.image.corpus.prompt import prompt_of
from mmtune.image.diffusion.base import load_base
from mmtune.image.evaluation.compare import style_encoder
from mmtune.image.evaluation.compared_images import format_interval, memoized
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
    """Measure each way's style and likeness to training images, on each test set.

    Images are generated as the test set's run generates them, with its captions, trigger, seeds
    and sampling settings. The style distance replaces the style score where the base is as near to
    the brand as the brand's own images are.

    Args:
        base: hub id, folder or starter.
        adapters: adapter folders by name.
        choices: for each way, which adapters act on a row and how strongly. It includes "base".

    Returns:
        Columns of a table by their titles; each has one cell per way, in the order of `choices`.

    Raises:
        DataError: a test set has fewer than two held-out or two training images.
    """
    device = pick_device()
    precision = test_sets[0].config.train.precision
    loaded = load_base(base, device, DTYPES[choose_precision(precision, device)])
    predictor = ImagePredictor(loaded, adapters, steps=1, guidance=1.0)
    columns: dict[str, list[str]] = {}
    for test_set in test_sets:
        columns |= _columns(test_set, choices, predictor)
    return columns


def _columns(
    test_set: TestSet, choices: Mapping[str, Router], predictor: ImagePredictor
) -> dict[str, list[str]]:
    """The two columns of one test set."""
    options = test_set.config.task
    assert isinstance(options, ImageOptions)
    as_in_run = predictor.sampling(options.steps, options.guidance, options.resolution)
    test, train = held_out_rows(test_set.dataset), test_set.dataset.split("train")
    row_seeds = [
        (row.model_copy(update={"caption": prompt_of(row, options.trigger)}), seed)
        for row in test
        for seed in range(options.seeds)
    ]
    images_by_way = {
        name: [
            prediction.value
            for prediction in as_in_run.predict(
                [Request(row, choose(row), seed) for row, seed in row_seeds]
            )
        ]
        for name, choose in choices.items()
    }
    brand = [open_image(row.path, options.background) for row in train]
    real = [open_image(row.path, options.background) for row in test]
    metric = StyleDistance(memoized(style_encoder(options, as_in_run.sampler)), brand)
    statistics = {name: metric.statistics(images) for name, images in images_by_way.items()}
    prompts = [row.id for row, _ in row_seeds]
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
    columns: dict[str, list[str]] = {}
    title = f"{test_set.name} ({len(test)} captions)"
    if all(score.measurable for score in scores):
        columns[f"style, {title}"] = [format_interval(score.score) for score in scores]
    else:
        columns[f"style distance, {title}"] = [format_interval(score.adapter) for score in scores]
    similar = NearestTraining(brand)
    columns[f"nearest training image, {test_set.name}"] = [
        format_interval(
            bootstrap(
                [np.array([near.similarity]) for near in similar.find(images)],
                similar.reduce,
                clusters=prompts,
            )
        )
        for images in images_by_way.values()
    ]
    return columns
