"""Cross-attention that is told where to look, so that the U-Net need not find it out.

The text encoder holds each region of the picture in a position of its own (text.py). What
is left to learn is where: a U-Net has no coordinates, and upsampling copies a feature four
times, so that by gradient descent on the images alone telling the copies apart takes tens of
thousands of samples. With the wanted token of every query as one more loss it takes 150 steps.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn
from unet import TEXT as WIDTH
from unet import UNet

LENGTH, GRID = 36, 16  # tokens, of which the last 16 hold regions

START, FIRST_REGION = 0, LENGTH - GRID


class Lookups:
    """Watches the cross-attentions of `unet` and says how far each is from its target.

    At 4x4 every head looks up the region of its own position. At 16x16 a region covers 4x4
    pixels: each of 16 heads (two attentions of a block, 8 heads each) serves one of them,
    and looks at the start token, which holds nothing, everywhere else.
    """

    def __init__(self, unet: UNet) -> None:
        line = torch.arange(16)
        region = (line[:, None] // 4 * 4 + line // 4).flatten()
        self.place = (line[:, None] % 4 * 4 + line % 4).flatten()  # within the region
        self.on = True
        self.losses: dict[str, torch.Tensor] = {}
        self.right: dict[str, float] = {}
        fine = f"up_blocks.{len(unet.shape.widths) - 1 - unet.shape.picture}."
        self.fine: list[tuple[nn.Module, torch.Tensor]] = []
        for name, attention in unet.named_modules():
            if name.startswith(fine) and name.endswith(("attn1", "attn2")):
                serves = torch.arange(attention.heads) + 8 * name.endswith("attn2")
                self.fine.append((attention, serves))
                mine = self.place[:, None] == serves
                wanted = torch.where(mine, FIRST_REGION + region[:, None], START)
            elif name.endswith("attn2"):
                wanted = FIRST_REGION + torch.arange(GRID)[:, None].repeat(1, attention.heads)
            else:
                continue
            attention.register_forward_pre_hook(self._watch(name, wanted), with_kwargs=True)

    def _watch(self, name: str, wanted: torch.Tensor):
        active = (wanted != START).float()
        # The one head in 16 that has something to look up counts as much as the 15 others.
        weight = active / active.sum() + (1 - active) / (1 - active).sum().clamp(min=1)

        def watch(attention, inputs, keywords) -> None:
            if not self.on:
                return
            states = keywords["encoder_hidden_states"]
            given = states.flatten(1).any(1)  # an empty prompt has nothing to look up
            states, features = states[given], inputs[0][given]
            n = len(features)
            query = attention.to_q(features).unflatten(2, (attention.heads, -1))
            key = attention.to_k(states).unflatten(2, (attention.heads, -1))
            scores = torch.einsum("nphd,nkhd->nphk", query, key) * attention.scale
            goal = wanted.to(states.device).expand(n, -1, -1)
            error = F.cross_entropy(scores.float().flatten(0, 2), goal.flatten(), reduction="none")
            self.losses[name] = (error.view(goal.shape) * weight.to(error.device)).sum() / max(1, n)
            if n:
                hit = (scores.detach().argmax(3) == goal).float() * active.to(error.device)
                self.right[name] = float(hit.sum() / active.sum() / n)

        return watch

    def loss(self) -> torch.Tensor:
        """Of the latest forward pass, summed over the attentions."""
        return torch.stack(list(self.losses.values())).sum()

    @torch.no_grad()
    def read_pictures(self, reader: torch.Tensor, states: torch.Tensor) -> None:
        """Let what the 16x16 heads bring be the latents that the encoder predicts there.

        reader: (192, 192), the linear layer that the encoder was trained with, state to
        region; states: (n, 36, 192). Each head reads the 12 values of its pixel, and all
        heads write to the same 12 channels. The start token is made to bring nothing.
        """
        start = F.normalize(states[:, START].mean(0), dim=0)
        reader = reader - (reader @ start)[:, None] * start
        by_place = reader.view(12, GRID, WIDTH)
        for attention, serves in self.fine:
            attention.to_v.weight.copy_(by_place[:, serves].transpose(0, 1).flatten(0, 1))
            attention.to_out[0].weight.zero_()
            attention.to_out[0].weight[:12] = torch.eye(12).repeat(1, len(serves))
