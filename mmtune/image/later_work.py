"""How long the work after training takes: the pictures that it draws, at the time of one."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mmtune.config import RunConfig
from mmtune.image.corpus.evaluation_rows import held_out_rows
from mmtune.image.evaluation.prompt_measures import outside_rows
from mmtune.image.image_options import ImageOptions
from mmtune.image.image_task import ImageTask
from mmtune.image.looks.scorer_choice import choose_scorer
from mmtune.training.estimate import compared_states

if TYPE_CHECKING:
    from mmtune.data.dataset import Dataset


def later_work(
    config: RunConfig, dataset: Dataset, task: ImageTask, validations: int
) -> tuple[float, float]:
    """Seconds of the comparisons: their pictures, at the time of one in the validation."""
    options = config.task
    assert isinstance(options, ImageOptions)
    states = compared_states(config.train.scales, config.train.compare_checkpoints, validations)
    if not dataset.split("validation"):
        states = 0
    tried = states * max(options.scale_images, 2)
    compared = comparison_pictures(config, dataset)
    each = task.style_monitor.seconds_per_picture
    return tried * each, compared * each


def comparison_pictures(config: RunConfig, dataset: Dataset) -> int:
    """How many pictures the comparison draws with base and adapter."""
    options = config.task
    assert isinstance(options, ImageOptions)
    captions = len(held_out_rows(dataset))
    if choose_scorer(options.clip_model, config.base).name is not None:
        captions += len(outside_rows(options.outside_prompts, [r.reference for r in dataset.rows]))
    trained = min(options.copy_captions, len(dataset.split("train")))
    return 2 * captions * options.seeds + trained * options.copy_seeds
