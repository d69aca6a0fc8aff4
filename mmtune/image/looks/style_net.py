"""StyleNet: a small style encoder from statistics of palette, edges and lines.

The statistics are fixed. A linear map, fitted by tools/starter/style.py, divides by how much they
vary among images of one style (within-class covariance normalization, Hatch et al., Interspeech
2006). Its weights are in assets/style-encoder.
"""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmtune.errors import BaseModelError
from mmtune.system.tensors import load_tensors

if TYPE_CHECKING:
    from pathlib import Path

SIDE = 64  # pixels along a side of the input
WEIGHTS_FILE = "model.safetensors"
WHITE = 0.05  # background pixels have all channels above 1 - WHITE
SCALES = (1, 2, 4)  # pixels along a side that are averaged before edges are computed
# Steps of each channel in the palette histograms. Grids of several sizes have their corners at
# different colours, so that two colours which share a corner in one grid are apart in another.
GRIDS = (5, 6, 7)


class StyleNet(nn.Module):
    """Embeds images as unit vectors, which are near each other where the style is the same.

    Args:
        features: number of values that `statistics` gives for an image.
        width: width of an embedding.
    """

    mean: Tensor
    projection: Tensor

    def __init__(self, features: int, width: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(features))
        self.register_buffer("projection", torch.zeros(features, width))

    def forward(self, x: Tensor) -> Tensor:
        """Embed images as unit vectors, [n, width].

        Args:
            x: RGB from 0 to 1 on white, [n, 3, SIDE, SIDE].
        """
        return F.normalize((statistics(x) - self.mean) @ self.projection, dim=1)


def load_style_net(folder: Path) -> StyleNet:
    """Load the fitted network in evaluation mode.

    Args:
        folder: holds `model.safetensors`.

    Raises:
        BaseModelError: the file is missing or damaged.
    """
    state = load_tensors(folder / WEIGHTS_FILE, BaseModelError)
    features, width = state["projection"].shape
    net = StyleNet(features, width)
    net.load_state_dict(state)  # stored in half precision
    return net.eval()


def statistics(x: Tensor) -> Tensor:
    """Compute the statistics of images, [n, features]; an image and its mirror image have the same.

    Histograms are square roots of shares, so that their Euclidean distance is the Hellinger
    distance. They count the pixels that aren't background.

    Args:
        x: RGB from 0 to 1, [n, 3, SIDE, SIDE]; white is background.
    """
    ink = (x.amin(1) < 1 - WHITE).float()
    parts = [*_place(ink), *_colours(x, ink), *_rims(x, ink)]
    for scale in SCALES:
        y, w = (F.avg_pool2d(z, scale) for z in (x, ink[:, None]))
        parts += _edges(y, w[:, 0])
    return torch.cat(parts, 1)


def _place(ink: Tensor) -> list[Tensor]:
    """The share of pixels that the icon covers, and its bounds, [n, 7]."""
    rows, columns = ink.amax(2), ink.amax(1)
    spots = torch.arange(SIDE, device=ink.device).float() / SIDE
    top = torch.where(rows > 0, spots, 1.0).amin(1)
    bottom = torch.where(rows > 0, spots, 0.0).amax(1)
    # Left and right are sorted, so that mirroring changes nothing.
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
    # Shading: how much lighter the upper half is.
    half = SIDE // 2
    upper, lower = (
        (light * ink)[:, part].sum((1, 2)) / (ink[:, part].sum((1, 2)) + 1)
        for part in (slice(0, half), slice(half, SIDE))
    )
    # The number of colours: a few flat ones, or many shades.
    fine = (x * 31).long()
    codes = (fine[:, 0] * 32 + fine[:, 1]) * 32 + fine[:, 2]
    distinct = codes.flatten(1).sort(1).values.diff(dim=1).ne(0).sum(1) + 1.0
    return [*found, (upper - lower)[:, None], distinct.log()[:, None]]


def _rims(x: Tensor, ink: Tensor) -> list[Tensor]:
    """Lightness and colour of the icon's outermost pixels and of two rings inside: outlines."""
    light, colour = x.mean(1), x.amax(1) - x.amin(1)
    found, rest = [], ink
    for _ in range(3):
        inner = -F.max_pool2d(-rest[:, None], 3, 1, 1)[:, 0]
        rim = (rest - inner).clamp(min=0)
        found += [_histogram(m, 0, 1, 10, rim) for m in (light, colour)]
        rest = inner
    return found


def _edges(y: Tensor, w: Tensor) -> list[Tensor]:
    """How lightness changes between neighbouring pixels: edges, lines and texture."""
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
    """Histogram with triangular bins, as square roots of shares, [n, bins]."""
    place = ((values - low) / (high - low) * (bins - 1)).clamp(0, bins - 1)
    below = place.floor().clamp(max=bins - 2)
    share = place - below
    index = below.long().flatten(1)
    found = torch.zeros(len(values), bins, device=values.device)
    found.scatter_add_(1, index, ((1 - share) * weight).flatten(1))
    found.scatter_add_(1, index + 1, (share * weight).flatten(1))
    return _shares(found)


def _palette(x: Tensor, steps: int, weight: Tensor) -> Tensor:
    """Histogram of colours, as square roots of shares, [n, steps**3].

    Each pixel counts for the eight corners around it in a grid over the RGB cube (trilinear
    interpolation), so that a small change of colour changes the shares only a little.
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
    """Histogram of integer cells, as square roots of shares, [n, bins]."""
    found = torch.zeros(len(cells), bins, device=cells.device)
    return _shares(found.scatter_add_(1, cells.flatten(1), weight.flatten(1)))


def _shares(found: Tensor) -> Tensor:
    return (found / (found.sum(1, keepdim=True) + 1e-6)).sqrt()
