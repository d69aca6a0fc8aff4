"""Scale the strength of an adapter in a module, or replace its weights."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn

# PEFT's names of the half of a LoRA pair that is initialised with zeros.
ZERO_INIT = ("lora_B", "lora_embedding_B")
MAGNITUDE = "lora_magnitude_vector"  # PEFT's name of DoRA's magnitudes


@contextmanager
def scaled(module: nn.Module, scale: float) -> Iterator[None]:
    """Scale the LoRA updates of `module` by `scale` inside the context, also when it is saved.

    The weights themselves are scaled, so every library that loads them gives the same result.

    Raises:
        ValueError: the module has no LoRA pair, or has DoRA's magnitudes, which can't be scaled.
    """
    names = [name for name, _ in module.named_parameters()]
    if any(MAGNITUDE in name for name in names):
        raise ValueError("DoRA can't be scaled: at scale 0 its magnitudes still change the output")
    pairs = [p for name, p in module.named_parameters() if any(up in name for up in ZERO_INIT)]
    if not pairs:
        raise ValueError("the module has no LoRA pair to scale")
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
    """Replace parameters of `module` by `weights` inside the context.

    Raises:
        KeyError: a name in `weights` isn't a parameter's name.
    """
    parameters = dict(module.named_parameters())
    saved = {name: parameters[name].detach().clone() for name in weights}
    put(module, weights)
    try:
        yield
    finally:
        put(module, saved)


def put(module: nn.Module, weights: Mapping[str, Tensor]) -> None:
    """Copy `weights` into the module's parameters of the same names."""
    parameters = dict(module.named_parameters())
    with torch.no_grad():
        for name, value in weights.items():
            parameters[name].copy_(value)


def can_scale(module: nn.Module) -> bool:
    """Whether `scaled` can be applied to the module."""
    names = [name for name, _ in module.named_parameters()]
    return any(up in name for name in names for up in ZERO_INIT) and not any(
        MAGNITUDE in name for name in names
    )
