"""The frozen denoiser in fewer bits, so that a large one fits beside what trains on it.

Weights of its linear layers alone are stored in fewer bits and widened as they are used, after
QLoRA (arXiv 2305.14314); convolutions, norms and embeddings stay. The LoRA on top is an ordinary
one.
"""

from __future__ import annotations

import importlib.util
from typing import Any, get_args

import torch
from torch import Tensor, nn

from mmtune.errors import ConfigError, MissingExtra
from mmtune.image.image_options import Quantize


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


def quantize(model: Any, kind: Quantize, device: torch.device) -> None:
    """Quantize the linear layers of `model` in place, layer by layer, on `device`.

    `int8` is torchao's, symmetric with one scale for each output; `nf4` bitsandbytes' 4-bit normal
    float in blocks, with quantized scales.

    Args:
        model: frozen, on the CPU, so that the device never holds all of it unquantized.
    """
    require(kind, device)
    if kind == "none":
        return
    if kind == "int8":
        from torchao.quantization import Int8WeightOnlyConfig, quantize_

        quantize_(model, Int8WeightOnlyConfig(version=2), device=device)
    for parent in list(model.modules()):
        for name, layer in list(parent.named_children()):
            if type(layer) is nn.Linear:
                weight = layer.weight if kind == "int8" else _nf4(layer.weight.data, device)
                setattr(parent, name, WidenedLinear(layer, weight))


def _nf4(weight: Tensor, device: torch.device) -> Any:
    from bitsandbytes.nn import Params4bit

    stored = Params4bit(weight, requires_grad=False, compress_statistics=True, quant_type="nf4")
    return stored.to(device)  # which quantizes it


class WidenedLinear(nn.Linear):
    """A frozen linear layer whose weight is stored in fewer bits and widened whenever it is used.

    It is widened again in the backward pass. The layers of torchao and bitsandbytes keep the wide
    weight, or the input, for that pass instead: on SDXL more than their fewer bits save.
    """

    def __init__(self, layer: nn.Linear, weight: Any) -> None:
        super().__init__(
            layer.in_features, layer.out_features, bias=layer.bias is not None, device="meta"
        )
        self.weight, self.bias = weight, layer.bias

    def forward(self, input: Tensor) -> Tensor:
        """[..., in] to [..., out], in the number format of `input`, or autocast's."""
        found: Tensor = _Widened.apply(input, self)  # type: ignore[no-untyped-call]
        return found if self.bias is None else found + self.bias.to(found.dtype)

    def wide(self) -> Tensor:
        """The weight, [out, in], in the number format that it was quantized from."""
        from peft.utils.integrations import dequantize_module_weight

        wide: Tensor = dequantize_module_weight(self)
        return wide


class _Widened(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, input: Tensor, layer: WidenedLinear) -> Tensor:
        ctx.layer = layer
        return nn.functional.linear(input, layer.wide())

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        weight = ctx.layer.wide()
        return gradients[0].to(weight.dtype) @ weight, None


def lighter_base(quantized: Quantize) -> list[str]:
    """The same of the base's number format alone.

    Args:
        quantized: what it is now.
    """
    if quantized == "none":
        return ["--quantize int8 (the base in half the memory of bf16; nf4: in a quarter)"]
    if quantized == "int8":
        return ["--quantize nf4 (the base in half the memory of int8; NVIDIA GPUs)"]
    return []
