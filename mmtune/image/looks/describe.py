"""How an image looks, as numbers: statistics of the frozen base denoiser's own features."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL.Image import Image
from torch import Tensor

from mmtune.image.diffusion.objective import objective_of
from mmtune.image.diffusion.stages import LatentStage, fit, text_part

if TYPE_CHECKING:
    from mmtune.image.diffusion.base import DiffusionBase
    from mmtune.prefix.features import Features

# Of the schedule; IntroStyle found little noise best, and so did we: on the starter, 25 of 1000
# steps separate OpenMoji from six other icon sets more clearly than 100 do.
NOISE = 0.025
DESCRIBE_BATCH = 16


class StyleDescriptor:
    """Images to style vectors, after IntroStyle (arXiv 2412.14432, ICCV 2025).

    A little noise is added to an image's latent and the denoiser works on it under the empty
    caption; the mean and the standard deviation over space of each channel behind each up block of
    a UNet, or behind a few blocks of a transformer, describe the look (colour, texture, line) and
    not the place of things. No weights besides the base's are needed, and all images get the same
    noise.

    The adapter must not judge itself: adapters have to be switched off while describing.

    Args:
        batch: images at once.
    """

    def __init__(
        self, base: DiffusionBase, resolution: int, features: Features, batch: int = DESCRIBE_BATCH
    ) -> None:
        self.base = base
        self.batch = batch
        self.resolution = resolution
        self.features = features
        self._latents = LatentStage(base, resolution)
        self._objective = objective_of(base.pipeline.scheduler, base.family)

    @torch.no_grad()
    def __call__(self, images: Sequence[Image]) -> NDArray[np.float64]:
        """Style vectors, [images, 2 x channels of all those blocks]."""
        rows = [
            self._batch(images[start : start + self.batch])
            for start in range(0, len(images), self.batch)
        ]
        return np.concatenate(rows)

    def _batch(self, images: Sequence[Image]) -> NDArray[np.float64]:
        device, dtype = self.base.device, self.base.dtype
        squares = [fit(image, self.resolution)[0] for image in images]
        latents = self._latents.of_images(squares).to(device)
        generator = torch.Generator().manual_seed(0)
        noise = torch.randn(latents.shape[1:], generator=generator).to(device).expand_as(latents)
        steps = torch.full((len(images),), self._objective.at(NOISE), device=device)
        [empty] = self.features.get([text_part("")])
        side = float(self.resolution)
        ids = {"time_ids": torch.tensor([side, side, 0.0, 0.0, side, side])}
        family, count = self.base.family, len(images)
        stored = family.conditions([empty] * count, [ids] * count)
        conditions = {
            k: v.to(device, dtype) if v.is_floating_point() else v for k, v in stored.items()
        }
        noisy = self._objective.noisy(latents, noise, steps).to(dtype)
        with _outputs(family.style_blocks()) as outputs:
            family.predict(self.base.denoiser, noisy, steps, conditions)
        found = [family.image_features(out, family.tokens(latents.shape)) for out in outputs]
        parts = [f(x.float()) for x in found for f in (_mean, _std)]
        return torch.cat(parts, dim=1).cpu().numpy().astype(np.float64)


def _mean(x: Tensor) -> Tensor:
    return x.mean(_space(x))


def _std(x: Tensor) -> Tensor:
    return x.std(_space(x))


def _space(x: Tensor) -> tuple[int, ...]:
    # [rows, channels, h, w] of a UNet, [rows, tokens, channels] of a transformer
    return (2, 3) if x.ndim == 4 else (1,)


@contextmanager
def _outputs(modules: Any) -> Iterator[list[Any]]:
    found: list[Any] = []
    hooks = [m.register_forward_hook(lambda _m, _i, out: found.append(out)) for m in modules]
    try:
        yield found
    finally:
        for hook in hooks:
            hook.remove()
