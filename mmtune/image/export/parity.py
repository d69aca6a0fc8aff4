"""Proof that a written adapter equals its source: comparison of layers and of an image."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL.Image import Image
from torch import Tensor

from mmtune.errors import AdapterError
from mmtune.image.diffusion.base import DiffusionBase
from mmtune.image.diffusion.denoiser_lora import active
from mmtune.image.sampling.sampler import Sampler

SOURCE, EXPORTED = "source", "exported"
PROMPT, SEED, STEPS = "a red apple on a table", 0, 4
LATENTS = 64  # at most, along the picture's side: 512 pixels of most autoencoders
LEVELS = 1  # of 255, that pictures may differ by: one rounding
ROUNDING = 1e-5  # relative to a layer's largest change, in fp32


def unproved(path: Path, found: str) -> AdapterError:
    """Make the error for an export that differs from the adapter.

    Args:
        path: the file or folder, which isn't kept.
        found: the difference.
    """
    return AdapterError(
        f"{path.name} was not kept, because it isn't the same adapter: {found}",
        "use the adapter's own folder, which diffusers reads, and report this with its card.json",
    )


class Picture:
    """Samples one image with a fixed prompt, seed and a few steps, and compares two of them.

    Args:
        base: holds the adapters.
        precision: the base's. In fp32 every pixel must be equal within one level of 255. In half
            precision the two ways to add the same change round differently, so only the mean
            difference must be within one level.
    """

    def __init__(self, base: DiffusionBase, precision: str) -> None:
        self.precision = precision
        self.base = base
        step = base.family.multiple
        most = min(base.resolution, LATENTS * int(base.pipeline.vae_scale_factor))
        self.side = max(step, most // step * step)

    def draw(self, weights: Mapping[str, float], base: DiffusionBase | None = None) -> Image:
        """Sample the image with these adapters, on `base` or on the picture's own base."""
        base = base or self.base
        sampler = Sampler(base, steps=STEPS, guidance=1.0, resolution=self.side)
        with active(base, weights, getattr(base.denoiser, "peft_config", {})):
            [image] = sampler.sample([PROMPT], [SEED])
        return image

    def compare(self, before: Image, after: Image, path: Path) -> dict[str, int | float]:
        """Compare the images of the source and of the export.

        Returns:
            The largest difference of a pixel's channel, in levels of 255.

        Raises:
            AdapterError: the images differ.
        """
        gap = np.abs(np.asarray(before, np.int16) - np.asarray(after, np.int16))
        most, mean = int(gap.max()), float(gap.mean())
        if (most if self.precision == "fp32" else mean) > LEVELS:
            raise unproved(path, f"the same prompt and seed differ by up to {most} of 255")
        return {"largest difference of a pixel": most}


@torch.no_grad()
def same_layers(base: DiffusionBase, scale: float, path: Path) -> int:
    """Compare how the adapters `SOURCE` and `EXPORTED` change each layer's weights.

    Args:
        base: holds both adapters.
        scale: strength of the source; the export has it in its weights.
        path: the export, for errors.

    Returns:
        The number of layers.

    Raises:
        AdapterError: only one of them changes a layer, or their changes differ.
    """
    count, both = 0, {SOURCE: scale, EXPORTED: 1.0}
    with active(base, both, both):
        for name, layer in adapted_layers(base):
            has = [each for each in both if each in layer.scaling]
            if has == [EXPORTED] and not bool(layer.get_delta_weight(EXPORTED).any()):
                continue  # written for a loader's sake, see `kohya`
            if len(has) != 2:
                raise unproved(path, f"only the {' and '.join(has)} adapter changes {name}")
            wanted, found = (layer.get_delta_weight(each) for each in has)
            same_change(wanted, found, name, path)
            vectors = layer.lora_magnitude_vector  # the formats that are compared hold LoRA alone
            with_dora = [vectors[each].weight for each in has if each in vectors]
            if len(with_dora) == 1 or (with_dora and not torch.equal(*with_dora)):
                raise unproved(path, f"{name} has other magnitudes")
            count += 1
    return count


def adapted_layers(base: DiffusionBase) -> Iterator[tuple[str, Any]]:
    """List peft's layers of all adapted parts, with their names in the pipeline."""
    from peft.tuners.tuners_utils import BaseTunerLayer

    for part, model in base.adapted.items():
        for name, layer in model.named_modules():
            if isinstance(layer, BaseTunerLayer):
                yield f"{part}.{name}", layer


def same_change(wanted: Tensor, found: Tensor, name: str, path: Path) -> None:
    """Require that two changes of one weight are equal up to rounding.

    Raises:
        AdapterError: they differ by more than `ROUNDING` of the largest change, or hold NaN.
    """
    wanted, found = wanted.float(), found.float()
    gap, size = float((wanted - found).abs().max()), float(wanted.abs().max())
    if not gap <= ROUNDING * size:  # also where one of them is not a number
        raise unproved(path, f"the change of {name} is off by {gap:.3g}, the largest is {size:.3g}")
