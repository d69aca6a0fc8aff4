"""Quantization of the frozen denoiser, so that a large one fits into memory in training.

Only the weights of linear layers are quantized; they are dequantized whenever they are used, after
QLoRA (arXiv 2305.14314). Convolutions, norms and embeddings stay as they are. The LoRA on top is
an ordinary one.
"""

from __future__ import annotations

import importlib.util
from typing import Any, get_args

import torch
from torch import Tensor, nn

from mmtune.errors import ConfigError, MissingExtra
from mmtune.image.image_options import Quantize


def require_quantizer(kind: Quantize, device: torch.device) -> None:
    """Check, before anything is loaded, that this machine can quantize in this way.

    Raises:
        ConfigError: `kind` is unknown, or it is `nf4` and the device isn't an NVIDIA GPU.
        MissingExtra: the library for `kind` isn't installed.
    """
    if kind not in get_args(Quantize):
        raise ConfigError(
            f"quantize = {kind!r} is unknown", "use one of " + ", ".join(get_args(Quantize))
        )
    if kind == "none":
        return
    if kind == "nf4" and device.type != "cuda":
        raise ConfigError(
            f"quantize = nf4: 4-bit layers need an NVIDIA GPU, but this run uses {device.type}",
            "use int8, which also runs on a CPU, or none",
        )
    package = {"int8": "torchao", "nf4": "bitsandbytes"}[kind]
    if importlib.util.find_spec(package) is None:
        raise MissingExtra(package, "quantize", f"quantize = {kind}")


def quantize(model: Any, kind: Quantize, device: torch.device) -> None:
    """Quantize the linear layers of `model` in place, layer by layer, on `device`.

    `int8` is torchao's: symmetric, with one scale per output. `nf4` is bitsandbytes' 4-bit normal
    float in blocks, with quantized scales.

    Args:
        model: frozen and on the CPU, so that the device never holds all of it unquantized.
        kind: "none" leaves the model as it is.
        device: where the quantized weights go.

    Raises:
        ConfigError, MissingExtra: see `require_quantizer`.
    """
    require_quantizer(kind, device)
    if kind == "none":
        return
    if kind == "int8":
        from torchao.quantization import Int8WeightOnlyConfig, quantize_

        quantize_(model, Int8WeightOnlyConfig(version=2), device=device)
    for parent in list(model.modules()):
        for name, layer in list(parent.named_children()):
            if type(layer) is nn.Linear:
                weight = layer.weight if kind == "int8" else _nf4(layer.weight.data, device)
                setattr(parent, name, DequantizedLinear(layer, weight))


def _nf4(weight: Tensor, device: torch.device) -> Any:
    from bitsandbytes.nn import Params4bit

    stored = Params4bit(weight, requires_grad=False, compress_statistics=True, quant_type="nf4")
    return stored.to(device)  # moving it to a GPU quantizes it


class DequantizedLinear(nn.Linear):
    """A frozen linear layer with a quantized weight, which is dequantized whenever it is used.

    The backward pass dequantizes it again. The layers of torchao and bitsandbytes keep the
    dequantized weight, or the input, for the backward pass; on SDXL that needs more memory than
    quantization saves.
    """

    def __init__(self, layer: nn.Linear, weight: Any) -> None:
        super().__init__(
            layer.in_features, layer.out_features, bias=layer.bias is not None, device="meta"
        )
        self.weight, self.bias = weight, layer.bias

    def forward(self, input: Tensor) -> Tensor:
        """Map [..., in] to [..., out], in the number format of `input` or of autocast."""
        found: Tensor = _DequantizedMatmul.apply(input, self)  # type: ignore[no-untyped-call]
        return found if self.bias is None else found + self.bias.to(found.dtype)

    def dequantized(self) -> Tensor:
        """Dequantize the weight, [out, in], to the number format that it had before."""
        from peft.utils.integrations import dequantize_module_weight

        weight: Tensor = dequantize_module_weight(self)
        return weight


class _DequantizedMatmul(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, input: Tensor, layer: DequantizedLinear) -> Tensor:
        ctx.layer = layer
        return nn.functional.linear(input, layer.dequantized())

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        weight = ctx.layer.dequantized()
        return gradients[0].to(weight.dtype) @ weight, None


def base_memory_hints(quantized: Quantize) -> list[str]:
    """List the quantizations that need less memory than the present one.

    Args:
        quantized: how the denoiser is held now.

    Returns:
        One `--name value (why)` per setting, as in `mmtune.image.diffusion.base.memory_hints`.
    """
    if quantized == "none":
        return ["--quantize int8 (the base in half the memory of bf16; nf4: in a quarter)"]
    if quantized == "int8":
        return ["--quantize nf4 (the base in half the memory of int8; NVIDIA GPUs)"]
    return []
