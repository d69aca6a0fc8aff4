"""The frozen prefix of a diffusion model: latents of images, embeddings of captions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from PIL import ImageOps
from torch import Tensor

from mmtune.hashing import hash_json, hash_text
from mmtune.image.pixels import open_image
from mmtune.train.task import Part, Tensors

if TYPE_CHECKING:
    from PIL.Image import Image

    from mmtune.image.base import DiffusionBase

FLIPPED = 1  # the view of a latent that is mirrored; view 0 is the image as it is
BLOCK = 8  # parts per call on an accelerator
PREPROCESSING = 2  # raise it when a stored value changes for the same image


def text_part(caption: str) -> Part:
    """The part of a caption; all empty captions share one entry."""
    caption = caption.strip()
    return Part("text", hash_text(caption), origin=caption)


def fit(image: Image, resolution: int) -> tuple[Image, list[int]]:
    """Scale the short side to `resolution` and cut out the centre; never distorts.

    Returns:
        The square image, and SDXL's time ids for it: original height and width, top and left of
        the cut, target height and width. A larger original counts as having the target's size:
        shrinking loses no sharpness, and the target's size is what a pipeline asks for when it
        samples. A smaller one gives its own size, so that its blur is not learned as style.
    """
    from PIL.Image import Resampling

    scale = resolution / min(image.size)
    width, height = (max(resolution, round(side * scale)) for side in image.size)
    left, top = (width - resolution) // 2, (height - resolution) // 2
    resized = image.resize((width, height), Resampling.LANCZOS)
    square = resized.crop((left, top, left + resolution, top + resolution))
    original = [min(image.height, height), min(image.width, width)]
    if scale <= 1:
        original = [resolution, resolution]
    return square, [*original, top, left, resolution, resolution]


class LatentStage:
    """Images to latents, in the UNet's scale (what the scheduler adds noise to).

    `encode` gives `mean` and `std` of an AutoencoderKL's posterior, [channels, h, w], float32, so
    that each step may sample it anew; `latent` for an AutoencoderTiny, which has no posterior; and
    `time_ids`, [6], float32.

    Raises:
        DataError: an image can't be read.
    """

    def __init__(self, base: DiffusionBase, resolution: int, background: str = "#ffffff") -> None:
        self.base = base
        self.resolution = resolution
        self.background = background
        self.block = 1 if base.device.type == "cpu" else BLOCK
        self.fingerprint = hash_json(
            ["latent", PREPROCESSING, base.hashes["vae"], resolution, background, str(base.dtype)]
        )

    def shape_key(self, part: Part) -> str:
        """All are square and of one size."""
        return str(self.resolution)

    @torch.no_grad()
    def encode(self, parts: Sequence[Part]) -> list[Tensors]:
        """Latents of at most `block` images; `Part.origin` is the row."""
        squares, ids = [], []
        for part in parts:
            square, time_ids = fit(open_image(part.origin.path, self.background), self.resolution)
            squares.append(ImageOps.mirror(square) if part.view == FLIPPED else square)
            ids.append(torch.tensor(time_ids, dtype=torch.float32))
        squares += [squares[-1]] * (self.block - len(squares))
        moments = {k: v.float().cpu() for k, v in self._moments(squares).items()}
        return [
            {k: v[i].clone() for k, v in moments.items()} | {"time_ids": ids[i]}
            for i in range(len(parts))
        ]

    @torch.no_grad()
    def of_images(self, squares: Sequence[Image]) -> Tensor:
        """Latents of images of the right size, [images, channels, h, w]; of moments, the mean."""
        moments = self._moments(squares)
        return moments.get("latent", moments.get("mean"))  # type: ignore[return-value]

    def _moments(self, squares: Sequence[Image]) -> Tensors:
        vae, processor = self.base.pipeline.vae, self.base.pipeline.image_processor
        pixels = processor.preprocess(list(squares))
        upcast = vae.dtype == torch.float16 and getattr(vae.config, "force_upcast", False)
        if upcast:
            vae.to(torch.float32)
        try:
            encoded = vae.encode(pixels.to(self.base.device, vae.dtype))
        finally:
            if upcast:
                vae.to(torch.float16)
        shift, scale = self._affine(vae.config)
        if hasattr(encoded, "latent_dist"):
            mean, std = encoded.latent_dist.mean.float(), encoded.latent_dist.std.float()
            return {"mean": (mean - shift) * scale, "std": std * scale}
        return {"latent": (encoded.latents.float() - shift) * scale}

    def _affine(self, config: Any) -> tuple[Tensor, Tensor]:
        # The inverse of what the pipelines do before they decode.
        scale = torch.tensor(float(config.scaling_factor), device=self.base.device)
        mean, std = getattr(config, "latents_mean", None), getattr(config, "latents_std", None)
        if mean is None or std is None:
            return torch.zeros((), device=self.base.device), scale
        shape = (1, -1, 1, 1)
        device = self.base.device
        return (
            torch.tensor(mean, device=device).view(shape),
            scale / torch.tensor(std, device=device).view(shape),
        )


class TextStage:
    """Captions to what conditions the UNet, by the pipeline's own `encode_prompt`.

    `encode` gives `embeds`, [tokens, width], and for SDXL `pooled`, [width]. The empty caption is
    the unconditional branch of guidance: zeros where the pipeline has
    `force_zeros_for_empty_prompt`.
    """

    def __init__(self, base: DiffusionBase) -> None:
        self.base = base
        self.block = 1 if base.device.type == "cpu" else BLOCK
        self.fingerprint = hash_json(["text", base.hashes["text"], str(base.dtype)])

    def shape_key(self, part: Part) -> str:
        """The empty caption takes another path than the others."""
        return "caption" if part.origin else "empty"

    @torch.no_grad()
    def encode(self, parts: Sequence[Part]) -> list[Tensors]:
        """Embeddings of at most `block` captions; `Part.origin` is the caption."""
        captions = [str(part.origin) for part in parts]
        captions += [captions[-1]] * (self.block - len(captions))
        empty = not captions[0]
        encoded = self.base.pipeline.encode_prompt(
            prompt=captions,
            device=self.base.device,
            num_images_per_prompt=1,
            do_classifier_free_guidance=empty,
        )
        # SD 1.x: (embeds, negative); SDXL: (embeds, negative, pooled, negative pooled).
        chosen = encoded[1::2] if empty else encoded[0::2]
        names = ("embeds", "pooled")
        return [
            {k: v[i].cpu().clone() for k, v in zip(names, chosen, strict=False)}
            for i in range(len(parts))
        ]
