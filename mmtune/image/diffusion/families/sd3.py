"""Stable Diffusion 3 and 3.5 (arXiv 2403.03206)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from mmtune.image.diffusion.families.comfy import TWO_STREAMS
from mmtune.image.diffusion.families.family import JOINT_ATTENTION, ExportNames, Family
from mmtune.image.diffusion.families.repeated import RepeatedToken
from mmtune.prefix.stage import Tensors

T5_TOKENS = 256  # the pipeline's default, in sampling too


class StableDiffusion3(Family):
    """A transformer with joint attention; two CLIP encoders and T5.

    If the pipeline has no T5 (`text_encoder_3` is null), diffusers puts 256 tokens of zeros in its
    place, which take part in the attention. Here one token stands for all of them, in training and
    in sampling; see `RepeatedToken`.
    """

    name = "Stable Diffusion 3/3.5"
    pipeline_class = "StableDiffusion3Pipeline"
    export_names = ExportNames(
        "stable-diffusion-3",
        "sd3",
        "transformer",
        comfy=(
            *TWO_STREAMS,
            *(f"transformer_blocks.#.attn2.{name}" for name in JOINT_ATTENTION[:4]),
            "pos_embed.proj",
        ),
        sizes={"num_attention_heads": (24, 38), "attention_head_dim": (64,)},
    )
    optional = ("text_encoder_3", "tokenizer_3")
    targets = JOINT_ATTENTION

    def __init__(self, pipeline: Any) -> None:
        super().__init__(pipeline)
        self.short: int | None = None  # tokens of a text, if one of them stands for T5
        if pipeline.text_encoder_3 is None:
            self.short = int(pipeline.tokenizer_max_length) + 1
            old = self.denoiser.attn_processors
            new = {name: RepeatedToken(each, self.short, T5_TOKENS) for name, each in old.items()}
            self.denoiser.set_attn_processor(new)

    @property
    def multiple(self) -> int:
        """Pixels of one patch of latents."""
        return int(self.pipeline.vae_scale_factor) * int(self.pipeline.patch_size)

    @property
    def largest(self) -> int:
        """Side in pixels of the largest image for which positions were learned."""
        return self.multiple * int(self.denoiser.config.pos_embed_max_size)

    def tokens(self, latent: Sequence[int]) -> int:
        """Count the patches of a latent of this shape, [..., h, w]."""
        patch = int(self.pipeline.patch_size)
        return (latent[-2] // patch) * (latent[-1] // patch)

    def encode_text(self, captions: Sequence[str], device: torch.device) -> list[Tensors]:
        """Encode captions as `embeds` and `pooled`; the empty caption is encoded like others.

        `embeds` is [77 + 256, width], or [77 + 1, width] without T5; `pooled` is [width].
        """
        embeds, _, pooled, _ = self.pipeline.encode_prompt(
            prompt=list(captions),
            prompt_2=None,
            prompt_3=None,
            device=device,
            num_images_per_prompt=1,
            do_classifier_free_guidance=False,
            max_sequence_length=T5_TOKENS,
        )
        embeds = embeds[:, : self.short]
        return [{"embeds": e, "pooled": p} for e, p in zip(embeds, pooled, strict=True)]

    def predict(
        self,
        model: nn.Module,
        noisy: Tensor,
        timesteps: Tensor,
        conditions: Tensors,
        guidance: float = 1.0,
    ) -> Tensor:
        """Predict the velocity, noise - latents."""
        predicted: Tensor = model(
            hidden_states=noisy,
            timestep=timesteps,
            encoder_hidden_states=conditions["embeds"],
            pooled_projections=conditions["pooled"],
            return_dict=False,
        )[0]
        return predicted
