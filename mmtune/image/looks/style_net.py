"""What tells one hand from another in a small picture: statistics of palette, edge and line.

The statistics are fixed; a linear map that tools/starter/style.py fits makes them of use:
it divides by how much they vary among pictures of one style (within-class covariance
normalization, Hatch et al., Interspeech 2006). Its weights are in assets/style-encoder.
"""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor, nn

if TYPE_CHECKING:
    from pathlib import Path

SIDE = 64  # pixels of its input
WEIGHTS_FILE = "model.safetensors"
WHITE = 0.05  # darkest that any channel of the ground may be, below 1
SCALES = (1, 2, 4)  # pixels that are averaged before edges are taken
# Steps of each channel in a palette. Grids of several sizes have their corners at different
# colours, so that two colours which one of them takes for the same stand apart in another.
GRIDS = (5, 6, 7)


class StyleNet(nn.Module):
    """Images to unit vectors that are near each other where the look is the same.

    Args:
        features: how many statistics there are (`statistics`).
        width: of an embedding.
    """

    mean: Tensor
    projection: Tensor

    def __init__(self, features: int, width: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(features))
        self.register_buffer("projection", torch.zeros(features, width))

    def forward(self, x: Tensor) -> Tensor:
        """Unit vectors, [n, width], of RGB from 0 to 1 on white, [n, 3, SIDE, SIDE]."""
        return F.normalize((statistics(x) - self.mean) @ self.projection, dim=1)


def load_style_net(folder: Path) -> StyleNet:
    """The fitted network, in evaluation mode."""
    from safetensors.torch import load_file

    state = load_file(folder / WEIGHTS_FILE)
    features, width = state["projection"].shape
    net = StyleNet(features, width)
    net.load_state_dict(state)  # stored in half precision
    return net.eval()


def statistics(x: Tensor) -> Tensor:
    """Statistics of an image and its mirror image, which are equal, [n, features].

    Histograms are square roots of shares, so that a Euclidean distance of two is Hellinger's; all
    are over the pixels that aren't ground.

    Args:
        x: RGB from 0 to 1, [n, 3, SIDE, SIDE]; white is ground.
    """
    ink = (x.amin(1) < 1 - WHITE).float()
    parts = [*_place(ink), *_colours(x, ink), *_rims(x, ink)]
    for scale in SCALES:
        y, w = (F.avg_pool2d(z, scale) for z in (x, ink[:, None]))
        parts += _edges(y, w[:, 0])
    return torch.cat(parts, 1)


def _place(ink: Tensor) -> list[Tensor]:
    """How much is drawn, and how much of the square it fills."""
    rows, columns = ink.amax(2), ink.amax(1)
    spots = torch.arange(SIDE, device=ink.device).float() / SIDE
    top = torch.where(rows > 0, spots, 1.0).amin(1)
    bottom = torch.where(rows > 0, spots, 0.0).amax(1)
    # Left and right in an order that mirroring leaves alone.
    left = torch.where(columns > 0, spots, 1.0).amin(1)
    right = 1 - torch.where(columns > 0, spots, 0.0).amax(1)
    sides = [torch.minimum(left, right), torch.maximum(left, right)]
    return [torch.stack([ink.mean((1, 2)), top, bottom, *sides, rows.mean(1), columns.mean(1)], 1)]


def _colours(x: Tensor, ink: Tensor) -> list[Tensor]:
    high, low, light = x.amax(1), x.amin(1), x.mean(1)
    red, green, blue = x.unbind(1)
    maps = [light, high - low, red, green, blue, high, low]
    found = [_histogram(m, 0, 1, 12, ink) for m in maps]
    found += [_histogram(m, -1, 1, 13, ink) for m in (red - green, (red + green) / 2 - blue)]
    found += [_palette(x, steps, ink) for steps in GRIDS]
    # Shading from top to bottom.
    half = SIDE // 2
    upper, lower = (
        (light * ink)[:, part].sum((1, 2)) / (ink[:, part].sum((1, 2)) + 1)
        for part in (slice(0, half), slice(half, SIDE))
    )
    # How many colours there are: a few flat ones, or shades.
    fine = (x * 31).long()
    codes = (fine[:, 0] * 32 + fine[:, 1]) * 32 + fine[:, 2]
    distinct = codes.flatten(1).sort(1).values.diff(dim=1).ne(0).sum(1) + 1.0
    return [*found, (upper - lower)[:, None], distinct.log()[:, None]]


