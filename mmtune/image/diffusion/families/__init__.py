"""The families of diffusion pipelines that can be trained, by class of the pipeline."""

from __future__ import annotations

from mmtune.image.diffusion.families.family import ExportNames, Family, TextFamily
from mmtune.image.diffusion.families.flux import Chroma, Flux, Flux2Dev, Flux2Klein
from mmtune.image.diffusion.families.qwen_image import QwenImage
from mmtune.image.diffusion.families.sd3 import StableDiffusion3
from mmtune.image.diffusion.families.unet import StableDiffusion, StableDiffusionXL
from mmtune.image.diffusion.families.z_image import ZImage
from mmtune.system.plugins import Registry

FAMILIES: tuple[type[Family], ...] = (
    StableDiffusion,
    StableDiffusionXL,
    StableDiffusion3,
    Flux,
    Chroma,
    Flux2Dev,
    Flux2Klein,
    QwenImage,
    ZImage,
)


PIPELINES: Registry[type[Family]] = Registry(
    "diffusion family", "mmtune.diffusion_families", {f.pipeline_class: f for f in FAMILIES}
)


def family_class(pipeline_class: str) -> type[Family] | None:
    """The family whose pipelines are of this class, as `model_index.json` names it.

    Raises:
        PluginError: the package that adds it can't be used.
    """
    return PIPELINES.get(pipeline_class)


__all__ = ["FAMILIES", "PIPELINES", "ExportNames", "Family", "TextFamily", "family_class"]
