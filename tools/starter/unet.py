"""The denoiser in plain torch: the same function and weights as diffusers' UNet2DConditionModel.

Training needs nothing but torch with it, also on a machine without diffusers. `config(shape)`
gives diffusers' configuration, which the export writes; a test compares the two outputs.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

TEXT = 192  # width of the text states
TIME_IDS = (64.0, 64.0, 0.0, 0.0, 64.0, 64.0)  # SDXL: original size, crop, target size


@dataclass(frozen=True)
class Shape:
    """size, channels: of the latents. widths: of the levels, the finest first.

    heads: of the attention at each level, 0 for none. The level `picture` has cross-attention
    alone, on the way up alone; the others with heads have self- and cross-attention.
    """

    size: int = 16
    channels: int = 12
    widths: tuple[int, ...] = (96, 128, 256)
    heads: tuple[int, ...] = (8, 0, 4)
    picture: int = 0
    groups: int = 32

    @property
    def time(self) -> int:
        return 384


def config(shape: Shape) -> dict:
    """The keyword arguments that make diffusers' UNet2DConditionModel of this shape."""
    down, up = [], []
    for level, heads in enumerate(shape.heads):
        down.append("CrossAttnDownBlock2D" if heads and level != shape.picture else "DownBlock2D")
        up.append("CrossAttnUpBlock2D" if heads else "UpBlock2D")
    return {
        "sample_size": shape.size,
        "in_channels": shape.channels,
        "out_channels": shape.channels,
        "layers_per_block": 1,
        "block_out_channels": shape.widths,
        "down_block_types": tuple(down),
        "up_block_types": tuple(reversed(up)),
        "only_cross_attention": tuple(i == shape.picture for i in range(len(shape.widths))),
        "cross_attention_dim": TEXT,
        "attention_head_dim": tuple(h or 8 for h in shape.heads),  # diffusers' name for the number
        "norm_num_groups": shape.groups,
        "addition_embed_type": "text_time",
        "addition_time_embed_dim": 32,
        "time_embedding_dim": shape.time,
        "projection_class_embeddings_input_dim": TEXT + 6 * 32,
    }


def waves(t: Tensor, width: int) -> Tensor:
    """Cosines and sines of t (n,) at width / 2 frequencies: (n, width)."""
    half = width // 2
    rates = torch.exp(-math.log(10000) * torch.arange(half, device=t.device) / half)
    angles = t.float()[:, None] * rates
    return torch.cat([angles.cos(), angles.sin()], 1)


class Embedding(nn.Module):
    def __init__(self, width: int, out: int) -> None:
        super().__init__()
        self.linear_1, self.linear_2 = nn.Linear(width, out), nn.Linear(out, out)

    def forward(self, x: Tensor) -> Tensor:
        return self.linear_2(F.silu(self.linear_1(x)))


class Resnet(nn.Module):
    def __init__(self, width: int, out: int, time: int, groups: int) -> None:
        super().__init__()
        self.norm1 = nn.GroupNorm(groups, width, eps=1e-5)
        self.conv1 = nn.Conv2d(width, out, 3, 1, 1)
        self.time_emb_proj = nn.Linear(time, out)
        self.norm2 = nn.GroupNorm(groups, out, eps=1e-5)
        self.conv2 = nn.Conv2d(out, out, 3, 1, 1)
        if width != out:
            self.conv_shortcut = nn.Conv2d(width, out, 1)

    def forward(self, x: Tensor, time: Tensor) -> Tensor:
        h = self.conv1(F.silu(self.norm1(x)))
        h = h + self.time_emb_proj(F.silu(time))[:, :, None, None]
        h = self.conv2(F.silu(self.norm2(h)))
        return (self.conv_shortcut(x) if hasattr(self, "conv_shortcut") else x) + h


def attended(q: Tensor, k: Tensor, v: Tensor, causal: bool = False) -> Tensor:
    """Attention by plain products: (n, heads, length, width) each, the result like q.

    On a processor the backward pass of torch's own, scaled_dot_product_attention, takes a third of
    a whole step for heads as small as these.
    """
    if q.device.type == "cuda":
        return F.scaled_dot_product_attention(q, k, v, is_causal=causal)
    scores = (q * q.shape[-1] ** -0.5) @ k.transpose(-1, -2)
    if causal:
        later = torch.full(scores.shape[-2:], -torch.inf, dtype=scores.dtype).triu(1)
        scores = scores + later
    return scores.softmax(-1).to(v.dtype) @ v


