"""Scale the strength of an adapter in a module, or replace its weights."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from mmtune.methods import METHODS

FROM_ZERO = tuple(name for each in METHODS.values() for name in each.from_zero)
FROM_ONE = tuple(name for each in METHODS.values() for name in each.from_one)
MAGNITUDE = "lora_magnitude_vector"  # PEFT's name of DoRA's magnitudes


@contextmanager
def scaled(module: nn.Module, scale: float) -> Iterator[None]:
    """Scale the change that an adapter makes, inside the context, also when it is saved.

    The weights themselves are scaled, so every library that loads them gives the same result.
    Of LoRA, LoHa and LoKr, the factor that is zero at first is multiplied; of (IA)³, the vectors'
    distance from one.

    Raises:
        ValueError: the module has no weights of a method that can be scaled, or has DoRA's
            magnitudes.
    """
    named = list(module.named_parameters())
    if any(MAGNITUDE in name for name, _ in named):
        raise ValueError("DoRA can't be scaled: at scale 0 its magnitudes still change the output")
    zero, one = ([p for name, p in named if _is(name, of)] for of in (FROM_ZERO, FROM_ONE))
    if not zero and not one:
        raise ValueError("the module has no adapter that can be scaled")
    saved: list[Tensor] = [p.detach().clone() for p in (*zero, *one)]
    with torch.no_grad():
        for p in zero:
            p.mul_(scale)
        for p in one if scale != 1 else ():  # so that 1 changes no bit
            p.sub_(1).mul_(scale).add_(1)
    try:
        yield
    finally:
        with torch.no_grad():
            for p, old in zip((*zero, *one), saved, strict=True):
                p.copy_(old)


def is_fresh(module: nn.Module) -> bool:
    """Whether an adapter that can be scaled is as it was before training: it changes nothing."""
    named = list(module.named_parameters())
    begun = any(bool(p.any()) for name, p in named if _is(name, FROM_ZERO))
    return not begun and all(bool((p == 1).all()) for name, p in named if _is(name, FROM_ONE))


def _is(name: str, parts: tuple[str, ...]) -> bool:
    return any(part in name.split(".") for part in parts)


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
    return any(_is(name, (*FROM_ZERO, *FROM_ONE)) for name in names) and not any(
        MAGNITUDE in name for name in names
    )
