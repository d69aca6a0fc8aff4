"""Style of held-out captions while an adapter trains: validation and choice of the strength."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from PIL.Image import Image
from torch import nn

from mmtune.data.rows import Row
from mmtune.image.corpus.prompt import prompt_of
from mmtune.image.evaluation.strengths import TrialImages, advise, layout_kept, prompts_kept
from mmtune.image.image_options import ImageOptions
from mmtune.image.looks.describe import StyleDescriptor
from mmtune.image.pictures.encode import save_picture
from mmtune.image.pictures.grid import draw_grid
from mmtune.image.pictures.pixels import open_image
from mmtune.image.sampling.sampler import Sampler
from mmtune.metrics.image.style import StyleDistance, on_scale
from mmtune.training.selection import Advice, Trial


class StyleMonitor:
    """Generates held-out captions with the adapter in training, and measures their style.

    Args:
        sampler: samples with the base that holds the adapter.
        options: trigger, numbers of images and scorer.
        module: the trained module, whose LoRA weights tell whether training has begun.
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
        self._scale: tuple[float, float] | None = None

    def validate(self, rows: Sequence[Row]) -> Mapping[str, float]:
        """Generate `validation_images` images for held-out captions and measure their style.

        Returns:
            `style_distance`: distance of the images to the training images; `style`: the same on
            the scale of the base's images (0) and the held-out images themselves (1). `style` is
            absent if these two can't be told apart.
        """
        count = self.options.validation_images
        row_seeds = _row_seeds(rows, count)
        samples = self.sample(row_seeds)
        with self._without_adapter():
            metric = self._style_metric()
            distance = metric.distance(samples)
            if self._scale is None:
                base = samples if self._is_untrained() else self.sample(row_seeds)
                real = self._real_images(_by_id(rows)[:count])
                self._scale = metric.distance(base), metric.distance(real)
        style = on_scale(distance, *self._scale)
        values = {"style_distance": distance}
        return values if math.isnan(style) else values | {"style": style}

    def advise(self, trials: Sequence[Trial], rows: Sequence[Row], grid: Path) -> Advice:
        """Generate held-out captions in each state of the adapter, and recommend a state.

        Args:
            trials: the states; the first is the base.
            rows: held-out rows, of which `scale_images` images are generated.
            grid: PNG file that gets the images, one line per state.
        """
        row_seeds = _row_seeds(rows, max(self.options.scale_images, 2))
        by_trial: dict[Trial, Sequence[Image]] = {}
        for trial in trials:
            with trial.applied(self.module):
                by_trial[trial] = self.sample(row_seeds)
        trial_images = TrialImages(
            prompts=[row.reference for row, _ in row_seeds],
            by_trial=by_trial,
            real=self._real_images([row for row, _ in row_seeds]),
            brand=self._real_images(self.brand),
        )
        kept = layout_kept(by_trial[trials[0]], trial_images.prompts)
        if self.options.clip_model is not None:
            from mmtune.image.looks.backbone import load_scorer

            scorer = load_scorer(self.options.clip_model, self.sampler.base.device)
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
        return self.sampler.sample(prompts, [seed for _, seed in row_seeds])

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

    def _is_untrained(self) -> bool:
        # LoRA starts with B = 0, where the adapted model is the base itself.
        named = self.module.named_parameters()
        return not any(bool(p.any()) for name, p in named if "lora_B" in name)

    def _real_images(self, rows: Sequence[Row]) -> list[Image]:
        return [open_image(row.path, self.options.background) for row in rows]


def _by_id(rows: Sequence[Row]) -> list[Row]:
    return sorted(rows, key=lambda row: row.id)


def _row_seeds(rows: Sequence[Row], count: int) -> list[tuple[Row, int]]:
    """`count` pairs of row and seed: all rows with seed 0, then all with seed 1, …"""
    rows = _by_id(rows)
    return [(rows[i % len(rows)], i // len(rows)) for i in range(count)]
