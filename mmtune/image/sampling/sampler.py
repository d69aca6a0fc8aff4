"""Drawing pictures from a base: the loop over the steps, and its random numbers."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import torch
from PIL.Image import Image

from mmtune.image.diffusion.base import DiffusionBase
from mmtune.image.diffusion.stages import TextStage, text_part
from mmtune.prefix.features import Features

SAMPLE_BATCH = 16  # images sampled at once, where nobody says otherwise


def generator_of(prompt: str, seed: int) -> torch.Generator:
    """An image's own random numbers, from its prompt and seed alone (SHA-256).

    On the CPU, so that a seed gives the same noise on every device.
    """
    digest = hashlib.sha256(f"{seed}|{prompt.strip()}".encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:8], "big") >> 1)


class Sampler:
    """Samples with whatever adapters are active in the pipeline's denoiser.

    An image depends on its prompt and seed, the weights and the settings; its batch-mates change
    it only by the rounding of another matrix shape. So base and adapter are compared in batches
    of the same make-up, where the adapter off equals the base bit by bit.

    Args:
        base: the pipeline.
        features: gives caption embeddings, from the cache if there is one.
        steps: denoising steps.
        guidance: scale of guidance, classifier-free or distilled; 1 is off.
        resolution: side in pixels; None: the base's own.
        batch: images sampled at once.
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
    ) -> None:
        self.base = base
        self.features = features or Features({"text": TextStage(base)}, None)
        self.steps = steps
        self.guidance = guidance
        self.resolution = resolution or base.resolution
        self.batch = batch

    @torch.no_grad()
    def sample(self, prompts: Sequence[str], seeds: Sequence[int]) -> list[Image]:
        """One square image for each pair of prompt and seed."""
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
        output = self.base.pipeline(
            **self.base.family.sampling(stored, empty, self.guidance, device),
            height=self.resolution,
            width=self.resolution,
            num_inference_steps=self.steps,
            generator=[generator_of(p, s) for p, s in zip(prompts, seeds, strict=True)],
        )
        return list(output.images)
