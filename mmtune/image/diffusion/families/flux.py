"""FLUX.1, FLUX.2 and Chroma: transformers over 2x2 patches of latents."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from mmtune.image.diffusion.families.comfy import FLUX
from mmtune.image.diffusion.families.family import JOINT_ATTENTION, ExportNames, Family, Noise
from mmtune.prefix.stage import Tensors

FLUX2_STEPS = 50  # the default number of steps of both FLUX.2 pipelines


class Flux(Family):
    """FLUX.1, both [dev], whose guidance is distilled into an input, and [schnell] without it."""

    name = "FLUX.1"
    pipeline_class = "FluxPipeline"
    export_names = ExportNames(
        "flux-1-dev",
        "flux1",
        "flux",
        comfy=FLUX,
        network="networks.lora_flux",
        sizes={"num_attention_heads": (24,), "attention_head_dim": (128,)},
    )
    targets = JOINT_ATTENTION

    def export_kind(self) -> tuple[str, str]:
        """[dev] takes the guidance as an input, [schnell] doesn't, and Chroma isn't asked."""
        architecture, version = super().export_kind()
        if not self.denoiser.config.get("guidance_embeds", True):
            architecture = "flux-1-schnell"
        return architecture, version

    def encode_text(self, captions: Sequence[str], device: torch.device) -> list[Tensors]:
        """Encode captions as T5's `embeds`, [512, width], and CLIP's `pooled`, [width]."""
        embeds, pooled, _ = self.pipeline.encode_prompt(
            prompt=list(captions), prompt_2=None, device=device, num_images_per_prompt=1
        )
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
        rows, channels, height, width = noisy.shape
        pipeline, scale = self.pipeline, int(self.pipeline.vae_scale_factor)
        device, dtype, embeds = noisy.device, noisy.dtype, conditions["embeds"]
        packed = pipeline._pack_latents(noisy, rows, channels, height, width)
        predicted = model(
            hidden_states=packed,
            # Rounded as in the pipeline, which keeps timesteps in the latents' dtype.
            timestep=timesteps.to(dtype) / 1000,
            encoder_hidden_states=embeds,
            txt_ids=torch.zeros(embeds.shape[1], 3, device=device, dtype=dtype),
            img_ids=pipeline._prepare_latent_image_ids(
                rows, height // 2, width // 2, device, dtype
            ),
            return_dict=False,
            **self._own_inputs(packed, conditions, guidance),
        )[0]
        unpacked: Tensor = pipeline._unpack_latents(predicted, height * scale, width * scale, scale)
        return unpacked

    def _own_inputs(self, packed: Tensor, conditions: Tensors, guidance: float) -> dict[str, Any]:
        """Inputs of the denoiser that its relatives don't have.

        Args:
            packed: latents, [rows, tokens, width].
            conditions: the captions.
            guidance: what is asked for.
        """
        distilled = None
        if self.denoiser.config.guidance_embeds:
            distilled = torch.full([len(packed)], guidance, device=packed.device)
        return {"guidance": distilled, "pooled_projections": conditions["pooled"]}

    def uses_empty(self, guidance: float) -> bool:
        """Return False: guidance is an input of [dev], and [schnell] has none."""
        return False

    def _channels(self) -> int:
        return int(self.denoiser.config.in_channels) // 4


class Flux2Klein(Family):
    """FLUX.2 [klein]: Qwen3 reads the caption; latents are patches in batch-norm units."""

    name = "FLUX.2 klein"
    pipeline_class = "Flux2KleinPipeline"
    export_names = ExportNames(
        "flux-2-klein",
        "flux2",
        "transformer",
        comfy=FLUX,
        sizes={"num_attention_heads": (24, 32), "attention_head_dim": (128,)},
    )
    targets = (*JOINT_ATTENTION, "to_qkv_mlp_proj")  # the last: single-stream blocks
    posterior = False
    patch = 1  # of latents that are patches already

    @property
    def multiple(self) -> int:
        """Pixels of a patch of 2x2 latents."""
        return 2 * int(self.pipeline.vae_scale_factor)

    def mu(self, config: Mapping[str, Any], tokens: int) -> float:
        """Compute the pipeline's empirical shift, at its default number of steps."""
        from diffusers.pipelines.flux2.pipeline_flux2_klein import compute_empirical_mu

        return float(compute_empirical_mu(tokens, FLUX2_STEPS))

    def latents(self, encoded: Any) -> Tensors:
        """Scale the mode, in patches of 2x2, by the running statistics of `vae.bn`: `latent`."""
        patches = self.pipeline._patchify_latents(encoded.latent_dist.mode().float())
        norm, shape = self.pipeline.vae.bn, (1, -1, 1, 1)
        mean = norm.running_mean.float().view(shape)
        epsilon = self.pipeline.vae.config.batch_norm_eps
        std = torch.sqrt(norm.running_var.float().view(shape) + epsilon)
        return {"latent": (patches - mean) / std}

    def encode_text(self, captions: Sequence[str], device: torch.device) -> list[Tensors]:
        """Encode captions as `embeds`, [512, 3 x width]."""
        embeds, _ = self.pipeline.encode_prompt(
            prompt=list(captions), device=device, num_images_per_prompt=1
        )
        return [{"embeds": e} for e in embeds]

    def predict(
        self,
        model: nn.Module,
        noisy: Tensor,
        timesteps: Tensor,
        conditions: Tensors,
        guidance: float = 1.0,
    ) -> Tensor:
        """Predict the velocity, noise - latents."""
        pipeline, embeds = self.pipeline, conditions["embeds"]
        predicted = model(
            hidden_states=pipeline._pack_latents(noisy),
            timestep=timesteps.to(noisy.dtype) / 1000,
            guidance=self._distilled(guidance, noisy),
            encoder_hidden_states=embeds,
            txt_ids=pipeline._prepare_text_ids(embeds).to(noisy.device),
            img_ids=pipeline._prepare_latent_ids(noisy).to(noisy.device),
            return_dict=False,
        )[0]
        unpacked: Tensor = predicted.permute(0, 2, 1).reshape(noisy.shape)
        return unpacked

    def uses_empty(self, guidance: float) -> bool:
        """Return False for step-distilled pipelines, which ignore guidance."""
        return guidance > 1 and not self.pipeline.config.is_distilled

    def _distilled(self, guidance: float, noisy: Tensor) -> Tensor | None:
        """The guidance as an input of the denoiser, [rows]; None: it has no such input."""
        return None

    def image_features(self, output: Any, tokens: int) -> Tensor:
        """Select the image's part: a pair's second, or the last tokens."""
        return _image_part(output, tokens)


