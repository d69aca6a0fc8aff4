"""What differs from one family of diffusion pipelines to another, behind one class."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from mmtune.prefix.stage import Tensors

ATTENTION = ("to_q", "to_k", "to_v", "to_out.0")
# The text stream's projections in blocks that attend to image and text jointly.
JOINT_ATTENTION = (*ATTENTION, "add_q_proj", "add_k_proj", "add_v_proj", "to_add_out")
PROBE_SIDE, PROBE_TOKENS = 16, 8
DESCRIBED = 4  # blocks of a transformer whose features describe a style

Noise = Callable[..., Tensor]


class Family(ABC):
    """One family: how it encodes images and text, and how its denoiser is called.

    Latents have the shape and scale in which the pipeline itself draws its noise, [rows, channels,
    h, w]; what the denoiser needs beyond that (packing, position ids) happens in `predict`.

    Args:
        pipeline: a loaded pipeline of `pipeline_class`.
    """

    name: ClassVar[str]
    pipeline_class: ClassVar[str]
    denoiser_name: ClassVar[str] = "transformer"
    load: ClassVar[Mapping[str, Any]] = {}
    """What the class is given besides its weights, so that it alters and withholds no image."""
    optional: ClassVar[Sequence[str]] = ()
    """Components that a base may lack."""
    targets: ClassVar[Sequence[str]] = ATTENTION
    """Modules that LoRA adapts where the settings name none."""
    posterior: ClassVar[bool] = True
    """Whether training samples the autoencoder's posterior or takes its mode, as the family's
    published training scripts do."""
    patch: ClassVar[int] = 2
    """Latent positions along a side that make one token of the denoiser."""

    def __init__(self, pipeline: Any) -> None:
        self.pipeline = pipeline

    @property
    def denoiser(self) -> Any:
        """The UNet or transformer: the module that is adapted."""
        return getattr(self.pipeline, self.denoiser_name)

    @property
    def resolution(self) -> int:
        """Side in pixels of the square images that the pipeline makes if nobody says otherwise."""
        return int(self.pipeline.default_sample_size) * int(self.pipeline.vae_scale_factor)

    @property
    def multiple(self) -> int:
        """What a side in pixels must be a multiple of."""
        return int(self.pipeline.vae_scale_factor) * self.patch

    @property
    def largest(self) -> int | None:
        """The longest side in pixels that the denoiser has positions for; None: no limit."""
        return None

    def tokens(self, latent: Sequence[int]) -> int:
        """Tokens of the denoiser for a latent of this shape, [..., h, w]."""
        return (latent[-2] // self.patch) * (latent[-1] // self.patch)

    def mu(self, config: Mapping[str, Any], tokens: int) -> float:
        """The dynamic shift of the noise schedule for an image of `tokens`, as the pipeline's."""
        from diffusers.pipelines.flux.pipeline_flux import calculate_shift

        shift = calculate_shift(
            tokens,
            config.get("base_image_seq_len", 256),
            config.get("max_image_seq_len", 4096),
            config.get("base_shift", 0.5),
            config.get("max_shift", 1.15),
        )
        return float(shift)

    def latents(self, encoded: Any) -> Tensors:
        """What the autoencoder's `encode` gave, in the scale that the scheduler adds noise to.

        Returns:
            `mean` and `std` of a posterior, or `latent`: [images, channels, h, w], float32.
        """
        config = self.pipeline.vae.config
        if not hasattr(encoded, "latent_dist"):
            shift, scale = _affine(config, encoded.latents.device)
            return {"latent": (encoded.latents.float() - shift) * scale}
        mean, std = encoded.latent_dist.mean.float(), encoded.latent_dist.std.float()
        shift, scale = _affine(config, mean.device)
        if not self.posterior:
            return {"latent": (mean - shift) * scale}
        return {"mean": (mean - shift) * scale, "std": std * scale}

    @abstractmethod
    def encode_text(self, captions: Sequence[str], device: torch.device) -> list[Tensors]:
        """Captions by the pipeline's own `encode_prompt`: all of them empty, or none.

        The empty caption is the unconditional branch of guidance.
        """

    @property
    def text_encoders(self) -> dict[str, Any]:
        """Those that may be adapted too, by their names in the pipeline."""
        return {}

    def conditions(self, text: Sequence[Tensors], images: Sequence[Tensors]) -> Tensors:
        """What conditions the denoiser in a batch, each tensor [rows, ...].

        Args:
            text: what `encode_text` gave for each row.
            images: what was stored of each row's image.
        """
        return {name: torch.stack([t[name] for t in text]) for name in text[0]}

    @abstractmethod
    def predict(
        self,
        model: nn.Module,
        noisy: Tensor,
        timesteps: Tensor,
        conditions: Tensors,
        guidance: float = 1.0,
    ) -> Tensor:
        """The denoiser's prediction in the latents' shape.

        Args:
            model: the denoiser, as the training loop has wrapped it.
            noisy: [rows, channels, h, w], in the denoiser's dtype.
            timesteps: [rows], of the scheduler's `num_train_timesteps`.
            conditions: see `conditions`, in the denoiser's dtype.
            guidance: for a denoiser that takes the guidance scale as an input.
        """

    def uses_empty(self, guidance: float) -> bool:
        """Whether sampling with this guidance needs the empty caption."""
        return guidance > 1

    def sampling(
        self,
        text: Sequence[Tensors],
        empty: Tensors | None,
        guidance: float,
        device: torch.device,
    ) -> dict[str, Any]:
        """Arguments of a call of the pipeline, from stored embeddings.

        Args:
            text: of each image.
            empty: the empty caption's, where `uses_empty`.
            guidance: scale of guidance; 1 is off.
        """
        names = {"embeds": "prompt_embeds", "pooled": "pooled_prompt_embeds"}
        inputs: dict[str, Any] = {"guidance_scale": guidance}
        for name in text[0]:
            value = torch.stack([t[name] for t in text])
            inputs[names[name]] = value.to(device)
            if empty is not None:
                negative = empty[name].expand_as(value)
                inputs[f"negative_{names[name]}"] = negative.to(device)
        return inputs

    def style_blocks(self) -> Sequence[nn.Module]:
        """Blocks of the denoiser whose outputs describe how an image looks."""
        blocks = self._blocks()
        places = {len(blocks) * (i + 1) // DESCRIBED - 1 for i in range(DESCRIBED)}
        return [blocks[i] for i in sorted(places) if i >= 0]

    def _blocks(self) -> list[nn.Module]:
        model = self.denoiser
        return [*model.transformer_blocks, *getattr(model, "single_transformer_blocks", ())]

    def image_features(self, output: Any, tokens: int) -> Tensor:
        """The image's part of a block's output, [rows, tokens, channels]."""
        features: Tensor = output[1]
        return features

    def probe(self, noise: Noise) -> tuple[Tensor, Tensors]:
        """A small fixed latent and conditions for one call of `predict`.

        Args:
            noise: gives normal numbers of a shape in the denoiser's dtype.
        """
        config = self.denoiser.config
        conditions = {"embeds": noise(1, PROBE_TOKENS, int(config.joint_attention_dim))}
        if "pooled_projection_dim" in config:
            conditions["pooled"] = noise(1, int(config.pooled_projection_dim))
        return noise(1, self._channels(), PROBE_SIDE, PROBE_SIDE), conditions

    def _channels(self) -> int:
        return int(self.denoiser.config.in_channels)


class TextFamily(Family):
    """A family whose text encoders may be adapted beside the denoiser."""

    text_parts: ClassVar[Sequence[str]]
    """Their names in the pipeline."""

    @property
    def text_encoders(self) -> dict[str, Any]:
        """Those of `text_parts` that the pipeline has."""
        found = {name: getattr(self.pipeline, name, None) for name in self.text_parts}
        return {name: model for name, model in found.items() if model is not None}

    @abstractmethod
    def text_targets(self, name: str) -> Sequence[str] | str:
        """Modules of a text encoder that LoRA adapts."""

    @abstractmethod
    def tokens_of(self, captions: Sequence[str]) -> list[Tensors]:
        """What `embed` reads, for training a text encoder: token ids, [tokens], for each of the
        `text_encoders` under its name, and `zeros`, whether all is to be zero instead."""

    @abstractmethod
    def embed(self, models: Mapping[str, nn.Module], tokens: Tensors) -> Tensors:
        """What `encode_text` gives, from stacked `tokens_of`, with gradients.

        Args:
            models: the `text_encoders`, as the training loop has wrapped them.
            tokens: [rows, ...].
        """


def _affine(config: Any, device: torch.device) -> tuple[Tensor, Tensor]:
    # The inverse of what the pipelines do before they decode.
    scale = torch.tensor(float(config.scaling_factor), device=device)
    mean, std = getattr(config, "latents_mean", None), getattr(config, "latents_std", None)
    if mean is None or std is None:
        shift = getattr(config, "shift_factor", None) or 0.0
        return torch.tensor(float(shift), device=device), scale
    shape = (1, -1, 1, 1)
    return (
        torch.tensor(mean, device=device).view(shape),
        scale / torch.tensor(std, device=device).view(shape),
    )