class Attention(nn.Module):
    def __init__(self, width: int, heads: int, source: int) -> None:
        super().__init__()
        self.heads, self.scale = heads, (width // heads) ** -0.5
        self.to_q = nn.Linear(width, width, bias=False)
        self.to_k = nn.Linear(source, width, bias=False)
        self.to_v = nn.Linear(source, width, bias=False)
        self.to_out = nn.ModuleList([nn.Linear(width, width)])

    def forward(self, x: Tensor, encoder_hidden_states: Tensor) -> Tensor:
        def split(y: Tensor) -> Tensor:
            return y.unflatten(2, (self.heads, -1)).transpose(1, 2)

        source = encoder_hidden_states
        q, k, v = split(self.to_q(x)), split(self.to_k(source)), split(self.to_v(source))
        y = attended(q, k, v)
        return self.to_out[0](y.transpose(1, 2).flatten(2))


class Gated(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.proj = nn.Linear(width, 8 * width)

    def forward(self, x: Tensor) -> Tensor:
        value, gate = self.proj(x).chunk(2, 2)
        return value * F.gelu(gate)


class FeedForward(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.net = nn.Sequential(Gated(width), nn.Identity(), nn.Linear(4 * width, width))

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x)


class Block(nn.Module):
    """attn1: of the picture itself, or of the text too where `picture`; attn2: of the text."""

    def __init__(self, width: int, heads: int, picture: bool) -> None:
        super().__init__()
        self.picture = picture
        self.norm1, self.norm2, self.norm3 = (nn.LayerNorm(width) for _ in range(3))
        self.attn1 = Attention(width, heads, TEXT if picture else width)
        self.attn2 = Attention(width, heads, TEXT)
        self.ff = FeedForward(width)

    def forward(self, x: Tensor, text: Tensor) -> Tensor:
        y = self.norm1(x)
        x = x + self.attn1(y, encoder_hidden_states=text if self.picture else y)
        x = x + self.attn2(self.norm2(x), encoder_hidden_states=text)
        return x + self.ff(self.norm3(x))


class Transformer(nn.Module):
    def __init__(self, width: int, heads: int, picture: bool, groups: int) -> None:
        super().__init__()
        self.norm = nn.GroupNorm(groups, width, eps=1e-6)
        self.proj_in, self.proj_out = nn.Conv2d(width, width, 1), nn.Conv2d(width, width, 1)
        self.transformer_blocks = nn.ModuleList([Block(width, heads, picture)])

    def forward(self, x: Tensor, text: Tensor) -> Tensor:
        y = self.proj_in(self.norm(x)).flatten(2).transpose(1, 2)
        y = self.transformer_blocks[0](y, text)
        return x + self.proj_out(y.transpose(1, 2).unflatten(2, x.shape[2:]))


class Sampler(nn.Module):
    def __init__(self, width: int, stride: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(width, width, 3, stride, 1)


class Level(nn.Module):
    """The resnets of one level on one side, each with its attention, and the way to the next."""

    def __init__(
        self,
        shape: Shape,
        level: int,
        inputs: list[int],
        down: bool,
        last: bool,
    ) -> None:
        super().__init__()
        width, heads, picture = shape.widths[level], shape.heads[level], level == shape.picture
        self.resnets = nn.ModuleList([Resnet(i, width, shape.time, shape.groups) for i in inputs])
        if heads and not (down and picture):
            self.attentions = nn.ModuleList(
                [Transformer(width, heads, picture, shape.groups) for _ in inputs]
            )
        if not last:
            name = "downsamplers" if down else "upsamplers"
            setattr(self, name, nn.ModuleList([Sampler(width, 2 if down else 1)]))

    def step(self, i: int, x: Tensor, time: Tensor, text: Tensor) -> Tensor:
        x = self.resnets[i](x, time)
        return self.attentions[i](x, text) if hasattr(self, "attentions") else x


class UNet(nn.Module):
    """forward(x, t, states, pooled): what the scheduler's prediction_type says, shaped as x."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.shape = shape
        widths, n = shape.widths, len(shape.widths)
        self.conv_in = nn.Conv2d(shape.channels, widths[0], 3, 1, 1)
        self.time_embedding = Embedding(widths[0], shape.time)
        self.add_embedding = Embedding(TEXT + 6 * 32, shape.time)
        before = [widths[0], *widths[:-1]]
        self.down_blocks = nn.ModuleList(
            [Level(shape, i, [before[i]], True, i == n - 1) for i in range(n)]
        )
        self.mid_block = nn.Module()
        top = widths[-1]
        self.mid_block.attentions = nn.ModuleList(
            [Transformer(top, shape.heads[-1], False, shape.groups)]
        )
        self.mid_block.resnets = nn.ModuleList(
            [Resnet(top, top, shape.time, shape.groups) for _ in range(2)]
        )
        ups = []
        for i in reversed(range(n)):
            below = widths[min(i + 1, n - 1)]
            inputs = [below + widths[i], widths[i] + before[i]]
            ups.append(Level(shape, i, inputs, False, i == 0))
        self.up_blocks = nn.ModuleList(ups)
        self.conv_norm_out = nn.GroupNorm(shape.groups, widths[0], eps=1e-5)
        self.conv_out = nn.Conv2d(widths[0], shape.channels, 3, 1, 1)

    def forward(self, x: Tensor, t: Tensor, states: Tensor, pooled: Tensor) -> Tensor:
        ids = torch.tensor(TIME_IDS, device=x.device).repeat(len(x), 1)
        added = torch.cat([pooled, waves(ids.flatten(), 32).view(len(x), -1)], 1)
        time = self.time_embedding(waves(t, self.shape.widths[0])) + self.add_embedding(added)
        x = self.conv_in(x)
        kept = [x]
        for level in self.down_blocks:
            x = level.step(0, x, time, states)
            kept.append(x)
            if hasattr(level, "downsamplers"):
                x = level.downsamplers[0].conv(x)
                kept.append(x)
        x = self.mid_block.resnets[0](x, time)
        x = self.mid_block.attentions[0](x, states)
        x = self.mid_block.resnets[1](x, time)
        for level in self.up_blocks:
            for i in range(2):
                x = level.step(i, torch.cat([x, kept.pop()], 1), time, states)
            if hasattr(level, "upsamplers"):
                x = level.upsamplers[0].conv(F.interpolate(x, scale_factor=2.0, mode="nearest"))
        return self.conv_out(F.silu(self.conv_norm_out(x)))
