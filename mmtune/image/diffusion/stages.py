"""The frozen encoders of a diffusion model: images to latents, captions to embeddings."""

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

FLIPPED = 1  # view number of a mirrored image; view 0 is the image as it is
ENCODE_BATCH = 8  # images or captions per call on an accelerator
LATENT_VERSION = 2  # bump it when cached values change for the same image
MAX_SCALED = 4  # a scaled image may have so many times the pixels of its cut
TEXT_VERSION = 2  # bump it when cached values change for the same caption


def text_part(caption: str, stage: str = "text") -> Part:
    """Make the part of a caption; all empty captions share one cache entry."""
    caption = caption.strip()
    return Part(stage, hash_text(caption), origin=caption)


def scale_and_crop(image: Image, size: int | Size) -> tuple[Image, list[int]]:
    """Scale an image until it covers `size`, and cut out the centre; the aspect ratio is kept.

    Args:
        image: the whole image.
        size: side of a square, or height and width, in pixels.

    Returns:
        The cut image, and SDXL's time ids (arXiv 2307.01952, sec. 2.2): original height and width,
        top and left of the cut, target height and width. An original that is larger than the
        target counts as large as the target, because shrinking loses no sharpness and a pipeline
        asks for the target's size in sampling. A smaller original has its own size, so that its
        blur isn't learned as style.
    """
    high, wide = (size, size) if isinstance(size, int) else size
    scale = max(wide / image.width, high / image.height)
    width = max(wide, round(image.width * scale))
    height = max(high, round(image.height * scale))
    left, top = (width - wide) // 2, (height - high) // 2
    if width * height <= MAX_SCALED * wide * high:
        resized = image.resize((width, height), Resampling.LANCZOS)
        cut = resized.crop((left, top, left + wide, top + high))
    else:  # a strip: only what is kept is scaled, for the whole would take gigabytes
        across, down = image.width / width, image.height / height
        box = (left * across, top * down, (left + wide) * across, (top + high) * down)
        cut = image.resize((wide, high), Resampling.LANCZOS, box=box)
    original = [min(image.height, height), min(image.width, width)]
    if scale <= 1:
        original = [high, wide]
    return cut, [*original, top, left, high, wide]


class LatentStage:
    """Encodes images as latents, in the scale in which the scheduler adds noise.

    Implements `mmtune.prefix.stage.Stage`. `encode` gives, in float32:

    - `mean` and `std` of an AutoencoderKL's posterior, [channels, h, w], so that each step may
      sample it anew; or `latent`, [channels, h, w], for an AutoencoderTiny, which has no
      posterior, and for families that are trained on its mode;
    - `time_ids`, [6], see `scale_and_crop`;
    - `mask`, [1, h, w], for rows with a mask: the share of the pixels behind each latent position
      that is trained on, cut and mirrored as the image is.

    Args:
        base: the pipeline.
        resolution: side in pixels of square images.
        buckets: sizes of other shapes; None: all images are square.
        background: colour behind transparent parts.
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
        self.block = 1 if base.device.type == "cpu" else ENCODE_BATCH
        self.fingerprint = hash_json(
            [
                "latent",
                LATENT_VERSION,
                base.family.name,
                base.hashes["vae"],
                self.buckets.sizes,
                background,
                str(base.dtype),
            ]
        )

    def shape_key(self, part: Part) -> str:
        """Name the size in pixels that the image is cut to, such as "512x768"."""
        return "{}x{}".format(*self.buckets.of(part.origin.path))

    @torch.no_grad()
    def encode(self, parts: Sequence[Part]) -> list[Tensors]:
        """Encode at most `block` images of one size; `Part.origin` is the row.

        Raises:
            DataError: an image or mask can't be read, or the cut leaves nothing of a mask.
        """
        cuts, ids = [], []
        for part in parts:
            path = part.origin.path
            cut, time_ids = scale_and_crop(open_image(path, self.background), self.buckets.of(path))
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
        cut, _ = scale_and_crop(open_mask(mask), self.buckets.of(path))
        cut = ImageOps.mirror(cut) if part.view == FLIPPED else cut
        small = cut.resize((size[1], size[0]), Resampling.BOX)
        values = torch.from_numpy(np.asarray(small, dtype=np.float32) / 255)[None]
        if not bool(values.any()):
            raise DataError(
                f"{mask}: no white part is left after {path} is cut to "
                + "{}x{}".format(*self.buckets.of(path)),
                "crop the image yourself, train in its own shape (--buckets true), or remove the "
                "mask",
            )
        return values

    @torch.no_grad()
    def of_images(self, squares: Sequence[Image]) -> Tensor:
        """Encode images that are cut already; of a posterior, the mean is returned.

        Args:
            squares: images of one size that the base can encode.

        Returns:
            [images, channels, h, w], float32.
        """
        moments = self._moments(squares)
        return moments.get("latent", moments.get("mean"))  # type: ignore[return-value]

    def _moments(self, squares: Sequence[Image]) -> Tensors:
        vae, processor = self.base.pipeline.vae, self.base.pipeline.image_processor
        pixels = processor.preprocess(list(squares))
        upcast = vae.dtype == torch.float16 and getattr(vae.config, "force_upcast", False)
        if upcast:
            vae.to(torch.float32)
        try:
            encoded = self.base.family.encode_image(pixels.to(self.base.device, vae.dtype))
        finally:
            if upcast:
                vae.to(torch.float16)
        return self.base.family.latents(encoded)


class TokenStage:
    """Tokenizes captions for text encoders that are trained too, see `TextFamily.tokens_of`.

    Implements `mmtune.prefix.stage.Stage`.
    """

    block = 1

    def __init__(self, family: TextFamily, text_hash: str) -> None:
        self.family = family
        self.fingerprint = hash_json(["tokens", family.name, text_hash])

    def shape_key(self, part: Part) -> str:
        """Return the same key for all captions."""
        return "tokens"

    def encode(self, parts: Sequence[Part]) -> list[Tensors]:
        """Tokenize captions; `Part.origin` is the caption."""
        return self.family.tokens_of([str(part.origin) for part in parts])


class TextStage:
    """Encodes captions as embeddings, by the pipeline's own `encode_prompt`.

    Implements `mmtune.prefix.stage.Stage`. `encode` gives what `Family.encode_text` gives:
    `embeds`, [tokens, width], and in some families `pooled`, [width]. The empty caption is the
    unconditional branch of guidance.
    """

    def __init__(self, base: DiffusionBase) -> None:
        self.base = base
        self.block = 1 if base.device.type == "cpu" else ENCODE_BATCH
        self.fingerprint = hash_json(
            ["text", TEXT_VERSION, base.family.name, base.hashes["text"], str(base.dtype)]
        )

    def shape_key(self, part: Part) -> str:
        """Separate the empty caption, which `encode_text` treats in another way."""
        return "caption" if part.origin else "empty"

    @torch.no_grad()
    def encode(self, parts: Sequence[Part]) -> list[Tensors]:
        """Encode at most `block` captions; `Part.origin` is the caption."""
        captions = [str(part.origin) for part in parts]
        captions += [captions[-1]] * (self.block - len(captions))
        encoded = self.base.family.encode_text(captions, self.base.device)
        return [{k: v.cpu().clone() for k, v in encoded[i].items()} for i in range(len(parts))]
