"""The trained module: the denoiser with the loss of its training objective."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from mmtune.image.diffusion.base import DiffusionBase
from mmtune.image.diffusion.families import TextFamily
from mmtune.image.diffusion.objective import Objective
from mmtune.prefix.stage import Tensors
from mmtune.training.task import Batch, Loss

LOSS_KEYS = ("latents", "noise", "timesteps", "mask")  # all else of a batch is conditions


class Denoiser(nn.Module):
    """Computes the training loss of the UNet or transformer.

    At the noisiest timesteps, a share of `keep_layout`, the target is the prediction of the
    denoiser without its adapters.

    Args:
        base: holds the denoiser that is trained.
        objective: gives noisy latents, target and weights.
        keep_layout: share of the noise schedule, from 0 to 1.
        guidance: guidance scale that a guidance-distilled denoiser gets as input in training.
    """

    def __init__(
        self,
        base: DiffusionBase,
        objective: Objective,
        keep_layout: float = 0.0,
        guidance: float = 1.0,
    ) -> None:
        super().__init__()
        self.family = base.family
        # Its name is the prefix of the trained weights' names.
        self.add_module(base.family.denoiser_name, base.denoiser)
        # Text encoders that train too run inside this module, so that DDP synchronises them.
        self._text = [n for n in base.adapted if n != base.family.denoiser_name]
        for name in self._text:
            self.add_module(name, base.adapted[name])
        self.pipeline = base.pipeline
        self.objective = objective
        self.dtype = base.dtype
        self.keep_layout = keep_layout
        self.guidance = guidance

    def forward(self, batch: Batch) -> Loss:
        """Compute each row's squared error, summed over the latent's elements.

        Args:
            batch: `latents` and `noise`, [rows, channels, h, w]; `timesteps`, [rows]; what
                `Family.conditions` made from embeddings, or from tokens if text encoders train;
                and, if rows have masks, `mask`, [rows, 1, h, w]. A mask multiplies the errors, and
                its sum is the number of elements that the row counts for.
        """
        latents: Tensor = batch["latents"]
        noise: Tensor = batch["noise"]
        timesteps: Tensor = batch["timesteps"]
        noisy = self.objective.add_noise(latents, noise, timesteps).to(self.dtype)
        conditions = self._conditions(batch)
        predicted = self._predict(noisy, timesteps, self._embedded(conditions))
        target = self.objective.target(latents, noise, timesteps)
        if self.keep_layout:
            tokens = self.family.tokens(latents.shape)
            kept = self.objective.is_noisiest(timesteps, self.keep_layout, tokens)
            if bool(kept.any()):  # any() waits for the GPU, so it is only called when needed
                some = {name: values[kept] for name, values in conditions.items()}
                target = target.clone()
                target[kept] = self._without_adapters(noisy[kept], timesteps[kept], some)
        errors = (predicted.float() - target).square()
        weights = self.objective.loss_weights(timesteps)
        if "mask" not in batch:
            return Loss(
                errors.flatten(1).sum(1) * weights, torch.full_like(weights, errors[0].numel())
            )
        mask = batch["mask"].expand_as(errors)
        return Loss((errors * mask).flatten(1).sum(1) * weights, mask.flatten(1).sum(1))

    def _conditions(self, batch: Batch) -> Tensors:
        return {
            name: value.to(self.dtype) if value.is_floating_point() else value
            for name, value in batch.items()
            if name not in LOSS_KEYS
        }

    def _embedded(self, conditions: Tensors) -> Tensors:
        if not self._text:
            return conditions
        assert isinstance(self.family, TextFamily)
        names = ("zeros", *self.family.text_encoders)
        models = {name: self.get_submodule(name) for name in self.family.text_encoders}
        rest = {name: value for name, value in conditions.items() if name not in names}
        embedded = self.family.embed(models, conditions)
        return rest | {name: value.to(self.dtype) for name, value in embedded.items()}

    @property
    def _model(self) -> nn.Module:
        return self.get_submodule(self.family.denoiser_name)

    def _predict(self, noisy: Tensor, timesteps: Tensor, conditions: Tensors) -> Tensor:
        return self.family.predict(self._model, noisy, timesteps, conditions, self.guidance)

    @torch.no_grad()
    def _without_adapters(self, noisy: Tensor, timesteps: Tensor, conditions: Tensors) -> Tensor:
        self.pipeline.disable_lora()
        try:
            return self._predict(noisy, timesteps, self._embedded(conditions)).float()
        finally:
            self.pipeline.enable_lora()
