"""Training a LoRA on the UNet of a diffusion model, as the loop sees it."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from PIL.Image import Image
from torch import Tensor, nn

from mmtune.adapters.lora import lora_config
from mmtune.config import RunConfig
from mmtune.errors import ConfigError, DataError
from mmtune.image.base import DiffusionBase
from mmtune.image.describe import StyleDescriptor
from mmtune.image.generate import Sampler
from mmtune.image.options import ImageOptions
from mmtune.image.pixels import open_image
from mmtune.image.stages import FLIPPED, LatentStage, TextStage, text_part
from mmtune.metrics.style import StyleDistance, on_scale
from mmtune.train.draw import Draw
from mmtune.train.prefix import Features
from mmtune.train.task import Batch, Example, Loss, Monitor, ParamGroup, Part, Stage, Tensors

if TYPE_CHECKING:
    from mmtune.data.cache import PrefixCache
    from mmtune.data.check import Dataset
    from mmtune.data.rows import Row

TARGETS = ("to_q", "to_k", "to_v", "to_out.0")
ADAPTER = "default"
FIXED_EPOCH = -1  # of the draws of validation: the same noise and timesteps every time
LOSS_DRAWS = 4  # of each validation row
VALIDATION_BATCH = 16
FEW = 4  # test rows


def training_schedule(scheduler: Any) -> Any:
    """The noise schedule that a pipeline's sampler was configured for, as a DDPMScheduler.

    Samplers such as EulerDiscrete add noise in units of their own; betas, prediction type and
    zero terminal SNR are in every scheduler's config.

    Raises:
        ConfigError: a flow-matching or otherwise unknown objective.
    """
    from diffusers import DDPMScheduler

    kind = scheduler.config.get("prediction_type")
    if kind not in ("epsilon", "v_prediction", "sample"):
        raise ConfigError(
            f"the base's scheduler {type(scheduler).__name__} has prediction_type {kind!r}",
            "epsilon, v_prediction and sample can be trained: use another base",
        )
    return DDPMScheduler.from_config(scheduler.config)


class Denoiser(nn.Module):
    """The UNet with the loss of its objective.

    The objective (what the UNet predicts) is the scheduler's `prediction_type`: the noise, the
    velocity (arXiv 2202.00512) or the clean latent. With `min_snr` the timesteps are weighted as
    Min-SNR-gamma (arXiv 2303.09556, sec. 3.4) says for each of them. At the noisiest `keep_layout`
    of the timesteps the target is what the UNet predicts without its adapters.
    """

    def __init__(
        self, base: DiffusionBase, min_snr: float | None, keep_layout: float = 0.0
    ) -> None:
        super().__init__()
        self.unet = base.pipeline.unet
        self.schedule = training_schedule(base.pipeline.scheduler)
        self.kind = str(self.schedule.config.prediction_type)
        self.dtype = base.dtype
        self.min_snr = min_snr
        self.keep_layout = keep_layout

    def forward(self, batch: Batch) -> Loss:
        """Per-row squared errors, summed over the latent's elements.

        Args:
            batch: `latents` and `noise` [rows, channels, h, w], `timesteps` [rows], `embeds`
                [rows, tokens, width] and for SDXL `pooled` [rows, width] and
                `time_ids` [rows, 6].
        """
        latents: Tensor = batch["latents"]
        noise: Tensor = batch["noise"]
        timesteps: Tensor = batch["timesteps"]
        noisy = self.schedule.add_noise(latents, noise, timesteps)
        condition = None
        if "pooled" in batch:
            condition = {
                "text_embeds": batch["pooled"].to(self.dtype),
                "time_ids": batch["time_ids"].to(self.dtype),
            }
        inputs = noisy.to(self.dtype), timesteps, batch["embeds"].to(self.dtype)
        predicted = self._predict(*inputs, condition)
        target = self._target(latents, noise, timesteps)
        steps = int(self.schedule.config.num_train_timesteps)
        kept = timesteps >= steps - round(self.keep_layout * steps)
        if self.keep_layout and bool(kept.any()):  # any() waits for a GPU: not where it's off
            some = {name: values[kept] for name, values in (condition or {}).items()}
            noisy, _, embeds = (x[kept] for x in inputs)
            target = target.clone()
            target[kept] = self._without_adapters(noisy, timesteps[kept], embeds, some or None)
        errors = (predicted.float() - target).square().flatten(1)
        weights = self.snr_weights(timesteps)
        return Loss(errors.sum(1) * weights, torch.full_like(weights, errors.shape[1]))

    def _predict(
        self, noisy: Tensor, timesteps: Tensor, embeds: Tensor, condition: dict[str, Tensor] | None
    ) -> Tensor:
        predicted: Tensor = self.unet(
            noisy, timesteps, encoder_hidden_states=embeds, added_cond_kwargs=condition
        ).sample
        return predicted

    @torch.no_grad()
    def _without_adapters(
        self, noisy: Tensor, timesteps: Tensor, embeds: Tensor, condition: dict[str, Tensor] | None
    ) -> Tensor:
        self.unet.disable_adapters()
        try:
            return self._predict(noisy, timesteps, embeds, condition).float()
        finally:
            self.unet.enable_adapters()

    def _target(self, latents: Tensor, noise: Tensor, timesteps: Tensor) -> Tensor:
        if self.kind == "epsilon":
            return noise
        if self.kind == "sample":
            return latents
        velocity: Tensor = self.schedule.get_velocity(latents, noise, timesteps)
        return velocity

    def snr_weights(self, timesteps: Tensor) -> Tensor:
        """Min-SNR weight of each timestep, [rows]; ones without `min_snr`."""
        from diffusers.training_utils import compute_snr

        if self.min_snr is None:
            return torch.ones_like(timesteps, dtype=torch.float32)
        snr: Tensor = compute_snr(self.schedule, timesteps)
        clipped: Tensor = snr.clamp(max=self.min_snr)
        if self.kind == "sample":
            return clipped
        if self.kind == "v_prediction":
            return clipped / (snr + 1)
        # At zero terminal SNR the ratio's limit is 1.
        return torch.where(snr > 0, clipped / snr.clamp(min=1e-12), 1.0)


def held_out(dataset: Dataset) -> tuple[Row, ...]:
    """The rows that judge a run: the test rows, and if these are very few, validation's too.

    Raises:
        DataError: fewer than two of them, or of training rows: a style is that of several images.
    """
    train, test = dataset.split("train"), dataset.split("test")
    rows = test if len(test) >= FEW else (*test, *dataset.split("validation"))
    if len(train) < 2 or len(rows) < 2:
        raise DataError(
            f"{dataset.source}: {len(train)} images to train on and {len(rows)} held out; a style "
            "needs two or more of each",
            "add images (20 are a good start), or give --test 0.3",
        )
    return rows


class ImageTask:
    """LoRA on the UNet with stored latents and caption embeddings.

    Args:
        config: the run's; its `task` is `ImageOptions`.
        dataset: its training rows are the brand that validation measures the distance to.
        base: loaded, without adapters; the LoRA is added to its UNet.
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
        step = int(base.pipeline.vae_scale_factor) * 2 ** (
            len(base.pipeline.unet.config.block_out_channels) - 1
        )
        if self.resolution % step:
            raise ConfigError(
                f"task.resolution = {self.resolution}: this base needs a multiple of {step}",
                f"use {max(step, round(self.resolution / step) * step)}",
            )
        self.stages: Mapping[str, Stage] = {
            "latent": LatentStage(base, self.resolution, options.background),
            "text": TextStage(base),
        }
        self.features = Features(self.stages, cache)
        self.sampler = Sampler(
            base,
            self.features,
            steps=options.steps,
            guidance=options.guidance,
            resolution=self.resolution,
        )
        self._attach(config)
        self.module: nn.Module = Denoiser(base, options.min_snr, options.keep_layout)
        self.monitor = Monitor("style_distance", higher_is_better=False)
        self.base_hash = base.fingerprint
        self._brand = dataset.split("train")
        self._metric: StyleDistance | None = None
        self._scale: tuple[float, float] | None = None

    def _attach(self, config: RunConfig) -> None:
        from diffusers.training_utils import cast_training_params

        unet = self.base.pipeline.unet
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(config.train.seed)
            try:
                unet.add_adapter(lora_config(config.lora, TARGETS), adapter_name=ADAPTER)
            except ValueError as error:
                raise ConfigError(
                    f"lora.targets: {str(error).splitlines()[0]}",
                    "name modules of the UNet: " + ", ".join(TARGETS),
                ) from None
        cast_training_params(unet, dtype=torch.float32)

    def variants(self, row: Row) -> Iterable[Part]:
        """The image, mirrored too if asked for, its caption, and the empty caption."""
        yield self._latent(row, 0)
        if self.options.flip:
            yield self._latent(row, FLIPPED)
        yield text_part(row.reference)
        if self.options.caption_dropout:
            yield text_part("")

    def _latent(self, row: Row, view: int) -> Part:
        return Part("latent", row.content, view, origin=row)

    def bucket(self, row: Row) -> str:
        """All images are square and of one size."""
        return str(self.resolution)

    def choose(self, row: Row, draw: Draw) -> Example:
        """Draw the mirroring and the dropout of the caption."""
        view = FLIPPED if self.options.flip and draw.integer("flip", 2) else 0
        dropped = draw.uniform("caption dropout") < self.options.caption_dropout
        caption = "" if dropped else row.reference
        return Example(row, (self._latent(row, view), text_part(caption)))

    def collate(
        self,
        examples: Sequence[Example],
        tensors: Sequence[Mapping[str, Tensors]],
        draws: Sequence[Draw],
    ) -> Batch:
        """Latents, noise, timesteps and conditions of a batch, all drawn by row."""
        latents = [_latent(t["latent"], draw) for t, draw in zip(tensors, draws, strict=True)]
        count = int(self.base.pipeline.scheduler.config.num_train_timesteps)
        batch: Batch = {
            "latents": torch.stack(latents),
            "noise": torch.stack(
                [d.normal("noise", tuple(x.shape)) for d, x in zip(draws, latents, strict=True)]
            ),
            "timesteps": torch.tensor([draw.integer("timestep", count) for draw in draws]),
            "embeds": torch.stack([t["text"]["embeds"] for t in tensors]),
        }
        if self.base.sdxl:
            batch["pooled"] = torch.stack([t["text"]["pooled"] for t in tensors])
            batch["time_ids"] = torch.stack([t["latent"]["time_ids"] for t in tensors])
        return batch

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
        unet = self.base.pipeline.unet
        loss, samples = self._loss(rows), self._sample(chosen)
        unet.disable_lora()  # the frozen base describes, and gives the scale's zero
        try:
            metric = self._style()
            distance = metric.distance(samples)
            if self._scale is None:
                base = samples if self._untrained() else self._sample(chosen)
                self._scale = metric.distance(base), metric.distance(self._open(rows[:count]))
        finally:
            unet.enable_lora()
        values = {"style_distance": distance, "loss": loss}
        style = on_scale(distance, *self._scale)
        return values if math.isnan(style) else values | {"style": style}

    def _style(self) -> StyleDistance:
        if self._metric is None:
            describe = StyleDescriptor(self.base, self.resolution, self.features)
            self._metric = StyleDistance(describe, self._open(self._brand))
        return self._metric

    def _sample(self, chosen: Sequence[tuple[Row, int]]) -> list[Image]:
        prompts = [row.reference for row, _ in chosen]
        return self.sampler.sample(prompts, [seed for _, seed in chosen])

    def _open(self, rows: Sequence[Row]) -> list[Image]:
        return [open_image(row.path, self.options.background) for row in rows]

    def _untrained(self) -> bool:
        # LoRA begins with B = 0: the base itself.
        named = self.base.pipeline.unet.named_parameters()
        return not any(bool(p.any()) for name, p in named if "lora_B" in name)

    def _loss(self, rows: Sequence[Row]) -> float:
        total = units = 0.0
        for seed in range(LOSS_DRAWS):
            draws = [Draw(seed, FIXED_EPOCH, row.id) for row in rows]
            for start in range(0, len(rows), VALIDATION_BATCH):
                part = slice(start, start + VALIDATION_BATCH)
                examples = [
                    Example(row, (self._latent(row, 0), text_part(row.reference)))
                    for row in rows[part]
                ]
                stored = iter(self.features.get([p for e in examples for p in e.parts]))
                tensors = [{p.stage: next(stored) for p in e.parts} for e in examples]
                batch = self.collate(examples, tensors, draws[part])
                loss = self.module({k: v.to(self.base.device) for k, v in batch.items()})
                total += float(loss.total.sum())
                units += float(loss.units.sum())
        return total / units

    def save(self, folder: Path) -> None:
        """Write `pytorch_lora_weights.safetensors`, which `load_lora_weights(folder)` reads.

        The file's metadata holds rank and alpha: without it diffusers takes alpha = rank. Keys are
        peft's (`lora_A`, `lora_B`): `convert_state_dict_to_diffusers` renames those of attention
        alone, and of such a mixture `load_lora_weights` silently drops one half.
        """
        from diffusers.training_utils import _collate_lora_metadata
        from peft import get_peft_model_state_dict

        unet = self.base.pipeline.unet
        weights = get_peft_model_state_dict(unet, adapter_name=ADAPTER)
        type(self.base.pipeline).save_lora_weights(
            folder,
            unet_lora_layers={k: v.float().cpu().contiguous() for k, v in weights.items()},
            **_collate_lora_metadata({"unet": unet}),
        )

    def release(self) -> DiffusionBase:
        """The base as it was loaded, without the adapter; the task can't be used afterwards."""
        pipeline = self.base.pipeline
        pipeline.unload_lora_weights()
        pipeline.unet.requires_grad_(False).eval()
        return self.base


def _latent(stored: Tensors, draw: Draw) -> Tensor:
    """A latent, [channels, h, w]: stored as it is, or sampled anew from its posterior."""
    if "latent" in stored:
        return stored["latent"]
    return stored["mean"] + stored["std"] * draw.normal("posterior", tuple(stored["std"].shape))
