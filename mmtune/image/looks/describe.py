"""Style vectors of images: statistics of the frozen base denoiser's own features."""

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
from mmtune.image.diffusion.stages import LatentStage, scale_and_crop, text_part

if TYPE_CHECKING:
    from mmtune.image.diffusion.base import DiffusionBase
    from mmtune.prefix.features import Features

# Share of the noise schedule. IntroStyle found that little noise is best, and so did we: on the
# starter, 25 of 1000 steps separate OpenMoji from six other icon sets more clearly than 100 do.
NOISE_LEVEL = 0.025
DESCRIBE_BATCH = 16  # images described at once by default


class StyleDescriptor:
    """Describes images by style vectors, after IntroStyle (arXiv 2412.14432, ICCV 2025).

    A little noise is added to an image's latent, the same for all images, and the denoiser runs
    on it with the empty caption. The outputs of each up block of a UNet, or of a few blocks of a
    transformer, are reduced to the mean and standard deviation over space of each channel. These
    describe the look (colour, texture, line) and not where things are. No weights besides the
    base's are needed.

    Adapters must be switched off meanwhile, so that an adapter doesn't judge itself.

    Args:
        base: the pipeline.
        resolution: side in pixels of the squares that images are cut to.
        features: gives the embedding of the empty caption.
        batch: images described at once.
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
        """Compute style vectors, [images, 2 x channels of all the blocks]."""
        rows = [
            self._batch(images[start : start + self.batch])
            for start in range(0, len(images), self.batch)
        ]
        return np.concatenate(rows)

    def _batch(self, images: Sequence[Image]) -> NDArray[np.float64]:
        device, dtype = self.base.device, self.base.dtype
        squares = [scale_and_crop(image, self.resolution)[0] for image in images]
        latents = self._latents.of_images(squares).to(device)
        generator = torch.Generator().manual_seed(0)
        noise = torch.randn(latents.shape[1:], generator=generator).to(device).expand_as(latents)
        steps = torch.full((len(images),), self._objective.timestep_at(NOISE_LEVEL), device=device)
        [empty] = self.features.get([text_part("")])
        side = float(self.resolution)
        ids = {"time_ids": torch.tensor([side, side, 0.0, 0.0, side, side])}
        family, count = self.base.family, len(images)
        stored = family.conditions([empty] * count, [ids] * count)
        conditions = {
            k: v.to(device, dtype) if v.is_floating_point() else v for k, v in stored.items()
        }
        noisy = self._objective.add_noise(latents, noise, steps).to(dtype)
        with _captured_outputs(family.style_blocks()) as outputs:
            family.predict(self.base.denoiser, noisy, steps, conditions)
        found = [family.image_features(out, family.tokens(latents.shape)) for out in outputs]
        parts = [f(x.float()) for x in found for f in (_spatial_mean, _spatial_std)]
        return torch.cat(parts, dim=1).cpu().numpy().astype(np.float64)


def _spatial_mean(x: Tensor) -> Tensor:
    return x.mean(_spatial_axes(x))


def _spatial_std(x: Tensor) -> Tensor:
    return x.std(_spatial_axes(x))


def _spatial_axes(x: Tensor) -> tuple[int, ...]:
    # A UNet gives [rows, channels, h, w], a transformer [rows, tokens, channels].
    return (2, 3) if x.ndim == 4 else (1,)


@contextmanager
def _captured_outputs(modules: Any) -> Iterator[list[Any]]:
    found: list[Any] = []
    hooks = [m.register_forward_hook(lambda _m, _i, out: found.append(out)) for m in modules]
    try:
        yield found
    finally:
        for hook in hooks:
            hook.remove()
