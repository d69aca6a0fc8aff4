"""What one token in the place of T5's 256 zeros saves in Stable Diffusion 3.

    python benchmarks/sd3_without_t5.py --blocks 2 --pixels 512 --repeats 5

A transformer with the widths and token counts of SD 3 medium (24 heads of 64, a text of 77 + 256
tokens of 4096, patches of 2x2 of a latent of an eighth of the pixels) and random weights is called
with all 256 tokens, as diffusers' pipeline does, and with one. Only the number of blocks is
smaller: time grows with it, and embedding and output are little beside a block. In each repeat both
sides run once, in an order that changes; a share is of one repeat, and the median is given with its
range. LoRA of rank 4 is on the attention in training. Seconds are the processor's: on a busy
machine set OMP_NUM_THREADS=1.
"""

from __future__ import annotations

import argparse
import platform
import statistics
import time
from types import SimpleNamespace
from typing import Any

import torch
from diffusers import SD3Transformer2DModel
from peft import LoraConfig
from torch import Tensor

from mmtune.image.diffusion.families.family import JOINT_ATTENTION
from mmtune.image.diffusion.families.sd3 import T5_TOKENS, StableDiffusion3

WORDS, WIDTH, POOLED = 77, 4096, 2048


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--blocks", type=int, default=2)
    parser.add_argument("--pixels", type=int, nargs="+", default=[512])
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args()
    torch.manual_seed(0)
    model = SD3Transformer2DModel(
        sample_size=128,
        num_layers=options.blocks,
        attention_head_dim=64,
        num_attention_heads=24,
        joint_attention_dim=WIDTH,
        caption_projection_dim=24 * 64,
        pooled_projection_dim=POOLED,
        pos_embed_max_size=192,
        out_channels=16,
    )
    pipeline = SimpleNamespace(
        transformer=model, text_encoder_3=None, tokenizer_max_length=WORDS, patch_size=2
    )
    family = StableDiffusion3(pipeline)  # its processor leaves all 256 to diffusers' own
    model.requires_grad_(False)
    model.add_adapter(LoraConfig(r=4, target_modules=list(JOINT_ATTENTION)))
    words = torch.randn(1, WORDS, WIDTH)
    sides = {
        "256": torch.cat([words, torch.zeros(1, T5_TOKENS, WIDTH)], dim=1),
        "one": torch.cat([words, torch.zeros(1, 1, WIDTH)], dim=1),
    }
    print(f"{platform.processor() or platform.machine()}, {torch.get_num_threads()} threads, fp32")
    for pixels in options.pixels:
        noisy = torch.randn(1, 16, pixels // 8, pixels // 8)
        for what, work in (("forward", forward), ("training", training)):
            shares, seconds = [], {name: [] for name in sides}
            for embeds in sides.values():
                work(family, model, noisy, embeds)
            for repeat in range(options.repeats):
                names = sorted(sides, reverse=bool(repeat % 2))
                for name in names:
                    began = time.process_time()
                    work(family, model, noisy, sides[name])
                    seconds[name].append(time.process_time() - began)
                shares.append(1 - seconds["one"][-1] / seconds["256"][-1])
            medians = {name: statistics.median(found) for name, found in seconds.items()}
            print(
                f"{pixels} px, {family.tokens(noisy.shape)} image tokens, {what}: "
                f"{medians['256']:.2f} CPU s with 256, {medians['one']:.2f} s with one; saved "
                f"{statistics.median(shares):.0%} [{min(shares):.0%}, {max(shares):.0%}]"
            )


def predict(family: Any, model: Any, noisy: Tensor, embeds: Tensor) -> Tensor:
    conditions = {"embeds": embeds, "pooled": torch.ones(1, POOLED)}
    found: Tensor = family.predict(model, noisy, torch.tensor([500.0]), conditions)
    return found


@torch.no_grad()
def forward(family: Any, model: Any, noisy: Tensor, embeds: Tensor) -> None:
    predict(family, model, noisy, embeds)


def training(family: Any, model: Any, noisy: Tensor, embeds: Tensor) -> None:
    predict(family, model, noisy, embeds).square().sum().backward()


if __name__ == "__main__":
    main()