class Flux2Dev(Flux2Klein):
    """FLUX.2 [dev]: Mistral Small 3 reads the caption, and the guidance is an input."""

    name = "FLUX.2 dev"
    pipeline_class = "Flux2Pipeline"
    export_names = ExportNames(
        "flux-2-dev",
        "flux2",
        "transformer",
        comfy=FLUX,
        sizes={"num_attention_heads": (48,), "attention_head_dim": (128,)},
    )

    @classmethod
    def components(cls, folder: Path) -> dict[str, Any]:
        """Load the tokenizer alone: its processor of images needs torchvision, and isn't used."""
        from transformers import AutoTokenizer

        return {"tokenizer": AutoTokenizer.from_pretrained(folder / "tokenizer")}

    def uses_empty(self, guidance: float) -> bool:
        """Return False: guidance is an input."""
        return False

    def _distilled(self, guidance: float, noisy: Tensor) -> Tensor:
        return torch.full([len(noisy)], guidance, device=noisy.device, dtype=torch.float32)


class Chroma(Flux):
    """Chroma, made from FLUX.1 [schnell]: no pooled caption, no distilled guidance.

    T5's padding is masked but for one token, as the pipeline does it.
    """

    name = "Chroma"
    pipeline_class = "ChromaPipeline"
    export_names = ExportNames(
        "chroma",
        "chroma",
        "flux",
        comfy=FLUX,
        network="networks.lora_flux",
        sizes={"num_attention_heads": (24,), "attention_head_dim": (128,)},
    )

    def encode_text(self, captions: Sequence[str], device: torch.device) -> list[Tensors]:
        """Encode captions as T5's `embeds`, [512, width], and `text_mask`, [512]; 1 is read."""
        embeds, _, mask, *_ = self.pipeline.encode_prompt(
            prompt=list(captions), device=device, do_classifier_free_guidance=False
        )
        return [{"embeds": e, "text_mask": m} for e, m in zip(embeds, mask, strict=True)]

    def _own_inputs(self, packed: Tensor, conditions: Tensors, guidance: float) -> dict[str, Any]:
        image = packed.new_ones(packed.shape[:2], dtype=torch.bool)
        return {"attention_mask": torch.cat([conditions["text_mask"], image], dim=1)}

    def uses_empty(self, guidance: float) -> bool:
        """Tell whether classifier-free guidance is on."""
        return guidance > 1

    def sampling(
        self,
        text: Sequence[Tensors],
        empty: Tensors | None,
        guidance: float,
        device: torch.device,
    ) -> dict[str, Any]:
        """Make the pipeline's arguments, with the masks of the captions."""
        embeds = [{"embeds": t["embeds"]} for t in text]
        inputs = super().sampling(embeds, empty, guidance, device)
        mask = torch.stack([t["text_mask"] for t in text]).to(device)
        inputs["prompt_attention_mask"] = mask
        if empty is not None:
            inputs["negative_prompt_attention_mask"] = empty["text_mask"].to(device).expand_as(mask)
        return inputs

    def image_features(self, output: Any, tokens: int) -> Tensor:
        """Select the image's part: a pair's second, or the last tokens."""
        return _image_part(output, tokens)

    def probe(self, noise: Noise) -> tuple[Tensor, Tensors]:
        """Make a small latent, and a short caption that is read whole."""
        noisy, conditions = super().probe(noise)
        return noisy, conditions | {"text_mask": torch.ones_like(conditions["embeds"][..., 0])}


def _image_part(output: Any, tokens: int) -> Tensor:
    part: Tensor = output[1] if isinstance(output, tuple) else output[:, -tokens:]
    return part
