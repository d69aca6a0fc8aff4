"""The brand's colours on the base's layout: an affine map of latents, fitted on training images.

At the noisiest timesteps the base draws the layout that a caption asks for, in its own colours.
Where those are far from the brand's, on a dark ground say, an adapter that keeps the base's
prediction there begins every picture on a ground that it was never trained on, and stays on it.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

RIDGE = 1e-3  # of the mean variance, added to each
TINY = 1e-6  # variance of latents of one colour
MOST_GAIN = 4.0


@dataclass(frozen=True)
class Recolour:
    """An affine map of a latent's channels, the same at every position.

    Attributes:
        weight: [channels, channels], float32, on the device of what it was fitted on.
        bias: [channels].
    """

    weight: Tensor
    bias: Tensor

    def __call__(self, latents: Tensor) -> Tensor:
        """Of [rows, channels, h, w], float32."""
        mapped = torch.einsum("oc,rchw->rohw", self.weight, latents)
        return mapped + self.bias[:, None, None]


def fit_recolour(pairs: Iterable[tuple[Tensor, Tensor, Tensor | None]]) -> Recolour:
    """The map that brings latents near to others, and leaves them as much contrast as they have.

    Ridge regression, position by position, says which colour stands for which. Since the two differ
    in what stands where, it also pales everything towards the mean, and a caption would show less.
    So its differences are scaled up again to the variance of what is mapped, or of what is wanted
    if that is less, from the median on: on a plain ground that is the ground, which stays what the
    regression makes of it.

    Args:
        pairs: latents to map and wanted ones, [rows, channels, h, w], and what of them counts,
            [rows, 1, h, w] (None: all).

    Raises:
        ValueError: there are none, or nothing of them counts.
    """
    given: list[Tensor] = []
    wanted: list[Tensor] = []
    for first, second, mask in pairs:
        x, y = (t.double().movedim(1, -1).flatten(0, -2).cpu() for t in (first, second))
        seen = slice(None) if mask is None else mask.flatten().cpu() > 0
        given.append(x[seen])
        wanted.append(y[seen])
    if not sum(map(len, given)):
        raise ValueError("no latents to fit to")
    x, y = torch.cat(given), torch.cat(wanted)
    centre, goal = x.mean(0), y.mean(0)
    variance = (x - centre).T @ (x - centre) / len(x)
    covariance = (y - goal).T @ (x - centre) / len(x)
    ridge = RIDGE * variance.diagonal().mean().clamp(min=TINY)
    weight = torch.linalg.solve(variance + ridge * torch.eye(len(centre)).to(x), covariance.T).T
    mapped = (weight @ variance @ weight.T).diagonal().sum()
    wished = torch.minimum(variance.diagonal().sum(), (y - goal).square().mean(0).sum())
    gain = (wished / mapped.clamp(min=TINY)).sqrt().clamp(1.0, MOST_GAIN)
    ground = x.median(0).values
    bias = goal + weight @ (ground - centre) - gain * (weight @ ground)
    return Recolour((gain * weight).float().to(first.device), bias.float().to(first.device))
