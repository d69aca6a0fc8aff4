"""Stable Diffusion 1.x, 2.x and XL: a UNet that attends to the caption."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from mmtune.image.diffusion.families.family import (
    ATTENTION,
    PROBE_TOKENS,
    ExportNames,
    Noise,
    TextFamily,
)
from mmtune.prefix.stage import Tensors

SD2, SD2_VELOCITY = ("stable-diffusion-v2-512", "sd_v2"), ("stable-diffusion-v2-768-v", "sd_v2_v")
SD2_WIDTH = 1024  # of the text that Stable Diffusion 2 attends to; 1's is 768
TEXT_ATTENTION = ("q_proj", "k_proj", "v_proj", "out_proj")


class StableDiffusion(TextFamily):
    """Stable Diffusion 1.x and 2.x (arXiv 2112.10752)."""

    name = "Stable Diffusion 1.x/2.x"
    pipeline_class = "StableDiffusionPipeline"
    export_names = ExportNames(
        "stable-diffusion-v1",
        "sd_v1",
        "unet",
        sizes={
            "block_out_channels": ((320, 640, 1280, 1280),),
            "cross_attention_dim": (768, SD2_WIDTH),
        },
    )
    denoiser_name = "unet"
    load: ClassVar[Mapping[str, Any]] = {
        "safety_checker": None,
        "feature_extractor": None,
        "requires_safety_checker": False,
    }
    targets = ATTENTION
    text_parts: ClassVar[Sequence[str]] = ("text_encoder",)
    patch = 1

    def export_kind(self) -> tuple[str, str]:
        """2.x attends to a wider text than 1.x; its 768-pixel form predicts velocities."""
        names = self.export_names.architecture, self.export_names.version
        if names[0] != "stable-diffusion-v1":
            return names
        if self.denoiser.config.cross_attention_dim != SD2_WIDTH:
            return names
        velocity = self.pipeline.scheduler.config.get("prediction_type") == "v_prediction"
        return SD2_VELOCITY if velocity else SD2

    @property
    def resolution(self) -> int:
        """Side in pixels that belongs to the UNet's sample size."""
        return int(self.denoiser.config.sample_size) * int(self.pipeline.vae_scale_factor)

    @property
    def multiple(self) -> int:
        """Pixels of the coarsest level: each level of the UNet but the last halves a side."""
        levels = len(self.denoiser.config.block_out_channels)
        return int(self.pipeline.vae_scale_factor) << (levels - 1)

    def encode_text(self, captions: Sequence[str], device: torch.device) -> list[Tensors]:
        """Encode captions as `embeds`, [tokens, width], and for SDXL `pooled`, [width].

        The empty caption gives zeros if the pipeline has `force_zeros_for_empty_prompt`.
        """
        empty = not captions[0]
        encoded = self.pipeline.encode_prompt(
            prompt=list(captions),
            device=device,
            num_images_per_prompt=1,
            do_classifier_free_guidance=empty,
        )
        # SD 1.x: (embeds, negative); SDXL: (embeds, negative, pooled, negative pooled).
        chosen = encoded[1::2] if empty else encoded[0::2]
        names = ("embeds", "pooled")
        return [
            {k: v[i] for k, v in zip(names, chosen, strict=False)} for i in range(len(captions))
        ]

    def text_targets(self, name: str) -> Sequence[str] | str:
        """Name the attention projections of all layers."""
        return TEXT_ATTENTION

    def tokens_of(self, captions: Sequence[str]) -> list[Tensors]:
        """Tokenize captions with the pipeline's own tokenizers."""
        zeros = bool(self.pipeline.config.get("force_zeros_for_empty_prompt", False))
        found = [{"zeros": torch.tensor(zeros and not caption)} for caption in captions]
        for name in self.text_encoders:
            tokenizer = getattr(self.pipeline, name.replace("text_encoder", "tokenizer"))
            ids = tokenizer(
                list(captions),
                padding="max_length",
                max_length=tokenizer.model_max_length,
                truncation=True,
                return_tensors="pt",
            ).input_ids
            for tokens, row in zip(found, ids, strict=True):
                tokens[name] = row
        return found

    def embed(self, models: Mapping[str, nn.Module], tokens: Tensors) -> Tensors:
        """Compute the last hidden state, after the final norm."""
        return {"embeds": models["text_encoder"](tokens["text_encoder"])[0]}

    def predict(
        self,
        model: nn.Module,
        noisy: Tensor,
        timesteps: Tensor,
        conditions: Tensors,
        guidance: float = 1.0,
    ) -> Tensor:
        """Predict noise, velocity or the clean latent, as the scheduler's configuration says."""
        predicted: Tensor = model(
            noisy,
            timesteps,
            encoder_hidden_states=conditions["embeds"],
            added_cond_kwargs=self._added(conditions),
        ).sample
        return predicted

    def _added(self, conditions: Tensors) -> dict[str, Tensor] | None:
        return None

    def style_blocks(self) -> Sequence[nn.Module]:
        """Choose the up blocks, as IntroStyle does (arXiv 2412.14432)."""
        return list(self.denoiser.up_blocks)

    def image_features(self, output: Any, tokens: int) -> Tensor:
        """Return the whole output, [rows, channels, h, w]."""
        features: Tensor = output
        return features

    def probe(self, noise: Noise) -> tuple[Tensor, Tensors]:
        """Make a latent of the UNet's own sample size, and conditions."""
        config = self.denoiser.config
        size = int(config.sample_size)
        embeds = noise(1, PROBE_TOKENS, int(config.cross_attention_dim))
        return noise(1, int(config.in_channels), size, size), {"embeds": embeds}


