"""Stable Diffusion 1.5 and SDXL with narrower layers, for benchmarks: their costs in proportion."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from PIL import Image, ImageDraw

from mmtune.system.processes import pick_device
from mmtune.system.quiet import quiet
from mmtune.system.resources import resource

TOKENS = 77
NATIVE = {"sd": 512, "sdxl": 1024}  # pixels
# With half the pixels a side these keep the encoders' share of the cost (see `share`).
SHRINK = {"sd": 4, "sdxl": 8}


def parts(kind: str, shrink: int) -> dict[str, Any]:
    """The trained and frozen networks of SD 1.5 or SDXL, all widths divided by `shrink`."""
    made = {"vae": vae(shrink), "text_encoder": _text(768, 12, 12, shrink, projected=False)}
    if kind == "sdxl":
        made["text_encoder_2"] = _text(1280, 32, 20, shrink, projected=True)
    return {**made, "unet": unet(kind, shrink)}


def _text(width: int, layers: int, heads: int, shrink: int, projected: bool) -> Any:
    from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

    config = CLIPTextConfig(
        vocab_size=len(tokenizer()),
        hidden_size=width // shrink,
        intermediate_size=4 * width // shrink,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        max_position_embeddings=TOKENS,
        projection_dim=width // shrink,
        bos_token_id=0,
        eos_token_id=1,
        pad_token_id=1,
    )
    return (CLIPTextModelWithProjection if projected else CLIPTextModel)(config)


def _channels(shrink: int, *published: int) -> tuple[int, ...]:
    return tuple(width // shrink for width in published)


def _groups(shrink: int) -> int:
    return 32 // shrink if shrink < 32 else 1


def vae(shrink: int) -> Any:
    """Their autoencoder."""
    from diffusers import AutoencoderKL

    return AutoencoderKL(
        block_out_channels=_channels(shrink, 128, 256, 512, 512),
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        layers_per_block=2,
        norm_num_groups=_groups(shrink),
        latent_channels=4,
    )


def unet(kind: str, shrink: int) -> Any:
    """Their denoiser."""
    from diffusers import UNet2DConditionModel

    if kind == "sd":
        cross = "CrossAttnDownBlock2D", "CrossAttnUpBlock2D"
        own: dict[str, Any] = {
            "block_out_channels": _channels(shrink, 320, 640, 1280, 1280),
            "down_block_types": (cross[0],) * 3 + ("DownBlock2D",),
            "up_block_types": ("UpBlock2D",) + (cross[1],) * 3,
            "attention_head_dim": 8,
            "cross_attention_dim": 768 // shrink,
        }
    else:
        own = {
            "block_out_channels": _channels(shrink, 320, 640, 1280),
            "down_block_types": ("DownBlock2D",) + ("CrossAttnDownBlock2D",) * 2,
            "up_block_types": ("CrossAttnUpBlock2D",) * 2 + ("UpBlock2D",),
            "transformer_layers_per_block": (1, 2, 10),
            "attention_head_dim": (5, 10, 20),
            "cross_attention_dim": 2048 // shrink,
            "use_linear_projection": True,
            "addition_embed_type": "text_time",
            "addition_time_embed_dim": 256 // shrink,
            "projection_class_embeddings_input_dim": 2816 // shrink,
        }
    return UNet2DConditionModel(
        sample_size=NATIVE[kind] // 8, layers_per_block=2, norm_num_groups=_groups(shrink), **own
    )


def tokenizer() -> Any:
    """The starter's, for captions of the published length."""
    from transformers import CLIPTokenizer

    folder = resource("assets", "starter-icons") / "tokenizer_2"
    return CLIPTokenizer.from_pretrained(folder, model_max_length=TOKENS)


def pipeline_of(kind: str, made: dict[str, Any]) -> Any:
    """The pipeline of these `parts`."""
    from diffusers import DDIMScheduler, StableDiffusionPipeline, StableDiffusionXLPipeline

    words = tokenizer()
    scheduler = DDIMScheduler(
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        clip_sample=False,
        steps_offset=1,
    )
    if kind == "sd":
        return StableDiffusionPipeline(
            **made,
            tokenizer=words,
            scheduler=scheduler,
            safety_checker=None,
            feature_extractor=None,
            requires_safety_checker=False,
        )
    return StableDiffusionXLPipeline(
        **made, tokenizer=words, tokenizer_2=words, scheduler=scheduler, add_watermarker=False
    )


def make(kind: str, shrink: int, folder: Path, dtype: torch.dtype = torch.float32) -> None:
    """Save a pipeline with random weights; drawn by the accelerator where there is one."""
    torch.manual_seed(0)
    with pick_device():
        made = {name: part.to(dtype) for name, part in parts(kind, shrink).items()}
    with quiet():
        pipeline_of(kind, made).save_pretrained(folder)


def share(kind: str, shrink: int, side: int) -> float:
    """Operations of the encoders over those of one pass of the denoiser, for one picture."""
    from torch.utils.flop_counter import FlopCounterMode

    def count(run: Callable[[], Any]) -> int:
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            run()
        return int(counter.get_total_flops())

    with torch.device("meta"):
        made = parts(kind, shrink)
        unet, latent = made["unet"], side // 8
        pixels, noisy = torch.zeros(1, 3, side, side), torch.zeros(1, 4, latent, latent)
        ids = torch.zeros(1, TOKENS, dtype=torch.long)
        embeds = torch.zeros(1, TOKENS, unet.config.cross_attention_dim)
        added = {"text_embeds": torch.zeros(1, 1280 // shrink), "time_ids": torch.zeros(1, 6)}
        step = torch.zeros(1)
        encode = count(lambda: made["vae"].encoder(pixels))
        for name in ("text_encoder", "text_encoder_2"):
            if name in made:
                layers = made[name]
                encode += count(lambda layers=layers: layers(ids))  # type: ignore[misc]
        denoise = count(lambda: unet(noisy, step, embeds, added_cond_kwargs=added))
    return encode / denoise


def pictures(folder: Path, count: int, side: int) -> Path:
    """Coloured shapes on white, a quarter larger than they are trained at, with captions beside."""
    folder.mkdir(parents=True, exist_ok=True)
    draw, size = random.Random(0), side * 5 // 4
    for i in range(count):
        image = Image.new("RGB", (size, size), "white")
        pen = ImageDraw.Draw(image)
        for _ in range(6):
            x, y, width = (draw.randrange(size) for _ in range(3))
            colour = tuple(draw.randrange(256) for _ in range(3))
            pen.ellipse((x, y, x + width, y + width // 2 + 1), fill=colour)
        image.save(folder / f"shapes-{i}.png")
        caption = f"picture number {i} of coloured shapes"
        (folder / f"shapes-{i}.txt").write_text(caption, encoding="utf-8")
    return folder
