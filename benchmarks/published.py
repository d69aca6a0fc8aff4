"""Image bases at their published sizes with random weights, which hold and compute as much as
trained ones.

The arguments of a denoiser are those of its `config.json`, as `Published.source` says. The weights
are drawn on the device, block by block, and quantized at once. So nothing is read from a disk, and
the device never holds more than one block unquantized.

Stable Diffusion 1.5 and SDXL have their text encoders. The other families have none: their captions
are random embeddings of the published widths and lengths. Training reads captions from the cache,
so its steps don't differ. But a real base's text encoders rest on the same device
(`Published.encoders`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from shrunk import NATIVE, parts, pipeline_of, unet, vae
from torch import Tensor, nn

from mmtune.image.diffusion.base import DiffusionBase
from mmtune.image.diffusion.families import Family, family_class
from mmtune.image.diffusion.quantize import quantize
from mmtune.image.image_options import Quantize
from mmtune.system.hashing import hash_json
from mmtune.system.quiet import quiet

CAPTION = 64  # tokens where the captions' own length counts (Qwen-Image, Z-Image)
READ = 32  # of Chroma's 512; its other tokens are masked padding
STD = 0.02  # of random weights: the output stays finite through 60 blocks
# Parameters of text encoders, by the headers of their safetensors.
CLIP_L, CLIP_G, T5 = 123_650_304, 694_659_840, 4_762_310_656
QWEN3_4B, QWEN25_VL, MISTRAL = 4_022_468_096, 8_292_166_656, 24_011_361_280


class Cut:
    """Divides widths, and numbers of heads and blocks; `shrunk.py` keeps the depth of UNets."""

    def __init__(self, shrink: int) -> None:
        self.shrink = shrink

    def __call__(self, width: int) -> int:
        return max(8, width // self.shrink)

    def count(self, number: int) -> int:
        """Heads or blocks: at least one."""
        return max(1, number // self.shrink)


@dataclass(frozen=True)
class Published:
    """One base.

    Attributes:
        title: for the table.
        source: where its sizes are published.
        parameters: of the denoiser, in full.
        pipeline: diffusers' class.
        transformer: diffusers' class; None: a UNet of `shrunk.py`.
        arguments: of the transformer.
        caption: shape of each tensor of a caption.
        encoders: parameters of the text encoders, which are left out; 0: they are there.
        vae: arguments of AutoencoderKL; None: another class.
        schedule: arguments of the scheduler.
    """

    title: str
    source: str
    parameters: int
    pipeline: str
    transformer: str | None = None
    arguments: Callable[[Cut], dict[str, Any]] = lambda cut: {}
    caption: Callable[[Cut], dict[str, tuple[int, ...]]] = lambda cut: {}
    encoders: int = 0
    vae: Mapping[str, Any] | None = None
    schedule: Mapping[str, Any] = field(default_factory=dict)


# VAE configurations: `vae/config.json` of the same repositories. Schedules don't change the costs.
FLUX_VAE = {"latent_channels": 16, "scaling_factor": 0.3611, "shift_factor": 0.1159}
SD3_VAE = {"latent_channels": 16, "scaling_factor": 1.5305, "shift_factor": 0.0609}
DYNAMIC = {"shift": 3.0, "use_dynamic_shifting": True}


def _flux(cut: Cut) -> dict[str, Any]:
    return {
        "in_channels": 64,
        "num_layers": cut.count(19),
        "num_single_layers": cut.count(38),
        "attention_head_dim": 128,
        "num_attention_heads": cut.count(24),
        "joint_attention_dim": cut(4096),
    }


def _flux2(heads: int, layers: int, single: int, text: int, guided: bool) -> Any:
    return lambda cut: {
        "in_channels": 128,
        "num_layers": cut.count(layers),
        "num_single_layers": cut.count(single),
        "attention_head_dim": 128,
        "num_attention_heads": cut.count(heads),
        "joint_attention_dim": cut(text),
        "guidance_embeds": guided,
    }


BASES: dict[str, Published] = {  # smallest first
    "sd": Published(
        "Stable Diffusion 1.5",
        "stable-diffusion-v1-5/stable-diffusion-v1-5, unet/config.json; the parameters: diffusers' "
        "documentation of ModelMixin.num_parameters",
        859_520_964,
        "StableDiffusionPipeline",
    ),
    "sd35-medium": Published(
        "Stable Diffusion 3.5 medium",
        "stabilityai/stable-diffusion-3.5-medium, transformer/config.json; diffusers' "
        "scripts/convert_sd3_to_diffusers.py; published as 2.5 B, with the "
        "table of 384 x 384 positions, which is no parameter",
        2_243_171_520,
        "StableDiffusion3Pipeline",
        "SD3Transformer2DModel",
        lambda cut: {
            "sample_size": 128,
            "num_layers": cut.count(24),
            "attention_head_dim": 64,
            "num_attention_heads": cut.count(24),
            "joint_attention_dim": cut(4096),
            "caption_projection_dim": 64 * cut.count(24),
            "pooled_projection_dim": cut(2048),
            "pos_embed_max_size": 384,
            "dual_attention_layers": tuple(range(cut.count(13))),
            "qk_norm": "rms_norm",
        },
        lambda cut: {"embeds": (77 + 256, cut(4096)), "pooled": (cut(2048),)},
        CLIP_L + CLIP_G + T5,
        SD3_VAE,
        {"shift": 3.0},
    ),
    "sdxl": Published(
        "SDXL 1.0",
        "stabilityai/stable-diffusion-xl-base-1.0, unet/config.json",
        2_567_463_684,
        "StableDiffusionXLPipeline",
    ),
    "flux2-klein-4b": Published(
        "FLUX.2 [klein] base 4B",
        "diffusers' scripts/convert_flux2_to_diffusers.py (klein-4b); published as 4 B",
        3_875_544_576,
        "Flux2KleinPipeline",
        "Flux2Transformer2DModel",
        _flux2(24, 5, 20, 7680, guided=False),
        lambda cut: {"embeds": (512, cut(7680))},
        QWEN3_4B,
        schedule=DYNAMIC,
    ),
    "z-image": Published(
        "Z-Image",
        "Tongyi-MAI/Z-Image-Turbo, transformer/config.json; the code of Tongyi-MAI/Z-Image has the "
        "same values as defaults (src/config); published as 6 B",
        6_154_908_736,
        "ZImagePipeline",
        "ZImageTransformer2DModel",
        lambda cut: {
            "in_channels": 16,
            "dim": 128 * cut.count(30),
            "n_layers": cut.count(30),
            "n_refiner_layers": cut.count(2),
            "n_heads": cut.count(30),
            "n_kv_heads": cut.count(30),
            "cap_feat_dim": cut(2560),
            "axes_dims": [32, 48, 48],
            "axes_lens": [1536, 512, 512],
        },
        lambda cut: {"embeds": (CAPTION, cut(2560))},
        QWEN3_4B,
        FLUX_VAE,
        {"shift": 6.0},
    ),
    "chroma": Published(
        "Chroma1-HD",
        "lodestones/Chroma1-HD, transformer/config.json (diffusers' defaults); published as 8.9 B",
        8_899_983_424,
        "ChromaPipeline",
        "ChromaTransformer2DModel",
        lambda cut: {
            **_flux(cut),
            "approximator_num_channels": 64,
            "approximator_hidden_dim": cut(5120),
            "approximator_layers": cut.count(5),
        },
        lambda cut: {"embeds": (512, cut(4096)), "text_mask": (512,)},
        T5,
        FLUX_VAE,
        DYNAMIC,
    ),
    "flux-dev": Published(
        "FLUX.1 [dev]",
        "black-forest-labs/FLUX.1-dev, transformer/config.json; diffusers' "
        "scripts/convert_flux_to_diffusers.py; published as 12 B",
        11_901_408_320,
        "FluxPipeline",
        "FluxTransformer2DModel",
        lambda cut: {
            **_flux(cut),
            "pooled_projection_dim": cut(768),
            "guidance_embeds": True,
        },
        lambda cut: {"embeds": (512, cut(4096)), "pooled": (cut(768),)},
        CLIP_L + T5,
        FLUX_VAE,
        DYNAMIC,
    ),
    "qwen-image": Published(
        "Qwen-Image",
        "Qwen/Qwen-Image, transformer/config.json; published as 20 B",
        20_430_401_088,
        "QwenImagePipeline",
        "QwenImageTransformer2DModel",
        lambda cut: {
            "in_channels": 64,
            "out_channels": 16,
            "num_layers": cut.count(60),
            "attention_head_dim": 128,
            "num_attention_heads": cut.count(24),
            "joint_attention_dim": cut(3584),
        },
        lambda cut: {"embeds": (CAPTION, cut(3584))},
        QWEN25_VL,
        schedule={
            "use_dynamic_shifting": True,
            "base_shift": 0.5,
            "max_shift": 0.9,
            "max_image_seq_len": 8192,
            "shift_terminal": 0.02,
        },
    ),
    "flux2-dev": Published(
        "FLUX.2 [dev]",
        "diffusers' scripts/convert_flux2_to_diffusers.py (flux2-dev); published as 32 B",
        32_223_281_152,
        "Flux2Pipeline",
        "Flux2Transformer2DModel",
        _flux2(48, 8, 48, 15360, guided=True),
        lambda cut: {"embeds": (512, cut(15360))},
        MISTRAL,
        schedule=DYNAMIC,
    ),
}


def denoiser(name: str, shrink: int = 1) -> Any:
    """The UNet or transformer of one of the `BASES`, on the device that is the default."""
    import diffusers

    base = BASES[name]
    if base.transformer is None:
        return unet(name, shrink)
    return getattr(diffusers, base.transformer)(**base.arguments(Cut(shrink)))


def autoencoder(name: str, shrink: int = 1) -> Any:
    """The autoencoder of one of the `BASES`."""
    from diffusers import AutoencoderKL, AutoencoderKLFlux2, AutoencoderKLQwenImage

    base, cut = BASES[name], Cut(shrink)
    if base.transformer is None:
        return vae(shrink)
    if name == "qwen-image":
        return AutoencoderKLQwenImage(base_dim=cut(96))
    channels = tuple(cut(width) for width in (128, 256, 512, 512))
    groups = max(1, 32 // shrink)
    if base.vae is None:
        return AutoencoderKLFlux2(block_out_channels=channels, norm_num_groups=groups)
    return AutoencoderKL(
        block_out_channels=channels,
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        layers_per_block=2,
        norm_num_groups=groups,
        use_quant_conv=False,
        use_post_quant_conv=False,
        **base.vae,
    )


def side(name: str) -> int:
    """Published side in pixels."""
    return NATIVE.get(name, 1024)


def build(
    name: str,
    dtype: torch.dtype,
    device: torch.device,
    quantized: Quantize = "none",
    shrink: int = 1,
) -> DiffusionBase:
    """Make one of the `BASES` as `load_base` gives it, with weights drawn from seed 0.

    Args:
        name: of the base.
        dtype: number format of all weights.
        device: where they are drawn.
        quantized: how the denoiser's linear layers are held.
        shrink: divides all sizes, a power of two.
    """
    from accelerate import init_empty_weights

    torch.manual_seed(0)
    kind = family_class(BASES[name].pipeline)
    assert kind is not None
    with quiet(), init_empty_weights(include_buffers=False):
        pipeline = _pipeline(name, shrink)
    for part, model in pipeline.components.items():
        if isinstance(model, nn.Module):
            fill(model, dtype, device, quantized if part == kind.denoiser_name else "none")
            model.eval()
    pipeline.set_progress_bar_config(disable=True)
    family = kind(pipeline)
    if captions := BASES[name].caption(Cut(shrink)):
        _draw_captions(family, captions, dtype)
    content = hash_json(["random", name, shrink])
    hashes = dict.fromkeys((kind.denoiser_name, "vae", "text", "scheduler"), content)
    return DiffusionBase(name, pipeline, family, hashes, device, dtype, quantized)


def _pipeline(name: str, shrink: int) -> Any:
    import diffusers

    base = BASES[name]
    if base.transformer is None:
        return pipeline_of(name, parts(name, shrink))
    kind = getattr(diffusers, base.pipeline)
    encoders = ["text_encoder", "tokenizer"]
    if base.pipeline in ("FluxPipeline", "StableDiffusion3Pipeline"):
        encoders += ["text_encoder_2", "tokenizer_2"]
    given: dict[str, Any] = dict.fromkeys(encoders)
    if base.pipeline == "StableDiffusion3Pipeline":
        # Without T5 it would be trained with one token in the place of T5's 256.
        given |= {"text_encoder_3": nn.Identity(), "tokenizer_3": None}
    return kind(
        **given,
        transformer=denoiser(name, shrink),
        vae=autoencoder(name, shrink),
        scheduler=diffusers.FlowMatchEulerDiscreteScheduler(**base.schedule),
    )


def _draw_captions(
    family: Family, shapes: Mapping[str, tuple[int, ...]], dtype: torch.dtype
) -> None:
    def encode(captions: list[str], device: torch.device) -> list[dict[str, Tensor]]:
        return [{key: one(key, shape) for key, shape in shapes.items()} for _ in captions]

    def one(key: str, shape: tuple[int, ...]) -> Tensor:
        if key == "text_mask":
            return (torch.arange(*shape) < READ).to(dtype)
        return torch.randn(shape).to(dtype)

    family.encode_text = encode  # type: ignore[method-assign]


def fill(
    model: nn.Module, dtype: torch.dtype, device: torch.device, quantized: Quantize = "none"
) -> None:
    """Draw the weights of `model` on `device` in place, and quantize each block at once.

    Args:
        model: its parameters are on the meta device, its buffers are computed.
        dtype: of the parameters and the stored buffers.
        device: of both.
        quantized: see `mmtune.image.diffusion.quantize`.
    """

    def done(block: nn.Module) -> nn.Module:
        for module in block.modules():
            _draw(module, dtype, device)
        holder = nn.ModuleDict({"block": block})  # a linear layer itself is replaced in its holder
        quantize(holder, quantized, device)
        return holder["block"]

    _draw(model, dtype, device)
    for name, child in list(model.named_children()):
        if isinstance(child, nn.ModuleList):
            for i, block in enumerate(child):
                child[i] = done(block)
        else:
            setattr(model, name, done(child))


def _draw(module: nn.Module, dtype: torch.dtype, device: torch.device) -> None:
    """Parameters of this module alone: norms keep their input, other weights are normal."""
    for name, weight in module._parameters.items():
        if weight is not None:
            drawn = torch.empty(weight.shape, dtype=dtype, device=device)
            if weight.ndim > 1:
                drawn.normal_(std=STD)
            else:
                drawn.fill_(0 if name.endswith("bias") else 1)
            module._parameters[name] = nn.Parameter(drawn, requires_grad=False)
    for name, buffer in module._buffers.items():
        if buffer is not None:
            stored = name not in module._non_persistent_buffers_set
            cast = dtype if stored and buffer.is_floating_point() else buffer.dtype
            module._buffers[name] = buffer.to(device, cast)
