"""Training a LoRA on the denoiser of a diffusion model, as the loop sees it."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from PIL.Image import Image
from torch import Tensor, nn

from mmtune.adapters.lora import lora_config
from mmtune.config import RunConfig
from mmtune.errors import ConfigError, first_line
from mmtune.image.corpus.held_out import evenly, held_out
from mmtune.image.corpus.prompt import caption_of
from mmtune.image.diffusion.base import DiffusionBase, lighter
from mmtune.image.diffusion.denoiser import Denoiser
from mmtune.image.diffusion.denoiser_lora import save_adapter
from mmtune.image.diffusion.families import TextFamily
from mmtune.image.diffusion.objective import objective_of
from mmtune.image.diffusion.recolour import Recolour, fit_recolour
from mmtune.image.diffusion.stages import FLIPPED, LatentStage, TextStage, TokenStage, text_part
from mmtune.image.evaluation.strengths import Tried, advise, layout_kept, prompts_kept
from mmtune.image.image_options import ImageOptions
from mmtune.image.looks.describe import StyleDescriptor
from mmtune.image.pictures.buckets import Buckets
from mmtune.image.pictures.pixels import open_image
from mmtune.image.sampling.sampler import Sampler
from mmtune.metrics.image.style import StyleDistance, on_scale
from mmtune.prefix.features import Features
from mmtune.prefix.stage import Part, Stage, Tensors
from mmtune.train.randomness import Draw
from mmtune.train.selection import Advice, Trial
from mmtune.train.task import Batch, Example, Monitor, ParamGroup

if TYPE_CHECKING:
    from mmtune.data.dataset import Dataset
    from mmtune.data.rows import Row
    from mmtune.prefix.cache import PrefixCache
    from mmtune.system.memory import Phase

TRAINED_ADAPTER = "default"
FIXED_EPOCH = -1  # of the draws of validation: the same noise and timesteps every time
LOSS_DRAWS = 4  # of each validation row
MOST_RECOLOURED = 64  # training rows that the brand's colours are read from
MOST_DRAWS = 1000  # of a timestep, until it is one of the noisiest


class ImageTask:
    """LoRA on the denoiser with stored latents and caption embeddings.

    Args:
        config: the run's; its `task` is `ImageOptions`.
        dataset: its training rows are the brand that validation measures the distance to.
        base: loaded, without adapters; the LoRA is added to its denoiser.
        cache: for the features that validation reads.

    Raises:
        ConfigError: a resolution that the base can't have, or an objective that isn't known.
        DataError: too few images to learn a style and to judge it by others.
    """

    def __init__(
        self, config: RunConfig, dataset: Dataset, base: DiffusionBase, cache: PrefixCache | None
    ) -> None:
        options = config.task
        assert isinstance(options, ImageOptions)
        # Said now, not after hours of training.
        held_out(dataset)
        self.options = options
        self.base = base
        self.resolution = options.resolution or base.resolution
        self.family = base.family
        step, largest = self.family.multiple, self.family.largest
        if self.resolution % step:
            raise ConfigError(
                f"task.resolution = {self.resolution}: this base needs a multiple of {step}",
                f"use {max(step, round(self.resolution / step) * step)}",
            )
        self.buckets = Buckets(self.resolution, step, options.buckets)
        if largest is not None and self.buckets.longest > largest:
            raise ConfigError(
                f"task.resolution = {self.resolution}: this base has no positions beyond "
                f"{largest} pixels, and the longest side is {self.buckets.longest}",
                f"use {largest} or less",
            )
        self.objective = objective_of(base.pipeline.scheduler, self.family, options)
        text = TextStage(base)
        self.stages: Mapping[str, Stage] = {
            "latent": LatentStage(base, self.resolution, self.buckets, options.background),
            "text": text,
        }
        self._captions = "text"  # the stage that training reads
        if options.text_encoder:
            tokens = TokenStage(self._text_family(), base.hashes["text"])
            self._captions = "tokens"
            self.stages = {**self.stages, "tokens": tokens}
        self.features = Features(self.stages, cache)
        # An embedding that changes from step to step is not stored.
        self._now = Features({"text": text}, None) if options.text_encoder else self.features
        self.sampler = Sampler(
            base,
            self._now,
            steps=options.steps,
            guidance=options.guidance,
            resolution=self.resolution,
            batch=options.sample_batch,
        )
        self._attach(config)
        denoiser = Denoiser(base, self.objective, options.keep_layout, options.train_guidance)
        self.module: nn.Module = denoiser
        self.monitor = Monitor("style_distance", higher_is_better=False)
        if config.train.gradient_checkpointing:
            base.denoiser.enable_gradient_checkpointing()
        self.base_hash = base.fingerprint
        self._brand = dataset.split("train")
        self._folder = config.folder
        self._metric: StyleDistance | None = None
        self._scale: tuple[float, float] | None = None
        if options.keep_layout:
            denoiser.recolour = self._recolour(denoiser)

    def _attach(self, config: RunConfig) -> None:
        from diffusers.training_utils import cast_training_params

        denoiser = self.base.denoiser
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(config.train.seed)
            try:
                with warnings.catch_warnings():
                    # Of a quantized layer peft remarks that it can't merge; nobody does.
                    warnings.filterwarnings("ignore", message=".*get_apply_tensor_subclass")
                    denoiser.add_adapter(
                        lora_config(config.lora, self.family.targets), adapter_name=TRAINED_ADAPTER
                    )
            except ValueError as error:
                raise ConfigError(
                    f"lora.targets: {first_line(error)}",
                    f"name modules of the {self.family.denoiser_name}: "
                    + ", ".join(self.family.targets),
                ) from None
            if self.options.text_encoder:
                plain = config.lora.model_copy(update={"targets": []})  # those are the denoiser's
                family = self._text_family()
                for name, encoder in family.text_encoders.items():
                    chosen = lora_config(plain, family.text_targets(name))
                    encoder.add_adapter(chosen, adapter_name=TRAINED_ADAPTER)
        cast_training_params(list(self.base.adapted.values()), dtype=torch.float32)

    def _text_family(self) -> TextFamily:
        if isinstance(self.family, TextFamily) and self.family.text_encoders:
            return self.family
        raise ConfigError(
            f"task.text_encoder: the text encoders of {self.family.name} are not adapted",
            "leave it out: the denoiser learns a look without",
        )

    def variants(self, row: Row) -> Iterable[Part]:
        """The image, mirrored too if asked for, its caption, and the empty caption."""
        yield self._latent(row, 0)
        if self.options.flip:
            yield self._latent(row, FLIPPED)
        yield self._text(row)
        if self.options.caption_dropout:
            yield text_part("", self._captions)

    def _latent(self, row: Row, view: int) -> Part:
        return Part("latent", row.content, view, origin=row)

    def _text(self, row: Row) -> Part:
        return text_part(caption_of(row, self.options.trigger), self._captions)

    def bucket(self, row: Row) -> str:
        """The size in pixels that the image is cut to: square, unless `buckets` is on."""
        return "{}x{}".format(*self.buckets.of(row.path))

    def choose(self, row: Row, draw: Draw) -> Example:
        """Draw the mirroring and the dropout of the caption."""
        view = FLIPPED if self.options.flip and draw.integer("flip", 2) else 0
        dropped = draw.uniform("caption dropout") < self.options.caption_dropout
        text = text_part("", self._captions) if dropped else self._text(row)
        return Example(row, (self._latent(row, view), text))

    def collate(
        self,
        examples: Sequence[Example],
        tensors: Sequence[Mapping[str, Tensors]],
        draws: Sequence[Draw],
    ) -> Batch:
        """Latents, noise, timesteps and conditions of a batch, all drawn by row."""
        latents = [_latent(t["latent"], draw) for t, draw in zip(tensors, draws, strict=True)]
        batch: Batch = {
            "latents": torch.stack(latents),
            "noise": torch.stack(
                [d.normal("noise", tuple(x.shape)) for d, x in zip(draws, latents, strict=True)]
            ),
            "timesteps": torch.tensor(
                [
                    self.objective.draw(d, self.family.tokens(x.shape))
                    for d, x in zip(draws, latents, strict=True)
                ]
            ),
        }
        if any("mask" in t["latent"] for t in tensors):
            batch["mask"] = torch.stack(
                [
                    t["latent"].get("mask", torch.ones(1, *x.shape[-2:]))
                    for t, x in zip(tensors, latents, strict=True)
                ]
            )
        conditions = self.family.conditions(
            [t[self._captions] for t in tensors], [t["latent"] for t in tensors]
        )
        return batch | conditions

    def param_groups(self) -> list[ParamGroup]:
        """The LoRA weights."""
        return [{"params": [p for p in self.module.parameters() if p.requires_grad]}]

    @torch.no_grad()
    def validate(self, rows: Sequence[Row]) -> dict[str, float]:
        """Sample held-out captions and measure how far they are from the brand.

        Returns:
            `style_distance`: of the samples to the training images; `style`: the same on the scale
            of the base's samples (0) and the held-out images themselves (1), absent where the two
            can't be told apart; `loss`: of `rows`, always with the same noise and timesteps.
        """
        rows = sorted(rows, key=lambda row: row.id)
        count = self.options.validation_images
        chosen = [(rows[i % len(rows)], i // len(rows)) for i in range(count)]
        pipeline = self.base.pipeline
        loss, samples = self._loss(rows), self._sample(chosen)
        pipeline.disable_lora()  # the frozen base describes, and gives the scale's zero
        try:
            metric = self._style()
            distance = metric.distance(samples)
            if self._scale is None:
                base = samples if self._untrained() else self._sample(chosen)
                self._scale = metric.distance(base), metric.distance(self._open(rows[:count]))
        finally:
            pipeline.enable_lora()
        values = {"style_distance": distance, "loss": loss}
        style = on_scale(distance, *self._scale)
        return values if math.isnan(style) else values | {"style": style}

    @torch.no_grad()
    def advise(self, trials: Sequence[Trial], rows: Sequence[Row], name: str) -> Advice:
        """Draw held-out captions in each state of the adapter, and say which to use.

        Writes what was drawn into `name`.png of the run's folder, a row for each state.
        """
        from mmtune.image.pictures.grid import draw_grid

        rows = sorted(rows, key=lambda row: row.id)
        count = max(self.options.scale_images, 2)
        chosen = [(rows[i % len(rows)], i // len(rows)) for i in range(count)]
        drawn: dict[Trial, Sequence[Image]] = {}
        for trial in trials:
            with trial.applied(self.module):
                drawn[trial] = self._sample(chosen)
        tried = Tried(
            prompts=[row.reference for row, _ in chosen],
            drawn=drawn,
            real=self._open([row for row, _ in chosen]),
            brand=self._open(self._brand),
        )
        kept = layout_kept(drawn[trials[0]], tried.prompts)
        if self.options.clip_model is not None:
            from mmtune.image.looks.backbone import load_scorer

            kept = prompts_kept(tried, load_scorer(self.options.clip_model, self.base.device))
        pipeline = self.base.pipeline
        pipeline.disable_lora()  # the frozen base describes
        try:
            advice = advise(tried, self._style(), kept, self.options.keep_content)
        finally:
            pipeline.enable_lora()
        self._folder.mkdir(parents=True, exist_ok=True)
        grid = draw_grid(tried.prompts, {trial.name: images for trial, images in drawn.items()})
        grid.save(self._folder / f"{name}.png")
        return advice

    def _style(self) -> StyleDistance:
        if self._metric is None:
            describe = StyleDescriptor(
                self.base, self.resolution, self._now, self.options.sample_batch
            )
            self._metric = StyleDistance(describe, self._open(self._brand))
        return self._metric

    def _sample(self, chosen: Sequence[tuple[Row, int]]) -> list[Image]:
        prompts = [caption_of(row, self.options.trigger) for row, _ in chosen]
        return self.sampler.sample(prompts, [seed for _, seed in chosen])

    def _open(self, rows: Sequence[Row]) -> list[Image]:
        return [open_image(row.path, self.options.background) for row in rows]

    def _untrained(self) -> bool:
        # LoRA begins with B = 0: the base itself.
        named = self.module.named_parameters()
        return not any(bool(p.any()) for name, p in named if "lora_B" in name)

    def _loss(self, rows: Sequence[Row]) -> float:
        total = units = 0.0
        for seed in range(LOSS_DRAWS):
            for chosen in self._batches(rows):
                draws = [Draw(seed, FIXED_EPOCH, row.id) for row in chosen]
                loss = self.module(self._fixed(chosen, draws))
                total += float(loss.total.sum())
                units += float(loss.units.sum())
        return total / units

    def _fixed(self, rows: Sequence[Row], draws: Sequence[Draw]) -> Batch:
        """Rows as they are, neither mirrored nor without their caption."""
        examples = [Example(row, (self._latent(row, 0), self._text(row))) for row in rows]
        stored = iter(self.features.get([p for e in examples for p in e.parts]))
        tensors = [{p.stage: next(stored) for p in e.parts} for e in examples]
        batch = self.collate(examples, tensors, draws)
        return {name: values.to(self.base.device) for name, values in batch.items()}

    def _recolour(self, denoiser: Denoiser) -> Recolour:
        """From what the base predicts at the timesteps whose layout is kept."""

        def noisy_draw(row: Row, tokens: int) -> Draw:
            for seed in range(MOST_DRAWS):
                draw = Draw(seed, FIXED_EPOCH, row.id)
                step = torch.tensor([self.objective.draw(draw, tokens)])
                if bool(self.objective.noisiest(step, self.options.keep_layout, tokens)):
                    break
            return draw

        def pairs() -> Iterator[tuple[Tensor, Tensor, Tensor | None]]:
            for rows in self._batches(evenly(self._brand, MOST_RECOLOURED)):
                [stored] = self.features.get(
                    [self._latent(rows[0], 0)]
                )  # of a batch, all are alike
                tokens = self.family.tokens(_latent(stored, Draw(0, FIXED_EPOCH, "")).shape)
                batch = self._fixed(rows, [noisy_draw(row, tokens) for row in rows])
                yield denoiser.base_clean(batch), batch["latents"], batch.get("mask")

        return fit_recolour(pairs())

    def _batches(self, rows: Sequence[Row]) -> Iterator[list[Row]]:
        groups: dict[str, list[Row]] = {}
        for row in rows:
            groups.setdefault(self.bucket(row), []).append(row)
        for group in groups.values():
            for start in range(0, len(group), self.options.sample_batch):
                yield group[start : start + self.options.sample_batch]

    def lighter(self, doing: Phase) -> list[str]:
        """Images at once, their size, and the base's number format."""
        return lighter(doing, self.base, self.options.sample_batch, self.resolution)

    def save(self, folder: Path) -> None:
        """Write `pytorch_lora_weights.safetensors`; see `save_adapter`."""
        save_adapter(self.base, TRAINED_ADAPTER, folder)

    def release(self) -> DiffusionBase:
        """The base as it was loaded, without the adapter; the task can't be used afterwards."""
        adapted = self.base.adapted
        self.base.pipeline.unload_lora_weights()
        for model in adapted.values():
            model.requires_grad_(False).eval()
        return self.base


def _latent(stored: Tensors, draw: Draw) -> Tensor:
    """A latent, [channels, h, w]: stored as it is, or sampled anew from its posterior."""
    if "latent" in stored:
        return stored["latent"]
    return stored["mean"] + stored["std"] * draw.normal("posterior", tuple(stored["std"].shape))
