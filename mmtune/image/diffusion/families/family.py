"""`Family`: how a family of diffusion pipelines encodes images and text and calls its denoiser."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn

from mmtune.prefix.stage import Tensors

ATTENTION = ("to_q", "to_k", "to_v", "to_out.0")
# The text stream's projections in blocks that attend to image and text jointly.
JOINT_ATTENTION = (*ATTENTION, "add_q_proj", "add_k_proj", "add_v_proj", "to_add_out")
PROBE_SIDE, PROBE_TOKENS = 16, 8
DESCRIBED = 4  # blocks of a transformer whose features describe a style

Noise = Callable[..., Tensor]


@dataclass(frozen=True)
class ExportNames:
    """What other programs call a family, and how its adapters are written for them.

    Attributes:
        architecture: `modelspec.architecture` of Stability's ModelSpec.
        version: `ss_base_model_version` of sd-scripts.
        single_file: whose keys a single file (`--format kohya`) has: "unet", sd-scripts' over a
            UNet; "original_unet", the same over the names of the original SDXL code; "flux",
            sd-scripts' over Black Forest Labs' code; "transformer", peft's below `transformer.`.
            None: there is no such file.
        comfy: of "transformer", the modules that ComfyUI finds; `#` stands for a number.
        network: `ss_network_module` of sd-scripts.
        unsupported: export formats that the family doesn't have, each with the reason.
        sizes: settings of the denoiser, each with the values that the family's published bases
            have. A base of other sizes isn't one of them, and no file says that it is.
    """

    architecture: str
    version: str
    single_file: Literal["unet", "original_unet", "flux", "transformer"] | None
    comfy: tuple[str, ...] = ()
    network: str = "networks.lora"
    unsupported: Mapping[str, str] = field(default_factory=dict)
    sizes: Mapping[str, tuple[Any, ...]] = field(default_factory=dict)


class Family(ABC):
    """One family: how it encodes images and text, and how its denoiser is called.

    Latents have the shape and scale in which the pipeline itself draws its noise, [rows, channels,
    h, w]; what the denoiser needs beyond that (packing, position ids) happens in `predict`.

    Args:
        pipeline: a loaded pipeline of `pipeline_class`.
    """

    name: ClassVar[str]
    pipeline_class: ClassVar[str]
    export_names: ClassVar[ExportNames]
    denoiser_name: ClassVar[str] = "transformer"
    load: ClassVar[Mapping[str, Any]] = {}
    """Arguments for loading the pipeline, so that it neither alters nor withholds images."""
    optional: ClassVar[Sequence[str]] = ()
    """Components that a base may lack."""
    targets: ClassVar[Sequence[str]] = ATTENTION
    """Modules that LoRA adapts where the settings name none."""
    posterior: ClassVar[bool] = True
    """Whether training samples the autoencoder's posterior or takes its mode, as the family's
    published training scripts do."""
    patch: ClassVar[int] = 2
    """Latent positions along a side that make one token of the denoiser."""

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        # Not after hours of training, when the adapter is to be exported.
        if "name" in vars(cls):
            names = getattr(cls, "export_names", None)
            if names is None or (names.single_file is None) != ("kohya" in names.unsupported):
                raise TypeError(
                    f"{cls.__name__} needs export_names, with a single_file or the reason why "
                    "there is none (unsupported: kohya)"
                )
            if names.single_file == "transformer" and not names.comfy:
                raise TypeError(f"{cls.__name__}.export_names needs comfy: modules that it finds")

    def __init__(self, pipeline: Any) -> None:
        self.pipeline = pipeline

    @classmethod
    def components(cls, folder: Path) -> dict[str, Any]:
        """Load components of a folder that can't be loaded as its index says, by name."""
        return {}

    def export_kind(self) -> tuple[str, str]:
        """The loaded base's kind, as ModelSpec and as sd-scripts name it."""
        return self.export_names.architecture, self.export_names.version

    @property
    def is_published_size(self) -> bool:
        """Whether the denoiser has the sizes of the bases that `export_kind` names."""
        config = self.denoiser.config

        def value(key: str) -> Any:
            found = config.get(key)
            return tuple(found) if isinstance(found, list) else found

        return all(value(key) in values for key, values in self.export_names.sizes.items())

    def lora_targets(self) -> Sequence[str] | str:
        """`targets`; or an expression that leaves out those of them which have no effect."""
        return self.targets

    @property
    def denoiser(self) -> Any:
        """The UNet or transformer: the module that is adapted."""
        return getattr(self.pipeline, self.denoiser_name)

    @property
    def resolution(self) -> int:
        """Default side in pixels of the square images that the pipeline makes."""
        return int(self.pipeline.default_sample_size) * int(self.pipeline.vae_scale_factor)

    @property
    def multiple(self) -> int:
        """Number of pixels that every side of an image must be a multiple of."""
        return int(self.pipeline.vae_scale_factor) * self.patch

    @property
    def largest(self) -> int | None:
        """The longest side in pixels that the denoiser has positions for; None: no limit."""
        return None

    def tokens(self, latent: Sequence[int]) -> int:
        """Count the denoiser's tokens for a latent of this shape, [..., h, w]."""
        return (latent[-2] // self.patch) * (latent[-1] // self.patch)

    def mu(self, config: Mapping[str, Any], tokens: int) -> float:
        """Compute the dynamic shift of the noise schedule for `tokens`, as the pipeline does."""
        from diffusers.pipelines.flux.pipeline_flux import calculate_shift

        shift = calculate_shift(
            tokens,
            config.get("base_image_seq_len", 256),
            config.get("max_image_seq_len", 4096),
            config.get("base_shift", 0.5),
            config.get("max_shift", 1.15),
        )
        return float(shift)

    def encode_image(self, pixels: Tensor) -> Any:
        """Call the autoencoder's `encode` with images, [images, 3, height, width]."""
        return self.pipeline.vae.encode(pixels)

    def latents(self, encoded: Any) -> Tensors:
        """Scale the output of the autoencoder's `encode` as the scheduler expects latents.

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
        """Encode captions with the pipeline's own `encode_prompt`.

        The empty caption is the unconditional branch of guidance.

        Args:
            captions: all of them are empty, or none is.
            device: where the text encoders are.

        Returns:
            Tensors of each caption, such as `embeds`, [tokens, width].
        """

    @property
    def text_encoders(self) -> dict[str, Any]:
        """The text encoders that can be adapted too, by their names in the pipeline."""
        return {}

    def conditions(self, text: Sequence[Tensors], images: Sequence[Tensors]) -> Tensors:
        """Batch what conditions the denoiser, each tensor [rows, ...].

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
        """Call the denoiser; the prediction has the latents' shape.

        Args:
            model: the denoiser, as the training loop has wrapped it.
            noisy: [rows, channels, h, w], in the denoiser's dtype.
            timesteps: [rows], of the scheduler's `num_train_timesteps`.
            conditions: see `conditions`, in the denoiser's dtype.
            guidance: for a denoiser that takes the guidance scale as an input.
        """

    def uses_empty(self, guidance: float) -> bool:
        """Tell whether sampling with this guidance scale needs the empty caption."""
        return guidance > 1

    def sampling(
        self,
        text: Sequence[Tensors],
        empty: Tensors | None,
        guidance: float,
        device: torch.device,
    ) -> dict[str, Any]:
        """Make the arguments of a call of the pipeline from stored embeddings.

        Args:
            text: embeddings of each image's prompt.
            empty: embeddings of the empty caption, if `uses_empty`.
            guidance: guidance scale; 1 switches guidance off.
            device: where the pipeline is.
        """
        names = {"embeds": "prompt_embeds", "pooled": "pooled_prompt_embeds"}
        inputs = self.guidance_inputs(guidance, self.denoiser.config)
        for name in text[0]:
            value = torch.stack([t[name] for t in text])
            inputs[names[name]] = value.to(device)
            if empty is not None:
                negative = empty[name].expand_as(value)
                inputs[f"negative_{names[name]}"] = negative.to(device)
        return inputs

    @classmethod
    def guidance_inputs(cls, guidance: float, denoiser: Mapping[str, Any]) -> dict[str, Any]:
        """Name the guidance as a call of the pipeline does.

        Args:
            guidance: guidance scale; 1 switches guidance off.
            denoiser: configuration of the denoiser.
        """
        return {"guidance_scale": guidance}

    def style_blocks(self) -> Sequence[nn.Module]:
        """Choose the blocks of the denoiser whose outputs describe an image's style."""
        blocks = self._blocks()
        places = {len(blocks) * (i + 1) // DESCRIBED - 1 for i in range(DESCRIBED)}
        return [blocks[i] for i in sorted(places) if i >= 0]

    def _blocks(self) -> list[nn.Module]:
        model = self.denoiser
        return [*model.transformer_blocks, *getattr(model, "single_transformer_blocks", ())]

    def image_features(self, output: Any, tokens: int) -> Tensor:
        """Select the image's part of a block's output, [rows, tokens, channels]."""
        features: Tensor = output[1]
        return features

    def probe(self, noise: Noise) -> tuple[Tensor, Tensors]:
        """Make a small latent and conditions for one call of `predict`.

        Args:
            noise: gives normal random numbers of a shape, in the denoiser's dtype.
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
        """The encoders of `text_parts` that the pipeline has, by name."""
        found = {name: getattr(self.pipeline, name, None) for name in self.text_parts}
        return {name: model for name, model in found.items() if model is not None}

    @abstractmethod
    def text_targets(self, name: str) -> Sequence[str] | str:
        """Name the modules of a text encoder that LoRA adapts."""

    @abstractmethod
    def tokens_of(self, captions: Sequence[str]) -> list[Tensors]:
        """Tokenize captions for `embed`, which trains text encoders.

        Returns:
            For each caption token ids, [tokens], under the name of each of `text_encoders`, and
            `zeros`: whether its embeddings are zeros instead.
        """

    @abstractmethod
    def embed(self, models: Mapping[str, nn.Module], tokens: Tensors) -> Tensors:
        """Compute the embeddings of `encode_text` from tokens, with gradients.

        Args:
            models: the `text_encoders`, as the training loop has wrapped them.
            tokens: stacked results of `tokens_of`, [rows, ...].
        """


def _affine(config: Any, device: torch.device) -> tuple[Tensor, Tensor]:
    # The pipelines apply the inverse before they decode.
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
