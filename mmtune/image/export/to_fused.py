"""Format `fused`: the whole pipeline, with nothing of the adapter to load."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mmtune.image.export.image_format import PRECISIONS, ImageFormat, Proof
from mmtune.image.export.use_notes import use_pipeline

if TYPE_CHECKING:
    from PIL.Image import Image

    from mmtune.adapters.exported import Export
    from mmtune.image.diffusion.base import DiffusionBase
    from mmtune.image.export.parity import Picture


def _write(request: Export, base: DiffusionBase, picture: Picture, before: Image) -> Proof:
    from mmtune.image.export.merged_pipeline import write_fused

    return write_fused(request, base, picture, before)


FORMAT = ImageFormat(
    "fused",
    "the whole pipeline, the adapter in its weights",
    PRECISIONS,
    lora_alone=False,
    write=_write,
    after=use_pipeline,
)
