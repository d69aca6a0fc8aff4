"""MatchNet: a small two-tower network that scores whether an icon shows what its caption names.

An image is described by its outlines and the places of its colours, much as by histograms of
oriented gradients (Dalal and Triggs, CVPR 2005), because the outlines of a thing are similar in
most styles. A caption is a bag of words and letter trigrams. Both are embedded in one space by
contrastive training as in CLIP (Radford et al., 2021), but on icons and their names only
(tools/starter/match.py). The weights are in assets/prompt-match.
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

from mmtune.errors import BaseModelError
from mmtune.system.tensors import load_tensors

if TYPE_CHECKING:
    from pathlib import Path

SIDE = 48  # pixels along a side of the input
WEIGHTS_FILE = "model.safetensors"
WIDTH = 128  # of the shared embeddings
HIDDEN = 512  # width of the image tower's hidden layer
BUCKETS = 4096  # hash buckets of words and their trigrams
LETTERS = 3  # letters of a trigram
ANGLES = 9  # bins of a line's angle, over half a turn
FINE, COARSE = 8, 4  # cells along a side of the two grids
FEATURES = (FINE**2 + COARSE**2) * ANGLES + FINE**2 + 3 * COARSE**2
INK = 0.15  # pixels that differ more from the background, in any channel, belong to the icon
# Words that captions put around the name of a thing.
STOPWORDS = frozenset(
    [
        *("a", "an", "the", "of", "in", "on", "and", "with"),
        *("icon", "picture", "image", "style", "drawing"),
    ]
)


class MatchNet(nn.Module):
    """Embeds icons and captions as unit vectors; an icon is near to the captions that it shows."""

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
        self.scale = nn.Parameter(
            torch.tensor(2.7)
        )  # logarithm of the contrastive loss's inverse temperature

    def images(self, x: Tensor) -> Tensor:
        """Embed images as unit vectors, [n, WIDTH].

        Args:
            x: RGB from 0 to 1, [n, 3, SIDE, SIDE].
        """
        return self.described(descriptors(x))

    def described(self, features: Tensor) -> Tensor:
        """Embed the result of `descriptors`, [n, FEATURES], as unit vectors, [n, WIDTH]."""
        return F.normalize(self.picture((features - self.mean) / self.unit), dim=1)

    def texts(self, captions: Sequence[str]) -> Tensor:
        """Embed captions as unit vectors, [captions, WIDTH]."""
        found = [pieces(caption) for caption in captions]
        device = self.scale.device
        flat = torch.tensor([p for each in found for p in each], device=device)
        starts = torch.tensor([0, *(len(each) for each in found[:-1])]).cumsum(0).to(device)
        bags = self.pieces(flat, starts)
        return F.normalize(bags + self.caption(F.relu(bags)), dim=1)


def load_match_net(folder: Path) -> MatchNet:
    """Load the trained network in evaluation mode, frozen.

    Args:
        folder: holds `model.safetensors`.

    Raises:
        BaseModelError: the file is missing or damaged.
    """
    net = MatchNet()
    net.load_state_dict(
        load_tensors(folder / WEIGHTS_FILE, BaseModelError)
    )  # stored in half precision
    return net.requires_grad_(False).eval()


def descriptors(x: Tensor) -> Tensor:
    """Describe an icon's lines, area and colours, whatever its place and size, [n, FEATURES].

    Args:
        x: RGB from 0 to 1, [n, 3, SIDE, SIDE]. The median colour of the image's rim is taken as
            the background.
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
    """The smallest square that holds the whole icon, scaled up to SIDE."""
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
    """Normalize each cell's histogram, less so if it holds few lines, [n, ANGLES, h, w]."""
    strength = cells.norm(dim=1, keepdim=True)
    typical = strength.mean((2, 3), keepdim=True)
    found: Tensor = cells / (strength + 0.5 * typical + 1e-6)
    return found


@cache
def pieces(caption: str) -> tuple[int, ...]:
    """Hash a caption's words and their letter trigrams into buckets; there is at least one.

    Words are lower case without punctuation. Stopwords are left out, unless there are no others.
    """
    words = re.findall(r"\w+", caption.lower())
    words = [word for word in words if word not in STOPWORDS] or words or [""]
    found: list[int] = []
    for word in words:
        marked = f"<{word}>"
        parts = [marked[i : i + LETTERS] for i in range(len(marked) - LETTERS + 1)]
        # The word itself counts as much as all of its trigrams.
        found += [_bucket("=" + word)] * max(1, len(parts)) + [_bucket(part) for part in parts]
    return tuple(found)


def _bucket(piece: str) -> int:
    # crc32 is the same on every machine and in every run; hash() isn't.
    return zlib.crc32(piece.encode()) % BUCKETS
