"""Choose the number format for training on this machine: bf16, fp16 or fp32."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Literal, cast

import torch

Precision = Literal["fp32", "bf16", "fp16"]
DTYPES: dict[str, torch.dtype] = {
    "fp32": torch.float32,
    "bf16": torch.bfloat16,
    "fp16": torch.float16,
}


@cache
def cpu_has_bf16() -> bool:
    """Whether the processor multiplies bf16 in hardware.

    PyTorch runs bf16 on any CPU; without these instructions it is many times slower than fp32.
    """
    info = Path("/proc/cpuinfo")
    if not info.exists():
        return False
    lines = info.read_text(encoding="utf-8", errors="replace").splitlines()
    flags = next((line for line in lines if line.startswith("flags")), "")
    return bool({"avx512_bf16", "amx_bf16"} & set(flags.split()))


def choose_precision(wanted: str, device: torch.device) -> Precision:
    """Resolve "auto" for a device: bf16 if its hardware has it; otherwise fp16 on a GPU, or fp32.

    Args:
        wanted: "auto", or a precision, which is returned unchanged.
        device: the device that training runs on.
    """
    if wanted != "auto":
        return cast(Precision, wanted)
    if device.type == "cuda":
        return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp16"
    if device.type == "cpu" and cpu_has_bf16():
        return "bf16"
    return "fp32"
