"""The frozen prefix of a diffusion model: latents of images, embeddings of captions."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from PIL import ImageOps
from PIL.Image import Resampling
from torch import Tensor

from mmtune.errors import DataError
from mmtune.image.pictures.buckets import Buckets, Size
from mmtune.image.pictures.pixels import open_image, open_mask
from mmtune.prefix.stage import Part, Tensors
from mmtune.system.hashing import hash_json, hash_text

if TYPE_CHECKING:
    from PIL.Image import Image

    from mmtune.image.diffusion.base import DiffusionBase
    from mmtune.image.diffusion.families import TextFamily

FLIPPED = 1  # the view of a latent that is mirrored; view 0 is the image as it is
BLOCK = 8  # parts per call on an accelerator
PREPROCESSING = 2  # raise it when a stored value changes for the same image
READING = 2  # raise it when a stored value changes for the same caption


def text_part(caption: str, stage: str = "text") -> Part:
    """The part of a caption; all empty captions share one entry."""
    caption = caption.strip()
    return Part(stage, hash_text(caption), origin=caption)


def fit(image: Image, size: int | Size) -> tuple[Image, list[int]]:
    """Scale an image until it covers `size` and cut out the centre; never distorts.

    Args:
        image: the whole picture.
        size: side of a square, or height and width, in pixels.

    Returns:
        The cut image, and SDXL's time ids for it: original height and width, top and left of
        the cut, target height and width. A larger original counts as having the target's size:
        shrinking loses no sharpness, and the target's size is what a pipeline asks for when it
        samples. A smaller one gives its own size, so that its blur is not learned as style.
    """
    high, wide = (size, size) if isinstance(size, int) else size
    scale = max(wide / image.width, high / image.height)
    width = max(wide, round(image.width * scale))
    height = max(high, round(image.height * scale))
    left, top = (width - wide) // 2, (height - high) // 2
    resized = image.resize((width, height), Resampling.LANCZOS)
    cut = resized.crop((left, top, left + wide, top + high))
    original = [min(image.height, height), min(image.width, width)]
    if scale <= 1:
        original = [high, wide]
    return cut, [*original, top, left, high, wide]


class LatentStage:
    """Images to latents, in the denoiser's scale (what the scheduler adds noise to).

    `encode` gives `mean` and `std` of an AutoencoderKL's posterior, [channels, h, w], float32, so
    that each step may sample it anew; `latent` for an AutoencoderTiny, which has no posterior, and
    for families that are trained on its mode; `time_ids`, [6], float32; and of a row with a mask
    `mask`, [1, h, w], float32: the share of each latent's pixels that counts, cut and mirrored as
    the image is.

    Args:
        base: the pipeline.
        resolution: side in pixels of square images.
        buckets: other shapes; None: all are square.
        background: colour behind what is transparent.

    Raises:
        DataError: an image can't be read.
    """

    def __init__(
        self,
        base: DiffusionBase,
        resolution: int,
        buckets: Buckets | None = None,
        background: str = "#ffffff",
    ) -> None:
        self.base = base
        self.buckets = buckets or Buckets(resolution, base.family.multiple, many=False)
        self.background = background
        self.block = 1 if base.device.type == "cpu" else BLOCK
        self.fingerprint = hash_json(
            [
                "latent",
                PREPROCESSING,
                base.family.name,
                base.hashes["vae"],
                self.buckets.sizes,
                background,
                str(base.dtype),
            ]
        )

    def shape_key(self, part: Part) -> str:
        """The size in pixels that the image is cut to."""
        return "{}x{}".format(*self.buckets.of(part.origin.path))

    @torch.no_grad()
    def encode(self, parts: Sequence[Part]) -> list[Tensors]:
        """Latents of at most `block` images; `Part.origin` is the row."""
        cuts, ids = [], []
        for part in parts:
            path = part.origin.path
            cut, time_ids = fit(open_image(path, self.background), self.buckets.of(path))
            cuts.append(ImageOps.mirror(cut) if part.view == FLIPPED else cut)
            ids.append(torch.tensor(time_ids, dtype=torch.float32))
        count = len(cuts)
        cuts += [cuts[-1]] * (self.block - len(cuts))
        moments = {k: v.float().cpu() for k, v in self._moments(cuts).items()}
        found = [
            {k: v[i].clone() for k, v in moments.items()} | {"time_ids": ids[i]}
            for i in range(count)
        ]
        for part, values in zip(parts, found, strict=True):
            if getattr(part.origin, "mask", None) is not None:
                latent = values["latent"] if "latent" in values else values["mean"]
                values["mask"] = self._mask(part, latent.shape[-2:])
        return found

    def _mask(self, part: Part, size: torch.Size) -> Tensor:
        path, mask = part.origin.path, Path(part.origin.mask)
        cut, _ = fit(open_mask(mask), self.buckets.of(path))
        cut = ImageOps.mirror(cut) if part.view == FLIPPED else cut
        small = cut.resize((size[1], size[0]), Resampling.BOX)
        values = torch.from_numpy(np.asarray(small, dtype=np.float32) / 255)[None]
        if not bool(values.any()):
            raise DataError(
                f"{mask}: nothing of it is white where {path} is cut to "
                + "{}x{}".format(*self.buckets.of(path)),
                "cut the image yourself, train in its shape (--buckets true), or remove the mask",
            )
        return values

    @torch.no_grad()
    def of_images(self, squares: Sequence[Image]) -> Tensor:
        """Latents of images of one right size, [images, channels, h, w]; of moments, the mean."""
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
        return self.base.family.latents(encoded)


class TokenStage:
    """Captions to what a text encoder that is itself adapted reads, see `TextFamily.tokens_of`."""

    block = 1

    def __init__(self, family: TextFamily, text_hash: str) -> None:
        self.family = family
        self.fingerprint = hash_json(["tokens", family.name, text_hash])

    def shape_key(self, part: Part) -> str:
        """One kind."""
        return "tokens"

    def encode(self, parts: Sequence[Part]) -> list[Tensors]:
        """Token ids of captions; `Part.origin` is the caption."""
        return self.family.tokens_of([str(part.origin) for part in parts])


class TextStage:
    """Captions to what conditions the denoiser, by the pipeline's own `encode_prompt`.

    `encode` gives what `Family.encode_text` does: `embeds`, [tokens, width], and in some families
    `pooled`, [width]. The empty caption is the unconditional branch of guidance.
    """

    def __init__(self, base: DiffusionBase) -> None:
        self.base = base
        self.block = 1 if base.device.type == "cpu" else BLOCK
        self.fingerprint = hash_json(
            ["text", READING, base.family.name, base.hashes["text"], str(base.dtype)]
        )

    def shape_key(self, part: Part) -> str:
        """The empty caption takes another path than the others."""
        return "caption" if part.origin else "empty"

    @torch.no_grad()
    def encode(self, parts: Sequence[Part]) -> list[Tensors]:
        """Embeddings of at most `block` captions; `Part.origin` is the caption."""
        captions = [str(part.origin) for part in parts]
        captions += [captions[-1]] * (self.block - len(captions))
        encoded = self.base.family.encode_text(captions, self.base.device)
        return [{k: v.cpu().clone() for k, v in encoded[i].items()} for i in range(len(parts))]
