"""Small random pipelines of the real classes, saved as the folders that users have."""

from __future__ import annotations

import atexit
import shutil
import tempfile
from functools import cache
from pathlib import Path
from typing import Any

import torch
from PIL import Image, ImageDraw

from mmtune.config import RunConfig
from mmtune.image.diffusion.base import DiffusionBase, load_base
from mmtune.runs.recipes import configure
from tests.image import transformers

KINDS = ("sdxl", "sdxl-one-encoder", "sd")
LENGTH = 16  # tokens


def tokenizer() -> Any:
    """A CLIPTokenizer that spells: one token for each letter."""
    from tokenizers.pre_tokenizers import ByteLevel
    from transformers import CLIPTokenizer

    pieces = ["<|startoftext|>", "<|endoftext|>"]
    for letter in sorted(ByteLevel.alphabet()):
        pieces += [letter, letter + "</w>"]
    return CLIPTokenizer(
        vocab={piece: i for i, piece in enumerate(pieces)},
        merges=[],
        model_max_length=LENGTH,
        pad_token="<|endoftext|>",
        unk_token="<|endoftext|>",
    )


def text_encoder(vocabulary: int, width: int, projected: bool) -> Any:
    from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

    config = CLIPTextConfig(
        vocab_size=vocabulary,
        hidden_size=width,
        intermediate_size=2 * width,
        num_hidden_layers=3,
        num_attention_heads=2,
        max_position_embeddings=LENGTH,
        projection_dim=width,
        bos_token_id=0,
        eos_token_id=1,
        pad_token_id=1,
    )
    return (CLIPTextModelWithProjection if projected else CLIPTextModel)(config)


def pipeline(kind: str, prediction: str = "epsilon", zero_snr: bool = False) -> Any:
    """A random pipeline of 16x16 latents; images of 64x64 (tiny VAE) or 32x32 pixels."""
    if kind in transformers.KINDS:
        return transformers.pipeline(kind)
    from diffusers import (
        AutoencoderKL,
        AutoencoderTiny,
        DDIMScheduler,
        EulerDiscreteScheduler,
        StableDiffusionPipeline,
        StableDiffusionXLPipeline,
        UNet2DConditionModel,
    )

    torch.manual_seed(0)
    words = tokenizer()
    sdxl = kind != "sd"
    width = 16 if kind == "sd" else 32 if kind == "sdxl-one-encoder" else 48
    extra = (
        {
            "addition_embed_type": "text_time",
            "addition_time_embed_dim": 8,
            "projection_class_embeddings_input_dim": 32 + 6 * 8,
            "use_linear_projection": True,
        }
        if sdxl
        else {}
    )
    unet = UNet2DConditionModel(
        sample_size=16,
        in_channels=4,
        out_channels=4,
        layers_per_block=1,
        block_out_channels=(16, 32),
        norm_num_groups=8,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        cross_attention_dim=width,
        attention_head_dim=2,
        **extra,
    )
    if kind == "sdxl-one-encoder":
        vae: Any = AutoencoderTiny(
            latent_channels=4,
            encoder_block_out_channels=(8, 8, 8),
            decoder_block_out_channels=(8, 8, 8),
            num_encoder_blocks=(1, 1, 1),
            num_decoder_blocks=(1, 1, 1),
            scaling_factor=1.3,
        )
        # As in the starter: what the pipelines derive the scale of the latents from.
        vae.register_to_config(block_out_channels=[8, 8, 8])
    else:
        vae = AutoencoderKL(
            block_out_channels=(8, 16),
            down_block_types=("DownEncoderBlock2D",) * 2,
            up_block_types=("UpDecoderBlock2D",) * 2,
            norm_num_groups=4,
            latent_channels=4,
            scaling_factor=0.13 if sdxl else 0.18,
        )
    betas = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}
    # SDXL comes with Euler steps, SD 1.x and the starter with DDIM or like it.
    scheduler: Any = (
        EulerDiscreteScheduler(**betas, prediction_type=prediction)
        if kind == "sdxl"
        else DDIMScheduler(
            **betas,
            prediction_type=prediction,
            clip_sample=False,
            rescale_betas_zero_snr=zero_snr,
            timestep_spacing="trailing",
        )
    )
    common = {"vae": vae, "unet": unet, "scheduler": scheduler}
    if kind == "sd":
        return StableDiffusionPipeline(
            **common,
            text_encoder=text_encoder(len(words), 16, projected=False),
            tokenizer=words,
            safety_checker=None,
            feature_extractor=None,
            requires_safety_checker=False,
        )
    second = text_encoder(len(words), 32, projected=True)
    both = kind == "sdxl"
    return StableDiffusionXLPipeline(
        **common,
        text_encoder=text_encoder(len(words), 16, projected=False) if both else None,
        tokenizer=words if both else None,
        text_encoder_2=second,
        tokenizer_2=words,
        add_watermarker=False,
    )


def save(folder: Path, kind: str, prediction: str = "epsilon", zero_snr: bool = False) -> Path:
    pipeline(kind, prediction, zero_snr).save_pretrained(folder)
    return folder


@cache
def saved(kind: str, prediction: str = "epsilon", zero_snr: bool = False) -> Path:
    """The same, made once for all tests; nobody may write into it."""
    folder = Path(tempfile.mkdtemp(prefix="mmtune-tiny-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return save(folder / kind, kind, prediction, zero_snr)


def loaded(kind: str, prediction: str = "epsilon", zero_snr: bool = False) -> DiffusionBase:
    """A fresh base: adapters may be added to it."""
    return load_base(str(saved(kind, prediction, zero_snr)), torch.device("cpu"), torch.float32)


def brand(folder: Path, count: int = 12, size: tuple[int, int] = (40, 40)) -> Path:
    """A folder of outlined shapes on white, captioned by their file names."""
    folder.mkdir(parents=True, exist_ok=True)
    colours = ("red", "blue", "green", "yellow", "orange", "purple")
    for i in range(count):
        image = Image.new("RGB", size, "white")
        pen = ImageDraw.Draw(image)
        shape = (pen.ellipse, pen.rectangle)[i // len(colours) % 2]
        box = (4 + i % 5, 5, size[0] - 6, size[1] - 4 - i % 7)
        shape(box, fill=colours[i % len(colours)], outline="black", width=2)
        name = ("ball", "box")[i // len(colours) % 2]
        image.save(folder / f"{colours[i % len(colours)]} {name}.png")
    return folder


def config(base: Path, data: Path, out: Path, **overrides: str) -> RunConfig:
    """A short run with small settings."""
    values: dict[str, Any] = {
        "recipe": "brand_style",
        "modality": "image",
        "name": "run",
        "base": str(base),
        "out": str(out),
        "data": {"path": str(data), "validation": 0.2, "test": 0.2},
        "lora": {"rank": 2, "alpha": 4},
        "train": {"batch_size": 4, "epochs": 2, "lr": 1e-2, "precision": "fp32"},
        "task": {
            "steps": 2,
            "guidance": 2.0,
            "seeds": 1,
            "validation_images": 2,
            "scale_images": 2,
        },
    }
    return configure(values, "test", overrides)
