"""Scaling an adapter's strength, and putting other weights in its place."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn

ZERO_INIT = (
    "lora_B",
    "lora_embedding_B",
)  # the half of a pair that begins at zero, by PEFT's names


MAGNITUDE = "lora_magnitude_vector"  # DoRA's


@contextmanager
def scaled(module: nn.Module, scale: float) -> Iterator[None]:
    """Within it, the LoRA pairs of `module` act `scale` times as strongly, also when saved.

    The weights themselves are scaled, so that every library that loads them agrees.

    Raises:
        ValueError: there is no pair, or DoRA's magnitudes, which a factor doesn't scale.
    """
    names = [name for name, _ in module.named_parameters()]
    if any(MAGNITUDE in name for name in names):
        raise ValueError("DoRA has no scale: at 0 it is not the base")
    pairs = [p for name, p in module.named_parameters() if any(up in name for up in ZERO_INIT)]
    if not pairs:
        raise ValueError("there is no LoRA pair to scale")
    saved: list[Tensor] = [p.detach().clone() for p in pairs]
    with torch.no_grad():
        for p in pairs:
            p.mul_(scale)
    try:
        yield
    finally:
        with torch.no_grad():
            for p, old in zip(pairs, saved, strict=True):
                p.copy_(old)


@contextmanager
def replaced(module: nn.Module, weights: Mapping[str, Tensor]) -> Iterator[None]:
    """Within it, parameters of `module` have other values.

    Raises:
        KeyError: a name that isn't a parameter's.
    """
    parameters = dict(module.named_parameters())
    saved = {name: parameters[name].detach().clone() for name in weights}
    put(module, weights)
    try:
        yield
    finally:
        put(module, saved)


def put(module: nn.Module, weights: Mapping[str, Tensor]) -> None:
    """Copy `weights` into the parameters of those names."""
    parameters = dict(module.named_parameters())
    with torch.no_grad():
        for name, value in weights.items():
            parameters[name].copy_(value)


def can_scale(module: nn.Module) -> bool:
    """Whether `scaled` can be used on it."""
    names = [name for name, _ in module.named_parameters()]
    return any(up in name for name in names for up in ZERO_INIT) and not any(
        MAGNITUDE in name for name in names
    )
