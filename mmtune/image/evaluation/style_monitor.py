"""Style of held-out captions while an adapter trains: validation and choice of the strength."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from PIL.Image import Image
from torch import nn

from mmtune.data.rows import Row
from mmtune.image.corpus.evaluation_rows import evenly_spaced
from mmtune.image.corpus.prompt import prompt_of
from mmtune.image.evaluation.strengths import TrialImages, advise, layout_kept, prompts_kept
from mmtune.image.image_options import ImageOptions
from mmtune.image.looks.describe import StyleDescriptor
from mmtune.image.looks.scorer_choice import choose_scorer
from mmtune.image.pictures.encode import save_picture
from mmtune.image.pictures.grid import draw_grid
from mmtune.image.pictures.pixels import open_image
from mmtune.image.sampling.sampler import Sampler
from mmtune.metrics.image.style import MIN_HELD_OUT, StyleDistance, style_score
from mmtune.metrics.metric import Stat
from mmtune.training.samples import MAX_SAMPLES, Sample
from mmtune.training.selection import Advice, Trial
from mmtune.training.strength import is_fresh


class StyleMonitor:
    """Generates held-out captions with the adapter in training, and measures their style.

    Args:
        sampler: samples with the base that holds the adapter.
        options: trigger, numbers of images and scorer.
        module: the trained module, whose adapter's weights tell whether training has begun.
        brand: the training rows, to which the style distance is measured.
    """

    def __init__(
        self, sampler: Sampler, options: ImageOptions, module: nn.Module, brand: Sequence[Row]
    ) -> None:
        self.sampler = sampler
        self.options = options
        self.module = module
        self.brand = brand
        self._metric: StyleDistance | None = None
        self._scale: tuple[Stat, Stat] | None = None  # of the base's and of the real images
        self.seconds_per_picture = 0.0  # of the last sampling
        self._shown: list[tuple[str, int, Image]] = []  # caption, seed, image of a validation

    def validate(self, rows: Sequence[Row]) -> Mapping[str, float]:
        """Generate `validation_images` images for held-out captions and measure their style.

        Returns:
            `style_distance`: distance of the images to the training images; `style`: the score of
            `style_score`, which is absent where that isn't measurable, as with few images.
        """
        row_seeds = _row_seeds(_by_id(rows), self.options.validation_images)
        samples = self.sample(row_seeds)
        pairs = list(zip(row_seeds, samples, strict=True))[:MAX_SAMPLES]
        self._shown = [(row.reference, seed, image) for (row, seed), image in pairs]
        prompts = [row.id for row, _ in row_seeds]
        with self._without_adapter():
            metric = self._style_metric()
            drawn = metric.statistics(samples)
            values = {"style_distance": metric.of_means(drawn.mean(0))}
            if len(set(prompts)) < MIN_HELD_OUT:
                return values
            if self._scale is None:
                base = samples if is_fresh(self.module) else self.sample(row_seeds)
                real = self._real_images([row for row, _ in row_seeds])
                self._scale = metric.statistics(base), metric.statistics(real)
            base_drawn, real_drawn = self._scale
            found = style_score(metric, base_drawn, drawn, real_drawn, prompts)
        return values | ({"style": found.score.value} if found.measurable else {})

    def samples(self) -> list[Sample]:
        """The first images of the last validation, for a tracker."""
        return [
            Sample(f"{i} {caption[:60]}", f"{caption} (seed {seed})", picture=np.asarray(image))
            for i, (caption, seed, image) in enumerate(self._shown)
        ]

    def advise(self, trials: Sequence[Trial], rows: Sequence[Row], grid: Path) -> Advice:
        """Generate held-out captions in each state of the adapter, and recommend a state.

        Args:
            trials: the states; the first is the base.
            rows: held-out rows. `scale_images` images are generated of as many different captions:
                of these rows, and of training rows where they are too few.
            grid: PNG file that gets the images, one line per state.
        """
        held_out, count = _by_id(rows), max(self.options.scale_images, 2)
        trained = evenly_spaced(_by_id(self.brand), max(count - len(held_out), 0))
        row_seeds = _row_seeds([*held_out, *trained], count)
        by_trial: dict[Trial, Sequence[Image]] = {}
        for trial in trials:
            with trial.applied(self.module):
                by_trial[trial] = self.sample(row_seeds)
        trial_images = TrialImages(
            prompts=[row.reference for row, _ in row_seeds],
            by_trial=by_trial,
            real=self._real_images([row for row, _ in row_seeds]),
            brand=self._real_images(self.brand),
            held_out=min(len(held_out), count),
        )
        kept = layout_kept(by_trial[trials[0]], trial_images.prompts)
        base = self.sampler.base
        scorer, _ = choose_scorer(self.options.clip_model, base.name).load(base.device)
        if scorer is not None:
            kept = prompts_kept(trial_images, scorer)
        with self._without_adapter():
            advice = advise(trial_images, self._style_metric(), kept, self.options.keep_content)
        grid.parent.mkdir(parents=True, exist_ok=True)
        lines = {trial.name: images for trial, images in by_trial.items()}
        save_picture(draw_grid(trial_images.prompts, lines), grid, private=True)
        return advice

    def sample(self, row_seeds: Sequence[tuple[Row, int]]) -> list[Image]:
        """Generate one image for each row and seed, with the trigger in the prompt."""
        prompts = [prompt_of(row, self.options.trigger) for row, _ in row_seeds]
        began = time.perf_counter()
        images = self.sampler.sample(prompts, [seed for _, seed in row_seeds])
        self.seconds_per_picture = (time.perf_counter() - began) / max(1, len(images))
        return images

    def _style_metric(self) -> StyleDistance:
        if self._metric is None:
            sampler = self.sampler
            describe = StyleDescriptor(
                sampler.base, sampler.resolution, sampler.features, sampler.batch
            )
            self._metric = StyleDistance(describe, self._real_images(self.brand))
        return self._metric

    @contextmanager
    def _without_adapter(self) -> Iterator[None]:
        """Switch the adapter off: the frozen base describes images and gives the scale's zero."""
        pipeline = self.sampler.base.pipeline
        pipeline.disable_lora()
        try:
            yield
        finally:
            pipeline.enable_lora()

    def _real_images(self, rows: Sequence[Row]) -> list[Image]:
        return [open_image(row.path, self.options.background) for row in rows]


def _by_id(rows: Sequence[Row]) -> list[Row]:
    return sorted(rows, key=lambda row: row.id)


def _row_seeds(rows: Sequence[Row], count: int) -> list[tuple[Row, int]]:
    """`count` pairs of row and seed: all rows with seed 0, then all with seed 1, …"""
    return [(rows[i % len(rows)], i // len(rows)) for i in range(count)]
