"""Which image settings take less memory."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mmtune.image.diffusion.base import DiffusionBase
    from mmtune.image.image_options import Quantize
    from mmtune.system.memory import Doing


def lighter(
    doing: Doing, base: DiffusionBase, sample_batch: int, resolution: int | None = None
) -> list[str]:
    """`--name value (why)` of each setting, in the order to try them.

    Args:
        sample_batch: images sampled at once.
        resolution: of training, in pixels; None where it can't be chosen.
    """
    found = []
    if doing == "sampling" and sample_batch > 1:
        found.append(f"--sample_batch {sample_batch // 2} (now {sample_batch}; the same result)")
    multiple = base.family.multiple
    smaller = 0 if resolution is None else resolution * 3 // 4 // multiple * multiple
    if smaller:
        found.append(f"--resolution {smaller} (now {resolution} pixels)")
    return [*found, *lighter_base(base.quantized)]


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