class StableDiffusionXL(StableDiffusion):
    """SDXL (arXiv 2307.01952): the UNet also takes a pooled caption and time ids."""

    name = "SDXL"
    export_names = ExportNames(
        "stable-diffusion-xl-v1-base",
        "sdxl_base_v1-0",
        "original_unet",
        sizes={"block_out_channels": ((320, 640, 1280),), "cross_attention_dim": (2048,)},
    )
    pipeline_class = "StableDiffusionXLPipeline"
    load: ClassVar[Mapping[str, Any]] = {"add_watermarker": False}
    targets = ATTENTION
    text_parts: ClassVar[Sequence[str]] = ("text_encoder", "text_encoder_2")

    def conditions(self, text: Sequence[Tensors], images: Sequence[Tensors]) -> Tensors:
        """Batch the text's conditions and each image's `time_ids`, [rows, 6]."""
        ids = torch.stack([image["time_ids"] for image in images])
        return super().conditions(text, images) | {"time_ids": ids}

    def text_targets(self, name: str) -> Sequence[str] | str:
        """Name the attention of all layers that the UNet reads.

        SDXL reads the last layer but one. The first encoder's last layer has no effect.
        """
        if name == "text_encoder_2":
            return TEXT_ATTENTION
        last = int(self.pipeline.text_encoder.config.num_hidden_layers) - 1
        layers = "|".join(str(i) for i in range(last))
        return rf".*\.layers\.({layers})\..*({'|'.join(TEXT_ATTENTION)})"

    def embed(self, models: Mapping[str, nn.Module], tokens: Tensors) -> Tensors:
        """Join the encoders' last hidden states but one, and take the second's pooled output."""
        outputs = {n: m(tokens[n], output_hidden_states=True) for n, m in models.items()}
        keep = ~tokens["zeros"]
        embeds = torch.cat([out.hidden_states[-2] for out in outputs.values()], dim=-1)
        pooled = outputs["text_encoder_2"][0]
        return {"embeds": embeds * keep[:, None, None], "pooled": pooled * keep[:, None]}

    def _added(self, conditions: Tensors) -> dict[str, Tensor] | None:
        return {"text_embeds": conditions["pooled"], "time_ids": conditions["time_ids"]}

    def probe(self, noise: Noise) -> tuple[Tensor, Tensors]:
        """Make a latent of the UNet's own sample size, and conditions."""
        config = self.denoiser.config
        noisy, conditions = super().probe(noise)
        width = int(config.projection_class_embeddings_input_dim)
        conditions["pooled"] = noise(1, width - 6 * int(config.addition_time_embed_dim))
        side = float(self.resolution)
        ids = torch.tensor([[side, side, 0.0, 0.0, side, side]])
        conditions["time_ids"] = ids.to(noisy.device, noisy.dtype)
        return noisy, conditions
