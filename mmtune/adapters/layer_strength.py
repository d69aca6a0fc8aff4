"""Strength of the adapters in a model's layers, whatever their method, for a while."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor


@contextmanager
def at_strength(model: Any, weights: Mapping[str, float]) -> Iterator[None]:
    """Multiply the change that adapters make to each layer; afterwards it is what it was.

    The change of (IA)³ is the distance of its factors from one, so a strength of 0.5 halves it:
    W + 0.5 (l W - W).

    Args:
        model: holds peft's layers.
        weights: strengths by peft's names of the adapters.
    """
    scalings: list[tuple[dict[str, float], dict[str, float]]] = []
    vectors: list[tuple[Tensor, Tensor]] = []
    try:
        for layer in tuned_layers(model):
            if hasattr(layer, "scaling"):
                scalings.append((layer.scaling, dict(layer.scaling)))
                for name in weights.keys() & layer.scaling.keys():
                    layer.scaling[name] *= weights[name]
            for name in weights.keys() & getattr(layer, "ia3_l", {}).keys():
                vector = layer.ia3_l[name].data
                if weights[name] != 1:  # at 1 the factors stay what they are, bit by bit
                    vectors.append((vector, vector.clone()))
                    vector.sub_(1).mul_(weights[name]).add_(1)
        yield
    finally:
        for scaling, before in scalings:
            scaling.update(before)
        for vector, old in vectors:
            vector.copy_(old)


def tuned_layers(model: Any) -> list[Any]:
    """List the layers of `model` that hold adapters of peft, of any method."""
    from peft.tuners.tuners_utils import BaseTunerLayer

    return [module for module in model.modules() if isinstance(module, BaseTunerLayer)]


@torch.no_grad()
def changed(layer: Any, name: str) -> dict[str, Tensor]:
    """Compute what a layer's parameters become if an adapter is put into them, in float32.

    Args:
        layer: of peft; its strength is the present one.
        name: of the adapter in it.

    Returns:
        By the parameter's name: `weight`, and `bias` where the method changes it.
    """
    base = layer.get_base_layer()
    weight = base.weight
    if hasattr(layer, "ia3_l"):
        factor = layer.ia3_l[name].float().flatten()
        whole = weight.float()
        rest = [1] * (whole.ndim - 2)
        if layer.is_feedforward:
            return {"weight": whole * factor.view(1, -1, *rest)}
        found = {"weight": whole * factor.view(-1, 1, *rest)}
        return found if base.bias is None else found | {"bias": base.bias.float() * factor}
    change = layer.get_delta_weight(name)
    if name in getattr(layer, "lora_magnitude_vector", {}):
        # arXiv 2402.09353, eq. 5: magnitude by (W + change) over its norm of each row.
        whole = (weight + change).float()
        length = layer.lora_magnitude_vector[name].weight.float().flatten()
        length = length / whole.flatten(1).norm(dim=1)
        return {"weight": whole * length.view(-1, *[1] * (whole.ndim - 1))}
    return {"weight": weight.float() + change.float()}
