"""How an image looks, as numbers: statistics of the frozen base UNet's own features."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL.Image import Image
from torch import Tensor

from mmtune.image.stages import LatentStage, fit, text_part

if TYPE_CHECKING:
    from mmtune.image.base import DiffusionBase
    from mmtune.train.prefix import Features

# Of the schedule; IntroStyle found little noise best, and so did we: on the starter, 25 of 1000
# steps separate OpenMoji from six other icon sets more clearly than 100 do.
NOISE = 0.025
BATCH = 16


class StyleDescriptor:
    """Images to style vectors, after IntroStyle (arXiv 2412.14432, ICCV 2025).

    A little noise is added to an image's latent and the UNet denoises it under the empty caption;
    the mean and the standard deviation over space of each channel behind each up block describe
    the look (colour, texture, line) and not the place of things. No weights besides the base's
    are needed. All images get the same noise.

    The adapter must not judge itself: adapters have to be switched off while describing.
    """

    def __init__(self, base: DiffusionBase, resolution: int, features: Features) -> None:
        from diffusers import DDPMScheduler

        self.base = base
        self.resolution = resolution
        self.features = features
        self._latents = LatentStage(base, resolution)
        self._schedule = DDPMScheduler.from_config(base.pipeline.scheduler.config)

    @torch.no_grad()
    def __call__(self, images: Sequence[Image]) -> NDArray[np.float64]:
        """Style vectors, [images, 2 x channels of all up blocks]."""
        rows = [
            self._batch(images[start : start + BATCH]) for start in range(0, len(images), BATCH)
        ]
        return np.concatenate(rows)

    def _batch(self, images: Sequence[Image]) -> NDArray[np.float64]:
        device, dtype = self.base.device, self.base.dtype
        squares = [fit(image, self.resolution)[0] for image in images]
        latents = self._latents.of_images(squares).to(device)
        generator = torch.Generator().manual_seed(0)
        noise = torch.randn(latents.shape[1:], generator=generator).to(device).expand_as(latents)
        step = round(NOISE * int(self._schedule.config.num_train_timesteps))
        steps = torch.full((len(images),), step, device=device)
        [empty] = self.features.get([text_part("")])

        def repeated(value: Tensor) -> Tensor:
            return value.to(device, dtype).expand(len(images), *value.shape)

        condition = None
        if self.base.sdxl:
            side = float(self.resolution)
            ids = torch.tensor([side, side, 0.0, 0.0, side, side])
            condition = {"text_embeds": repeated(empty["pooled"]), "time_ids": repeated(ids)}
        unet = self.base.pipeline.unet
        with _outputs(unet.up_blocks) as found:
            unet(
                self._schedule.add_noise(latents, noise, steps).to(dtype),
                steps,
                encoder_hidden_states=repeated(empty["embeds"]),
                added_cond_kwargs=condition,
            )
        parts = [f(x.float()) for x in found for f in (_mean, _std)]
        return torch.cat(parts, dim=1).cpu().numpy().astype(np.float64)


def _mean(x: Tensor) -> Tensor:
    return x.mean((2, 3))


def _std(x: Tensor) -> Tensor:
    return x.std((2, 3))


@contextmanager
def _outputs(modules: Any) -> Iterator[list[Tensor]]:
    found: list[Tensor] = []
    hooks = [m.register_forward_hook(lambda _m, _i, out: found.append(out)) for m in modules]
    try:
        yield found
    finally:
        for hook in hooks:
            hook.remove()
