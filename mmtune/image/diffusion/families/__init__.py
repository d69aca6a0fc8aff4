"""The families of diffusion pipelines that can be trained, by class of the pipeline."""

from __future__ import annotations

from mmtune.image.diffusion.families.family import Family, TextFamily
from mmtune.image.diffusion.families.flux import Flux, Flux2Klein
from mmtune.image.diffusion.families.sd3 import StableDiffusion3
from mmtune.image.diffusion.families.unet import StableDiffusion, StableDiffusionXL
from mmtune.image.diffusion.families.z_image import ZImage

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
