"""A diffusion model with its adapters, as evaluation and commands ask it."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from PIL.Image import Image

from mmtune.image.diffusion.base import DiffusionBase, lighter
from mmtune.image.diffusion.denoiser_lora import active, load_adapter
from mmtune.image.sampling.sampler import SAMPLE_BATCH, Sampler
from mmtune.predict import Prediction, Request
from mmtune.prefix.features import Features
from mmtune.system.hashing import hash_file, hash_json
from mmtune.system.memory import guarded


class ImagePredictor:
    """A base with its adapters: images for requests.

    Args:
        base: the loaded pipeline; `adapters` are added to its denoiser.
        adapters: diffusers LoRA folders by name.
        features: shares cached caption embeddings, unless an adapter changes a text encoder.
        batch: images sampled at once.

    Raises:
        AdapterError: an adapter's file is missing, doesn't match the base, or changes nothing.
    """

    def __init__(
        self,
        base: DiffusionBase,
        adapters: Mapping[str, Path],
        features: Features | None = None,
        *,
        steps: int,
        guidance: float,
        resolution: int | None = None,
        batch: int = SAMPLE_BATCH,
    ) -> None:
        self.base = base
        self.adapters = dict(adapters)
        self.files = {n: hash_file(load_adapter(base, path, n)) for n, path in adapters.items()}
        if len(base.adapted) > 1:
            features = None  # captions mean something else with each adapter
        self.sampler = Sampler(
            base, features, steps=steps, guidance=guidance, resolution=resolution, batch=batch
        )
        self.fingerprint = self._hash()

    def sampling(self, steps: int, guidance: float, resolution: int | None) -> ImagePredictor:
        """The same models sampled otherwise."""
        other = copy.copy(self)
        other.sampler = Sampler(
            self.base,
            self.sampler.features,
            steps=steps,
            guidance=guidance,
            resolution=resolution,
            batch=self.sampler.batch,
        )
        other.fingerprint = other._hash()
        return other

    def _hash(self) -> str:
        base, sampler = self.base, self.sampler
        facts: list[Any] = [base.fingerprint, str(base.dtype), self.files]
        facts += [sampler.steps, sampler.guidance, sampler.resolution]
        if base.quantized != "none":
            facts.append(base.quantized)
        return hash_json(facts)

    def predict(self, requests: Sequence[Request]) -> list[Prediction]:
        """One image for each request, in order; the prompt is the row's caption.

        Raises:
            OutOfMemory: as it says.
        """
        images: dict[int, Image] = {}
        for members in self.batches(requests):
            weights = dict(sorted(requests[members[0]].adapters.items()))
            memory = guarded("sampling", lambda: lighter("sampling", self.base, self.sampler.batch))
            with memory, active(self.base, weights, self.adapters):
                prompts = [requests[i].row.reference for i in members]
                seeds = [requests[i].seed for i in members]
                images.update(zip(members, self.sampler.sample(prompts, seeds), strict=True))
        return [
            Prediction(request.row.id, images[i], {"seed": request.seed})
            for i, request in enumerate(requests)
        ]

    def batches(self, requests: Sequence[Request]) -> list[list[int]]:
        """As many requests for the same adapters as are sampled at once."""
        size = self.sampler.batch
        groups: dict[tuple[tuple[str, float], ...], list[int]] = {}
        for i, request in enumerate(requests):
            groups.setdefault(tuple(sorted(request.adapters.items())), []).append(i)
        return [
            members[start : start + size]
            for members in groups.values()
            for start in range(0, len(members), size)
        ]
