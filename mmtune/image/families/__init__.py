"""The families of diffusion pipelines that can be trained, found by the pipeline's class."""

from __future__ import annotations

from mmtune.image.families.base import Family, TextFamily
from mmtune.image.families.flux import Flux, Flux2Klein
from mmtune.image.families.sd3 import StableDiffusion3
from mmtune.image.families.unet import StableDiffusion, StableDiffusionXL
from mmtune.image.families.z_image import ZImage

FAMILIES: tuple[type[Family], ...] = (
    StableDiffusion,
    StableDiffusionXL,
    StableDiffusion3,
    Flux,
    Flux2Klein,
    ZImage,
)


def family_class(pipeline_class: str) -> type[Family] | None:
    """The family whose pipelines are of this class, as `model_index.json` names it."""
    return next((f for f in FAMILIES if f.pipeline_class == pipeline_class), None)


__all__ = ["FAMILIES", "Family", "TextFamily", "family_class"]