def _rims(x: Tensor, ink: Tensor) -> list[Tensor]:
    """Lightness and colour of the outermost pixels, and of those inside them: outlines."""
    light, colour = x.mean(1), x.amax(1) - x.amin(1)
    found, rest = [], ink
    for _ in range(3):
        inner = -F.max_pool2d(-rest[:, None], 3, 1, 1)[:, 0]
        rim = (rest - inner).clamp(min=0)
        found += [_histogram(m, 0, 1, 10, rim) for m in (light, colour)]
        rest = inner
    return found


def _edges(y: Tensor, w: Tensor) -> list[Tensor]:
    """How light changes between neighbours: softly, not at all, in lines."""
    across = y[:, :, :-1, 1:] - y[:, :, :-1, :-1]
    down = y[:, :, 1:, :-1] - y[:, :, :-1, :-1]
    near = w[:, :-1, :-1]
    size = ((across**2 + down**2).sum(1).sqrt() + 1e-3).log10()
    light = y.mean(1)
    steep = ((size + 3) / 3.3 * 8).long().clamp(0, 7)
    found = [_histogram(size, -3, 0.3, 14, near)]
    found.append(_counts((light[:, :-1, :-1] * 4).long().clamp(max=3) * 8 + steep, 32, near))
    total = near.sum((1, 2)) + 1e-6
    energies = [across.abs().mean(1), down.abs().mean(1), down.mean(1)]
    found.append(torch.stack([(e * near).sum((1, 2)) / total for e in energies], 1))
    inner, centre = y[:, :, 1:-1, 1:-1], w[:, 1:-1, 1:-1]
    around = y[:, :, :-2, 1:-1] + y[:, :, 2:, 1:-1] + y[:, :, 1:-1, :-2] + y[:, :, 1:-1, 2:]
    curve = 4 * inner - around
    found.append(_histogram((curve.abs().mean(1) + 1e-3).log10(), -3, 0.5, 14, centre))
    found.append(_histogram(curve.mean(1), -1.5, 1.5, 13, centre))
    mean = F.avg_pool2d(y, 3, 1)
    spread = (F.avg_pool2d(y * y, 3, 1) - mean**2).clamp(min=0).sum(1).sqrt()
    found.append(_histogram((spread + 1e-3).log10(), -3, 0, 12, centre))
    return found


def _histogram(values: Tensor, low: float, high: float, bins: int, weight: Tensor) -> Tensor:
    """Shares in triangular bins, as square roots, [n, bins]."""
    place = ((values - low) / (high - low) * (bins - 1)).clamp(0, bins - 1)
    below = place.floor().clamp(max=bins - 2)
    share = place - below
    index = below.long().flatten(1)
    found = torch.zeros(len(values), bins, device=values.device)
    found.scatter_add_(1, index, ((1 - share) * weight).flatten(1))
    found.scatter_add_(1, index + 1, (share * weight).flatten(1))
    return _shares(found)


def _palette(x: Tensor, steps: int, weight: Tensor) -> Tensor:
    """Shares of colours, as square roots, [n, steps**3].

    A pixel is shared out to the eight corners around it in a grid over the colour cube (trilinear
    interpolation), so that a small change of colour is a small change of shares.
    """
    place = x * (steps - 1)
    below = place.floor().clamp(0, steps - 2)
    share, index = place - below, below.long()
    found = torch.zeros(len(x), steps**3, device=x.device)
    for corner in itertools.product((0, 1), repeat=3):
        part, cell = weight, torch.zeros_like(index[:, 0])
        for channel, up in enumerate(corner):
            near = share[:, channel]
            part = part * (near if up else 1 - near)
            cell = cell * steps + index[:, channel] + up
        found.scatter_add_(1, cell.flatten(1), part.flatten(1))
    return _shares(found)


def _counts(cells: Tensor, bins: int, weight: Tensor) -> Tensor:
    """Shares of whole cells, as square roots, [n, bins]."""
    found = torch.zeros(len(cells), bins, device=cells.device)
    return _shares(found.scatter_add_(1, cells.flatten(1), weight.flatten(1)))


def _shares(found: Tensor) -> Tensor:
    return (found / (found.sum(1, keepdim=True) + 1e-6)).sqrt()
