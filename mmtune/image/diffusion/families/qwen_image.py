"""Qwen-Image: a transformer over 2x2 patches of latents of a video autoencoder."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

from mmtune.image.diffusion.families.family import (
    JOINT_ATTENTION,
    PROBE_SIDE,
    PROBE_TOKENS,
    ExportNames,
    Family,
    Noise,
)
from mmtune.prefix.stage import Tensors

TEXT_TOKENS = 512  # that the pipeline reads of a caption in sampling
COMFY = (  # modules that ComfyUI finds: it has diffusers' names for them
    *(f"transformer_blocks.#.attn.{name}" for name in JOINT_ATTENTION),
    *(f"transformer_blocks.#.{at}_mlp.net.{n}" for at in ("img", "txt") for n in ("0.proj", "2")),
    *(f"transformer_blocks.#.{at}_mod.1" for at in ("img", "txt")),
    *("img_in", "txt_in", "proj_out", "norm_out.linear"),
    *(f"time_text_embed.timestep_embedder.linear_{n}" for n in (1, 2)),
)


class QwenImage(Family):
    """Qwen-Image (arXiv 2508.02324): Qwen2.5-VL encodes captions, each with its own length.

    Its autoencoder is one of videos: an image is a video of one frame.
    """

    name = "Qwen-Image"
    pipeline_class = "QwenImagePipeline"
    export_names = ExportNames(
        "qwen-image",
        "qwen_image",
        "transformer",
        comfy=COMFY,
        sizes={"num_attention_heads": (24,), "attention_head_dim": (128,)},
    )
    targets = JOINT_ATTENTION

    def lora_targets(self) -> str:
        """All of `targets`, but not the caption's way out of the last block, which is unread."""
        last = int(self.denoiser.config.num_layers) - 1
        names = "|".join(name.replace(".", r"\.") for name in self.targets)
        unread = rf"transformer_blocks\.{last}\.attn\.(add_q_proj|to_add_out)$"
        return rf"(?!{unread}).*\.({names})"

    def encode_image(self, pixels: Tensor) -> Any:
        """Encode images as videos of one frame."""
        return self.pipeline.vae.encode(pixels.unsqueeze(2))

    def latents(self, encoded: Any) -> Tensors:
        """Scale the posterior by the configuration's `latents_mean` and `latents_std`."""
        config, shape = self.pipeline.vae.config, (1, -1, 1, 1)
        mean = encoded.latent_dist.mean.float().squeeze(2)
        spread = encoded.latent_dist.std.float().squeeze(2)
        shift = torch.tensor(config.latents_mean, device=mean.device).view(shape)
        std = torch.tensor(config.latents_std, device=mean.device).view(shape)
        return {"mean": (mean - shift) / std, "std": spread / std}

    def encode_text(self, captions: Sequence[str], device: torch.device) -> list[Tensors]:
        """Encode captions as `embeds`, [tokens, width], with as many tokens as the caption has."""
        embeds, mask = self.pipeline.encode_prompt(
            prompt=list(captions), device=device, max_sequence_length=TEXT_TOKENS
        )
        if mask is None:  # of captions of one length
            return [{"embeds": e} for e in embeds]
        return [{"embeds": e[m.bool()]} for e, m in zip(embeds, mask, strict=True)]

    def conditions(self, text: Sequence[Tensors], images: Sequence[Tensors]) -> Tensors:
        """Pad `embeds` to the longest, [rows, tokens, width]; `text_mask` is [rows, tokens]."""
        embeds, mask = _padded(text)
        return {"embeds": embeds, "text_mask": mask}

    def predict(
        self,
        model: nn.Module,
        noisy: Tensor,
        timesteps: Tensor,
        conditions: Tensors,
        guidance: float = 1.0,
    ) -> Tensor:
        """Predict the velocity, noise - latents."""
        rows, channels, height, width = noisy.shape
        pipeline, scale = self.pipeline, int(self.pipeline.vae_scale_factor)
        mask = conditions["text_mask"]
        distilled = None
        if self.denoiser.config.guidance_embeds:
            distilled = torch.full([rows], guidance, device=noisy.device, dtype=torch.float32)
        predicted = model(
            hidden_states=pipeline._pack_latents(noisy, rows, channels, height, width),
            timestep=timesteps.to(noisy.dtype) / 1000,
            guidance=distilled,
            encoder_hidden_states_mask=None if bool(mask.all()) else mask.long(),
            encoder_hidden_states=conditions["embeds"],
            img_shapes=[[(1, height // 2, width // 2)]] * rows,
            return_dict=False,
        )[0]
        video: Tensor = pipeline._unpack_latents(predicted, height * scale, width * scale, scale)
        return video.squeeze(2)

    def sampling(
        self,
        text: Sequence[Tensors],
        empty: Tensors | None,
        guidance: float,
        device: torch.device,
    ) -> dict[str, Any]:
        """Make the pipeline's arguments, with the masks of the captions."""
        embeds, mask = _padded(text)
        inputs: dict[str, Any] = {
            "prompt_embeds": embeds.to(device),
            "prompt_embeds_mask": mask.long().to(device),
            **self.guidance_inputs(guidance, self.denoiser.config),
        }
        if empty is not None:
            embeds, mask = _padded([empty] * len(text))
            inputs["negative_prompt_embeds"] = embeds.to(device)
            inputs["negative_prompt_embeds_mask"] = mask.long().to(device)
        return inputs

    @classmethod
    def guidance_inputs(cls, guidance: float, denoiser: Mapping[str, Any]) -> dict[str, Any]:
        """Name the guidance; the pipeline calls classifier-free guidance `true_cfg_scale`."""
        if denoiser.get("guidance_embeds"):
            return {"true_cfg_scale": 1.0, "guidance_scale": guidance}
        return {"true_cfg_scale": guidance}

    def uses_empty(self, guidance: float) -> bool:
        """Return False where guidance is an input of the denoiser."""
        return guidance > 1 and not self.denoiser.config.guidance_embeds

    def probe(self, noise: Noise) -> tuple[Tensor, Tensors]:
        """Make a small latent and the embeddings of a short caption."""
        config = self.denoiser.config
        embeds = noise(1, PROBE_TOKENS, int(config.joint_attention_dim))
        conditions = {"embeds": embeds, "text_mask": torch.ones_like(embeds[..., 0])}
        return noise(1, int(config.in_channels) // 4, PROBE_SIDE, PROBE_SIDE), conditions


def _padded(text: Sequence[Tensors]) -> tuple[Tensor, Tensor]:
    """Embeddings, [rows, tokens, width], and where they are no padding, [rows, tokens]."""
    embeds = [t["embeds"] for t in text]
    mask = [torch.ones(len(e), dtype=e.dtype, device=e.device) for e in embeds]
    return pad_sequence(embeds, batch_first=True), pad_sequence(mask, batch_first=True)
