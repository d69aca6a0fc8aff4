"""Z-Image: one stream of image and text tokens, text as long as it is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

from mmtune.image.diffusion.families.family import (
    ATTENTION,
    PROBE_SIDE,
    PROBE_TOKENS,
    ExportNames,
    Family,
    Noise,
)
from mmtune.prefix.stage import Tensors

BLOCK = (
    *(f"attention.{name}" for name in ATTENTION),
    *(f"feed_forward.w{i}" for i in (1, 2, 3)),
    "adaLN_modulation.0",
)
COMFY = (  # modules that ComfyUI finds
    *(f"{at}.#.{name}" for at in ("layers", "noise_refiner", "context_refiner") for name in BLOCK),
    *("all_final_layer.2-1.linear", "all_final_layer.2-1.adaLN_modulation.1"),
    *("all_x_embedder.2-1", "cap_embedder.1", "t_embedder.mlp.0", "t_embedder.mlp.2"),
)


class ZImage(Family):
    """Z-Image (arXiv 2511.22699): Qwen3 encodes captions, each with its own number of tokens.

    Its time runs from 0 (noise) to 1, against that of other families, and its prediction has the
    opposite sign; `predict` converts both.
    """

    name = "Z-Image"
    pipeline_class = "ZImagePipeline"
    export_names = ExportNames(
        "z-image", "z-image", "transformer", comfy=COMFY, sizes={"dim": (3840,)}
    )
    posterior = False

    @property
    def resolution(self) -> int:
        """Default side in pixels; the pipeline has it in its code."""
        return 1024

    def encode_text(self, captions: Sequence[str], device: torch.device) -> list[Tensors]:
        """Encode captions as `embeds`, [tokens, width], with as many tokens as the caption has."""
        embeds, _ = self.pipeline.encode_prompt(
            prompt=list(captions), device=device, do_classifier_free_guidance=False
        )
        return [{"embeds": e} for e in embeds]

    def conditions(self, text: Sequence[Tensors], images: Sequence[Tensors]) -> Tensors:
        """Pad `embeds` to the longest, [rows, tokens, width], and keep their `lengths`, [rows]."""
        embeds = [t["embeds"] for t in text]
        return {
            "embeds": pad_sequence(embeds, batch_first=True),
            "lengths": torch.tensor([len(e) for e in embeds]),
        }

    def predict(
        self,
        model: nn.Module,
        noisy: Tensor,
        timesteps: Tensor,
        conditions: Tensors,
        guidance: float = 1.0,
    ) -> Tensor:
        """Predict the velocity, noise - latents; the padding of captions is cut off first."""
        lengths = conditions["lengths"].tolist()
        predicted = model(
            list(noisy.unsqueeze(2).unbind(0)),
            (1000 - timesteps) / 1000,
            [e[:n] for e, n in zip(conditions["embeds"], lengths, strict=True)],
            return_dict=False,
        )[0]
        return -torch.stack(list(predicted)).squeeze(2)

    def sampling(
        self,
        text: Sequence[Tensors],
        empty: Tensors | None,
        guidance: float,
        device: torch.device,
    ) -> dict[str, Any]:
        """Make the pipeline's arguments."""
        inputs: dict[str, Any] = {
            "prompt_embeds": [t["embeds"].to(device) for t in text],
            **self.guidance_inputs(guidance, self.denoiser.config),
        }
        if empty is not None:
            inputs["negative_prompt_embeds"] = [empty["embeds"].to(device)] * len(text)
        return inputs

    @classmethod
    def guidance_inputs(cls, guidance: float, denoiser: Mapping[str, Any]) -> dict[str, Any]:
        """Name the guidance; the pipeline's is off at 0, and not at 1 as elsewhere."""
        return {"guidance_scale": guidance - 1}

    def _blocks(self) -> list[nn.Module]:
        return list(self.denoiser.layers)

    def image_features(self, output: Any, tokens: int) -> Tensor:
        """Select the image's tokens, which come first."""
        features: Tensor = output[:, :tokens]
        return features

    def probe(self, noise: Noise) -> tuple[Tensor, Tensors]:
        """Make a small latent and the embeddings of a short caption."""
        config = self.denoiser.config
        conditions = {
            "embeds": noise(1, PROBE_TOKENS, int(config.cap_feat_dim)),
            "lengths": torch.tensor([PROBE_TOKENS]),
        }
        return noise(1, int(config.in_channels), PROBE_SIDE, PROBE_SIDE), conditions
