"""Adapters of a diffusion model merged into one folder, and settings of them tried out."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from mmtune.adapters.members import Merge
from mmtune.adapters.merge import MERGED, distance, merge_layers
from mmtune.adapters.routing import Choose
from mmtune.adapters.ways import Trial
from mmtune.image.corpus.prompt import caption_of
from mmtune.image.diffusion.base import load_base, pick_device
from mmtune.image.evaluation.compare import judge_of
from mmtune.image.evaluation.measures import once, short
from mmtune.image.image_options import ImageOptions
from mmtune.image.image_task import held_out
from mmtune.image.pictures.pixels import open_image
from mmtune.image.sampling.generate import ImagePredictor, load_adapter, save_adapter
from mmtune.metrics.bootstrap import bootstrap
from mmtune.metrics.image.nearest import NearestTraining
from mmtune.metrics.image.style import StyleDistance, style_score
from mmtune.predict import Request
from mmtune.system.precision import DTYPES
from mmtune.system.precision import choose as choose_dtype

SCRATCH, AGAIN = "scratch", "again"


def merge(request: Merge) -> float:
    """Write a diffusers LoRA of the merged adapters, in fp32; returns its `distance` as read back.

    The denoiser's layers are merged, and each adapted text encoder's.

    Raises:
        AdapterError: a part doesn't load on the base, or the parts can't be merged.
    """
    base = load_base(request.base, pick_device(), torch.float32)
    parts = {f"part{i}": part for i, part in enumerate(request.parts)}
    for name, part in parts.items():
        load_adapter(base, part.folder, name)
    held = {
        component: {name: part for name, part in parts.items() if name in model.peft_config}
        for component, model in base.adapted.items()
    }
    for component, model in base.adapted.items():
        tuner = _tuner(model, next(iter(held[component])))
        merge_layers(tuner, held[component], request.mixing)
        tuner.delete_adapter(SCRATCH)
    save_adapter(base, MERGED, request.to)
    load_adapter(base, request.to, AGAIN)
    return distance(base.adapted.values(), AGAIN, parts)


def try_out(
    base: str, adapters: Mapping[str, Path], settings: Mapping[str, Choose], trials: Sequence[Trial]
) -> dict[str, list[str]]:
    """Style of each setting towards each trial's brand, and likeness to its training images.

    Each is drawn as the trial's run draws: its captions, trigger, seeds and sampling. Where the
    base is as near to a brand as the brand's own images are, the distance stands for the style.

    Raises:
        DataError: a trial has fewer than two held-out or two training images.
    """
    device = pick_device()
    precision = trials[0].config.train.precision
    loaded = load_base(base, device, DTYPES[choose_dtype(precision, device)])
    predictor = ImagePredictor(loaded, adapters, steps=1, guidance=1.0)
    columns: dict[str, list[str]] = {}
    for trial in trials:
        options = trial.config.task
        assert isinstance(options, ImageOptions)
        mine = predictor.sampling(options.steps, options.guidance, options.resolution)
        test, train = held_out(trial.dataset), trial.dataset.split("train")
        asked = [
            (row.model_copy(update={"caption": caption_of(row, options.trigger)}), seed)
            for row in test
            for seed in range(options.seeds)
        ]
        drawn = {
            name: [p.value for p in mine.predict([Request(r, choose(r), s) for r, s in asked])]
            for name, choose in settings.items()
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
        on = f"{trial.name} ({len(test)} captions)"
        if all(score.measurable for score in scores):
            columns[f"style, {on}"] = [short(score.score) for score in scores]
        else:
            columns[f"style distance, {on}"] = [short(score.adapter) for score in scores]
        similar = NearestTraining(brand)
        columns[f"nearest training image, {trial.name}"] = [
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


def _tuner(model: Any, name: str) -> Any:
    """A `LoraModel` around layers that diffusers has filled: it keeps none itself.

    It is made by adding an adapter that is thrown away, which is how PEFT joins a model that has
    adapters already.
    """
    from copy import deepcopy

    from peft import LoraModel

    config = deepcopy(model.peft_config[name])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that there are adapters already is the point
        return LoraModel(model, config, SCRATCH)
