"""Does a small picture show what its caption names? Two small towers of our own, home-trained.

Of a picture the outlines and where its colours lie are described, much as histograms of oriented
gradients do (Dalal and Triggs, CVPR 2005): lines of a thing are alike in most hands. That, and a
bag of words and letters, are brought into one space, trained contrastively as CLIP is (Radford et
al., 2021) but on icons and their names only (tools/starter/match.py). The weights are in
assets/prompt-match.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Sequence
from functools import cache
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor, nn

if TYPE_CHECKING:
    from pathlib import Path

SIDE = 48  # pixels of its input
WEIGHTS_FILE = "model.safetensors"
WIDTH = 128  # of the space that both share
HIDDEN = 512
BUCKETS = 4096  # that words and their parts are hashed into
LETTERS = 3  # of a part of a word
ANGLES = 9  # of lines, over half a turn
FINE, COARSE = 8, 4  # cells along a side
FEATURES = (FINE**2 + COARSE**2) * ANGLES + FINE**2 + 3 * COARSE**2
INK = 0.15  # farther from the ground's colour is drawn
# What captions say around a thing.
STOPWORDS = frozenset(
    [
        *("a", "an", "the", "of", "in", "on", "and", "with"),
        *("icon", "picture", "image", "style", "drawing"),
    ]
)


class MatchNet(nn.Module):
    """Unit vectors of pictures and of captions, near each other where the one shows the other."""

    mean: Tensor
    unit: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(FEATURES))
        self.register_buffer("unit", torch.ones(FEATURES))
        self.picture = nn.Sequential(
            nn.Dropout(0.2),
            nn.Linear(FEATURES, HIDDEN),
            nn.GELU(),
            nn.Dropout(0.3),
            nn.Linear(HIDDEN, WIDTH),
        )
        self.pieces = nn.EmbeddingBag(BUCKETS, WIDTH, mode="mean")
        self.caption = nn.Linear(WIDTH, WIDTH)
        self.scale = nn.Parameter(torch.tensor(2.7))  # logarithm

    def images(self, x: Tensor) -> Tensor:
        """Unit vectors, [n, WIDTH], of RGB from 0 to 1, [n, 3, SIDE, SIDE]."""
        return self.described(descriptors(x))

    def described(self, features: Tensor) -> Tensor:
        """Unit vectors, [n, WIDTH], of `descriptors`."""
        return F.normalize(self.picture((features - self.mean) / self.unit), dim=1)

    def texts(self, captions: Sequence[str]) -> Tensor:
        """Unit vectors of captions, [captions, WIDTH]."""
        found = [pieces(caption) for caption in captions]
        device = self.scale.device
        flat = torch.tensor([p for each in found for p in each], device=device)
        starts = torch.tensor([0, *(len(each) for each in found[:-1])]).cumsum(0).to(device)
        bags = self.pieces(flat, starts)
        return F.normalize(bags + self.caption(F.relu(bags)), dim=1)


def load_match_net(folder: Path) -> MatchNet:
    """The trained network, in evaluation mode."""
    from safetensors.torch import load_file

    net = MatchNet()
    net.load_state_dict(load_file(folder / WEIGHTS_FILE))  # stored in half precision
    return net.requires_grad_(False).eval()


def descriptors(x: Tensor) -> Tensor:
    """Lines, ink and colours of what is drawn, wherever it stands and however large, [n, FEATURES].

    Args:
        x: RGB from 0 to 1, [n, 3, SIDE, SIDE]; the ground is what most of the rim shows.
    """
    rim = torch.cat([x[..., 0, :], x[..., -1, :], x[..., 0], x[..., -1]], 2)
    ground = rim.median(2).values[..., None, None]
    x = _cropped(x, ground)
    ink = (x - ground).abs().amax(1, keepdim=True)

    padded = F.pad(x, (1, 1, 1, 1), mode="replicate")
    across = padded[..., 1:-1, 2:] - padded[..., 1:-1, :-2]
    down = padded[..., 2:, 1:-1] - padded[..., :-2, 1:-1]
    steep, channel = (across**2 + down**2).max(1, keepdim=True)
    angle = torch.atan2(down.gather(1, channel), across.gather(1, channel))
    place = (angle / torch.pi) % 1 * ANGLES  # a line has no direction
    spots = torch.arange(ANGLES, device=x.device).view(1, -1, 1, 1)
    near = (place - spots).abs()
    share = (1 - torch.minimum(near, ANGLES - near)).clamp(min=0)
    lines = share * steep.sqrt().sqrt()

    parts = [_unit(_cells(lines, FINE)), _unit(_cells(lines, COARSE)), _cells(ink.sqrt(), FINE)]
    colour = _cells((x - ground) * (ink > INK), COARSE)
    return torch.cat([part.flatten(1) for part in (*parts, colour)], 1)


def _cropped(x: Tensor, ground: Tensor) -> Tensor:
    """The smallest square that holds what is drawn, at full size."""
    smooth = F.avg_pool2d((x - ground).abs().amax(1, keepdim=True), 3, 1, 1)[:, 0] > INK
    spots = torch.linspace(-1, 1, x.shape[-1], device=x.device)

    def ends(drawn: Tensor) -> tuple[Tensor, Tensor]:
        low = torch.where(drawn, spots, torch.inf).amin(1)
        high = torch.where(drawn, spots, -torch.inf).amax(1)
        empty = ~drawn.any(1)
        return low.masked_fill(empty, -1.0), high.masked_fill(empty, 1.0)

    (left, right), (top, bottom) = ends(smooth.any(1)), ends(smooth.any(2))
    half = torch.maximum(right - left, bottom - top).clamp(min=0.4) / 2 + 1 / x.shape[-1]
    zero = torch.zeros_like(half)
    rows = [
        torch.stack([half, zero, (left + right) / 2], 1),
        torch.stack([zero, half, (top + bottom) / 2], 1),
    ]
    grid = F.affine_grid(torch.stack(rows, 1), list(x.shape), align_corners=False)
    return ground + F.grid_sample(x - ground, grid, align_corners=False)


def _cells(maps: Tensor, count: int) -> Tensor:
    """Means over `count` x `count` overlapping squares, [n, channels, count, count]."""
    step = SIDE // count
    reach = step // 4 if count == COARSE else step // 2
    return F.avg_pool2d(maps, step + 2 * reach, step, reach)


def _unit(cells: Tensor) -> Tensor:
    """Each cell's histogram in its own unit, as far as it holds any line, [n, ANGLES, h, w]."""
    strength = cells.norm(dim=1, keepdim=True)
    typical = strength.mean((2, 3), keepdim=True)
    found: Tensor = cells / (strength + 0.5 * typical + 1e-6)
    return found


@cache
def pieces(caption: str) -> tuple[int, ...]:
    """Buckets of a caption's words and of their runs of three letters; never none.

    What is hashed is lower case without punctuation; words that say nothing are left out unless
    there is no other.
    """
    words = re.findall(r"\w+", caption.lower())
    words = [word for word in words if word not in STOPWORDS] or words or [""]
    found: list[int] = []
    for word in words:
        marked = f"<{word}>"
        parts = [marked[i : i + LETTERS] for i in range(len(marked) - LETTERS + 1)]
        # The word itself counts as much as all of its parts.
        found += [_bucket("=" + word)] * max(1, len(parts)) + [_bucket(part) for part in parts]
    return tuple(found)


def _bucket(piece: str) -> int:
    # crc32 and not hash(): the same on every machine and in every run.
    return zlib.crc32(piece.encode()) % BUCKETS
