"""Format `kohya`: the single file of ComfyUI, A1111 and sd-scripts."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mmtune.image.export.comfy_workflow import finish
from mmtune.image.export.image_format import PRECISIONS, ImageFormat, Proof

if TYPE_CHECKING:
    from PIL.Image import Image

    from mmtune.adapters.exported import Export
    from mmtune.image.diffusion.base import DiffusionBase
    from mmtune.image.export.parity import Picture


def _write(request: Export, base: DiffusionBase, picture: Picture, before: Image) -> Proof:
    from mmtune.image.export.kohya import write_single
    from mmtune.image.export.parity import SOURCE
    from mmtune.image.export.weights import fold

    folded = fold(base, SOURCE, request.scale)
    return write_single(request, base, folded, picture, before)


FORMAT = ImageFormat(
    "kohya",
    "one .safetensors for ComfyUI and A1111",
    PRECISIONS,
    suffix=".safetensors",
    dora=(
        "single files write its magnitudes in ways that loaders read differently or drop",
        "--format fused puts it into the weights; --format diffusers keeps it as it is",
    ),
    write=_write,
    after=finish,
)
