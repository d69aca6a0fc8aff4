"""Format `diffusers`: a folder that diffusers loads."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mmtune.image.export.image_format import PRECISIONS, ImageFormat, Proof
from mmtune.image.export.use_notes import use_folder

if TYPE_CHECKING:
    from PIL.Image import Image

    from mmtune.adapters.exported import Export
    from mmtune.image.diffusion.base import DiffusionBase
    from mmtune.image.export.parity import Picture


def _write(request: Export, base: DiffusionBase, picture: Picture, before: Image) -> Proof:
    from mmtune.image.export.kohya import write_diffusers
    from mmtune.image.export.parity import SOURCE
    from mmtune.image.export.weights import fold

    folded = fold(base, SOURCE, request.scale)
    return write_diffusers(request, base, folded, picture, before)


FORMAT = ImageFormat(
    "diffusers",
    "a LoRA folder for load_lora_weights",
    PRECISIONS,
    write=_write,
    after=use_folder,
)
