"""Recognise bases that were distilled to few steps, by their small files and their names.

Training such a base undoes its distillation, so the base that it was made from is trained instead.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from mmtune.errors import BaseModelError
from mmtune.image.single_file import SingleFile
from mmtune.image.source import STARTERS, Source, read_index, read_json, resolve_base
from mmtune.system.base_name import split_base
from mmtune.system.tensors import read_metadata

# Words by which authors name few-step models, once capitals are split.
_NAMES = re.compile(r"(?<![a-z])(turbo|lightning|hyper|lcm|schnell|flash|dmd2?|pcm|tcd)(?![a-z])")
# The model to train instead, by the class of the pipeline.
INSTEAD = {
    "StableDiffusionPipeline": "stable-diffusion-v1-5/stable-diffusion-v1-5",
    "StableDiffusionXLPipeline": "stabilityai/stable-diffusion-xl-base-1.0",
    "StableDiffusion3Pipeline": "stabilityai/stable-diffusion-3.5-large",
    "FluxPipeline": "black-forest-labs/FLUX.1-dev",
    "ChromaPipeline": "lodestones/Chroma1-HD",
    "Flux2Pipeline": "black-forest-labs/FLUX.2-dev",
    "Flux2KleinPipeline": "black-forest-labs/FLUX.2-klein-base-4B",
    "QwenImagePipeline": "Qwen/Qwen-Image",
    "ZImagePipeline": "Tongyi-MAI/Z-Image",
}
SD2 = "stabilityai/stable-diffusion-2-1"
SD2_WIDTH = 1024  # of the text that Stable Diffusion 2 attends to
KLEIN_9B_WIDTH = 12_288  # of the text that the larger FLUX.2 [klein] attends to: 3 x 4096


def distilled_note(base: str) -> str | None:
    """Say that a base was distilled to few steps, and what to train instead.

    Args:
        base: as for `load_base`.

    Returns:
        None if nothing says so. A base that can't be read says nothing: loading it tells why.
    """
    if base in STARTERS:
        return None
    try:
        source = resolve_base(base)
        index = read_index(source)
        kind = str(index.get("_class_name"))
        part = "unet" if index.get("unet") else "transformer"
        denoiser = _json(source, f"{part}/config.json")
        scheduler = _json(source, "scheduler/scheduler_config.json")
    except BaseModelError:
        return None
    recorded = (each.get("_name_or_path") for each in (index, denoiser))
    names = (split_base(base)[0], *recorded, _title(source))
    reason = _by_config(kind, index, denoiser, scheduler) or _by_name(*names)
    if reason is None:
        return None
    return (
        f"{base} is distilled to few steps ({reason}): training it damages the distillation; "
        f"train the model that it was made from, such as --base {_instead(kind, denoiser)}, and "
        "try the adapter on both"
    )


def _by_config(
    kind: str,
    index: Mapping[str, Any],
    denoiser: Mapping[str, Any],
    scheduler: Mapping[str, Any],
) -> str | None:
    name = str(scheduler.get("_class_name"))
    if index.get("is_distilled"):  # FLUX.2 [klein]
        return "its model_index.json has is_distilled"
    if kind == "FluxPipeline" and denoiser.get("guidance_embeds") is False:
        # [dev] without its guidance may be trained on; it keeps the shift by the image's size.
        if not scheduler.get("use_dynamic_shifting"):
            return (
                "like FLUX.1 [schnell], its transformer takes no guidance and its scheduler "
                "doesn't shift by size"
            )
        return None
    if denoiser.get("time_cond_proj_dim") is not None:
        return "its UNet takes a guidance as latent consistency models do: time_cond_proj_dim"
    if name in ("LCMScheduler", "TCDScheduler", "FlowMatchLCMScheduler"):
        return f"its scheduler is {name}"
    # SD-Turbo and SDXL-Turbo. Models of velocities also space their steps like this.
    spaced = name.startswith("Euler") and scheduler.get("timestep_spacing") == "trailing"
    if spaced and scheduler.get("prediction_type", "epsilon") == "epsilon":
        return 'its scheduler has timestep_spacing "trailing", as SD-Turbo and SDXL-Turbo'
    return None


def _by_name(*names: object) -> str | None:
    for name in names:
        if not isinstance(name, str):
            continue
        # Folders above it may be called anything.
        last = re.split(r"[/\\]", name.rstrip("/\\"))[-1]
        words = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", " ", last).lower()
        if found := _NAMES.search(words):
            return f"its name {last} says {found[1]}"
    return None


def _title(source: Source) -> str | None:
    if not isinstance(source, SingleFile):
        return None
    return read_metadata(source.file, BaseModelError).get("modelspec.title")


def _instead(kind: str, denoiser: Mapping[str, Any]) -> str:
    if kind == "StableDiffusionPipeline" and denoiser.get("cross_attention_dim") == SD2_WIDTH:
        return SD2
    if kind == "Flux2KleinPipeline" and denoiser.get("joint_attention_dim") == KLEIN_9B_WIDTH:
        return "black-forest-labs/FLUX.2-klein-base-9B"
    return INSTEAD.get(kind, "the undistilled model of the same family")


def _json(source: Source, file: str) -> dict[str, Any]:
    try:
        return read_json(source, file)
    except BaseModelError:
        return {}
