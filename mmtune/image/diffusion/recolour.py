"""Recolouring: an affine map of latents from the base's colours to the brand's.

It serves `task.keep_layout`. At the noisiest timesteps the base draws the layout of a caption in
its own colours. If these are far from the brand's, for example on a dark background, an adapter
that keeps the base's predictions there starts every image on a background that it was never
trained on, and keeps that background.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

RIDGE = 1e-3  # share of the mean variance that is added to each variance
MIN_VARIANCE = 1e-6  # keeps divisions finite for latents of one colour
MAX_GAIN = 4.0  # upper limit of the factor on contrast


@dataclass(frozen=True)
class Recolour:
    """An affine map of a latent's channels, the same at every position.

    Attributes:
        weight: [channels, channels], float32.
        bias: [channels], float32.
    """

    weight: Tensor
    bias: Tensor

    def __call__(self, latents: Tensor) -> Tensor:
        """Map latents, [rows, channels, h, w], float32."""
        mapped = torch.einsum("oc,rchw->rohw", self.weight, latents)
        return mapped + self.bias[:, None, None]


def fit_recolour(pairs: Iterable[tuple[Tensor, Tensor, Tensor | None]]) -> Recolour:
    """Fit a map that brings latents near to wanted latents and keeps their contrast.

    Ridge regression over all positions finds which colour corresponds to which. Because things
    stand at other places in the two latents, regression also pulls every value towards the mean,
    and the image would lose contrast. So differences from the median are scaled up again, to the
    variance of the given latents or of the wanted ones, whichever is less. On a plain background
    the median is the background, which keeps the colour that regression gives it.

    Args:
        pairs: latents to map and wanted latents, [rows, channels, h, w], with a mask of the
            positions that count, [rows, 1, h, w] (None: all).

    Returns:
        The map, on the device of the last latents.

    Raises:
        ValueError: there are no pairs, or the masks are empty.
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
    ridge = RIDGE * variance.diagonal().mean().clamp(min=MIN_VARIANCE)
    weight = torch.linalg.solve(variance + ridge * torch.eye(len(centre)).to(x), covariance.T).T
    mapped = (weight @ variance @ weight.T).diagonal().sum()
    wished = torch.minimum(variance.diagonal().sum(), (y - goal).square().mean(0).sum())
    gain = (wished / mapped.clamp(min=MIN_VARIANCE)).sqrt().clamp(1.0, MAX_GAIN)
    ground = x.median(0).values
    bias = goal + weight @ (ground - centre) - gain * (weight @ ground)
    return Recolour((gain * weight).float().to(first.device), bias.float().to(first.device))
