"""The sampler: images from prompts and seeds, with reproducible noise."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

import torch
from PIL.Image import Image

from mmtune.errors import AdapterError, shortened
from mmtune.image.diffusion.base import DiffusionBase
from mmtune.image.diffusion.stages import TextStage, text_part
from mmtune.prefix.features import Features

SAMPLE_BATCH = 16  # images sampled at once by default


def generator_of(prompt: str, seed: int) -> torch.Generator:
    """Make an image's random generator from its prompt and seed alone (by SHA-256).

    It is on the CPU, so that a seed gives the same noise on every device.
    """
    digest = hashlib.sha256(f"{seed}|{prompt.strip()}".encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:8], "big") >> 1)


class Sampler:
    """Samples with the adapters that are active in the pipeline's denoiser.

    An image depends on its prompt and seed, the weights and the settings. The other images of its
    batch change it only by rounding, because matrices have another shape. So base and adapter are
    compared in batches of the same prompts and seeds: there the base with its adapter switched off
    equals the base bit by bit.

    Args:
        base: the pipeline.
        features: gives caption embeddings, from the cache if there is one.
        steps: denoising steps.
        guidance: guidance scale, classifier-free or distilled; 1 switches guidance off.
        resolution: side of the square images in pixels; None: the base's own.
        batch: images sampled at once.
        strict: refuse pictures that aren't finite. Otherwise they are black, as diffusers writes
            them: an adapter in training may be bad at a step, and is judged by that.
    """

    def __init__(
        self,
        base: DiffusionBase,
        features: Features | None = None,
        *,
        steps: int,
        guidance: float,
        resolution: int | None = None,
        batch: int = SAMPLE_BATCH,
        strict: bool = True,
    ) -> None:
        self.base = base
        self.features = features or Features({"text": TextStage(base)}, None)
        self.steps = steps
        self.guidance = guidance
        self.resolution = resolution or base.resolution
        self.batch = batch
        self.strict = strict

    @torch.no_grad()
    def sample(self, prompts: Sequence[str], seeds: Sequence[int]) -> list[Image]:
        """Sample one square image for each prompt with the seed beside it.

        Args:
            prompts: any number of them; trigger phrases must already be in.
            seeds: as many as prompts.

        Raises:
            AdapterError: a picture has values that are NaN or infinite.
        """
        images: list[Image] = []
        for start in range(0, len(prompts), self.batch):
            stop = start + self.batch
            images += self._batch(prompts[start:stop], seeds[start:stop])
        return images

    def _batch(self, prompts: Sequence[str], seeds: Sequence[int]) -> list[Image]:
        device = self.base.device
        stored = self.features.get([text_part(prompt) for prompt in prompts])
        empty = None
        if self.base.family.uses_empty(self.guidance):
            [empty] = self.features.get([text_part("")])
        pictures: torch.Tensor = self.base.pipeline(
            **self.base.family.sampling(stored, empty, self.guidance, device),
            height=self.resolution,
            width=self.resolution,
            num_inference_steps=self.steps,
            generator=[generator_of(p, s) for p, s in zip(prompts, seeds, strict=True)],
            output_type="pt",
        ).images
        if self.strict:
            self._require_finite(pictures, prompts, seeds)
        processor: Any = self.base.pipeline.image_processor
        return list(processor.numpy_to_pil(processor.pt_to_numpy(pictures)))

    def _require_finite(
        self, pictures: torch.Tensor, prompts: Sequence[str], seeds: Sequence[int]
    ) -> None:
        finite = torch.isfinite(pictures).flatten(1).all(dim=1).tolist()
        if all(finite):
            return
        first, bad = finite.index(False), finite.count(False)
        raise AdapterError(
            f"the picture of {shortened(prompts[first])!r} with seed {seeds[first]} has values "
            f"that are NaN or infinite, so it would be black; {bad} of {len(finite)} "
            f"pictures (guidance {self.guidance:g}, {self.steps} steps, "
            f"{str(self.base.dtype).removeprefix('torch.')})",
            "lower --scale, the adapters' weights and --guidance; for a base without an adapter "
            "give it in fp32 or bf16",
        )
