"""The predictor of images: a diffusion model with its adapters, as evaluation uses it."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from PIL.Image import Image

from mmtune.image.diffusion.base import DiffusionBase, memory_hints
from mmtune.image.diffusion.denoiser_lora import active, file_digest, load_adapter
from mmtune.image.sampling.sampler import SAMPLE_BATCH, Sampler
from mmtune.predict import Prediction, Request
from mmtune.prefix.features import Features
from mmtune.system.hashing import hash_json
from mmtune.system.memory import guarded


class ImagePredictor:
    """Samples an image for each request, with the adapters that the request names.

    Implements `mmtune.predict.Predictor`.

    Args:
        base: the loaded pipeline; `adapters` are added to its denoiser.
        adapters: diffusers LoRA folders by name.
        features: gives cached caption embeddings. It isn't used if an adapter changes a text
            encoder.
        steps: denoising steps.
        guidance: guidance scale; 1 switches guidance off.
        resolution: side of the square images in pixels; None: the base's own.
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
        for name, path in adapters.items():
            load_adapter(base, path, name)
        self.files = {name: file_digest(path) for name, path in adapters.items()}
        if len(base.adapted) > 1:
            features = None  # each adapter gives captions other embeddings
        self.sampler = Sampler(
            base, features, steps=steps, guidance=guidance, resolution=resolution, batch=batch
        )
        self.fingerprint = self._hash()

    def sampling(self, steps: int, guidance: float, resolution: int | None) -> ImagePredictor:
        """Return a predictor with the same models and other sampling settings.

        Args:
            steps, guidance, resolution: as in the constructor.
        """
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
        """Sample one image for each request; the prompt is the row's caption.

        Returns:
            Predictions in the order of `requests`; each value is a PIL image.

        Raises:
            AdapterError: a request names an adapter that isn't loaded.
            OutOfMemory: sampling needs more memory; the error names settings to lower.
        """
        images: dict[int, Image] = {}
        for members in self.batches(requests):
            weights = dict(sorted(requests[members[0]].adapters.items()))
            memory = guarded(
                "sampling", lambda: memory_hints("sampling", self.base, self.sampler.batch)
            )
            with memory, active(self.base, weights, self.adapters):
                prompts = [requests[i].row.reference for i in members]
                seeds = [requests[i].seed for i in members]
                images.update(zip(members, self.sampler.sample(prompts, seeds), strict=True))
        return [
            Prediction(request.row.id, images[i], {"seed": request.seed})
            for i, request in enumerate(requests)
        ]

    def batches(self, requests: Sequence[Request]) -> list[list[int]]:
        """Group requests that use the same adapters into batches, as indices of `requests`."""
        size = self.sampler.batch
        groups: dict[tuple[tuple[str, float], ...], list[int]] = {}
        for i, request in enumerate(requests):
            groups.setdefault(tuple(sorted(request.adapters.items())), []).append(i)
        return [
            members[start : start + size]
            for members in groups.values()
            for start in range(0, len(members), size)
        ]
