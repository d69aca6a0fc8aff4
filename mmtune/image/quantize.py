"""The frozen denoiser in fewer bits, so that a large one fits beside what trains on it.

Weights of its linear layers alone are stored in fewer bits and widened as they are used, after
QLoRA (arXiv 2305.14314); convolutions, norms and embeddings stay. The LoRA on top is an ordinary
one.
"""

from __future__ import annotations

import importlib.util
from typing import Any, get_args

import torch
from torch import nn

from mmtune.errors import ConfigError, MissingExtra
from mmtune.image.options import Quantize


def require(kind: Quantize, device: torch.device) -> None:
    """See, before anything is loaded, that this machine can do it.

    Raises:
        ConfigError: `kind` isn't known, or `nf4` without a CUDA device.
        MissingExtra: its library isn't installed.
    """
    if kind not in get_args(Quantize):
        raise ConfigError(f"quantize = {kind!r}", "use one of " + ", ".join(get_args(Quantize)))
    if kind == "none":
        return
    if kind == "nf4" and device.type != "cuda":
        raise ConfigError(
            f"quantize = nf4: 4-bit layers need an NVIDIA GPU, and this is a run on {device.type}",
            "use int8, which runs on a CPU too, or none",
        )
    package = {"int8": "torchao", "nf4": "bitsandbytes"}[kind]
    if importlib.util.find_spec(package) is None:
        raise MissingExtra(package, "quantize", f"quantize = {kind}")


def quantize(model: Any, kind: Quantize, device: torch.device, dtype: torch.dtype) -> None:
    """Quantize the linear layers of `model` in place, layer by layer, on `device`.

    `int8` is torchao's, symmetric with one scale for each output; `nf4` bitsandbytes' 4-bit normal
    float in blocks, with quantized scales.

    Args:
        model: frozen, on the CPU, so that the device never holds all of it unquantized.
        dtype: of the products.
    """
    require(kind, device)
    if kind == "int8":
        from torchao.quantization import Int8WeightOnlyConfig, quantize_

        quantize_(model, Int8WeightOnlyConfig(version=2), device=device)
    elif kind == "nf4":
        _to_nf4(model, device, dtype)
        model.is_loaded_in_4bit = True  # by it peft knows what it adapts


def _to_nf4(model: nn.Module, device: torch.device, dtype: torch.dtype) -> None:
    import bitsandbytes as bnb

    for parent in list(model.modules()):
        for name, layer in list(parent.named_children()):
            if type(layer) is not nn.Linear:
                continue
            small = bnb.nn.Linear4bit(
                layer.in_features,
                layer.out_features,
                bias=layer.bias is not None,
                compute_dtype=dtype,
                compress_statistics=True,
                quant_type="nf4",
                device="meta",
            )
            small.weight = bnb.nn.Params4bit(
                layer.weight.data,
                requires_grad=False,
                compress_statistics=True,
                quant_type="nf4",
                module=small,
            )
            small.bias = layer.bias
            setattr(parent, name, small.to(device))  # which quantizes it
