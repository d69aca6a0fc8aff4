"""Merging of several adapters of a diffusion model into one LoRA folder."""

from __future__ import annotations

import warnings
from typing import Any

import torch

from mmtune.adapters.members import Merge
from mmtune.adapters.merge import MERGED, distance, merge_layers
from mmtune.image.diffusion.base import load_base
from mmtune.image.diffusion.denoiser_lora import load_adapter, save_adapter
from mmtune.system.processes import pick_device

SCRATCH, RELOADED = "scratch", "reloaded"  # names of temporary adapters


def merge(request: Merge) -> float:
    """Merge adapters and write them as one diffusers LoRA, in fp32.

    The layers of the denoiser and of each adapted text encoder are merged.

    Returns:
        The `distance` of the written LoRA, read back, from the exact sum of the adapters.

    Raises:
        AdapterError: an adapter can't be loaded on the base, or the adapters can't be merged.
    """
    base = load_base(request.base, pick_device(), torch.float32)
    parts = {f"part{i}": part for i, part in enumerate(request.parts)}
    for name, part in parts.items():
        load_adapter(base, part.folder, name)
    held = {
        component: {name: part for name, part in parts.items() if name in model.peft_config}
        for component, model in base.adapted.items()
    }
    for component, model in base.adapted.items():
        tuner = _tuner(model, next(iter(held[component])))
        merge_layers(tuner, held[component], request.mixing)
        tuner.delete_adapter(SCRATCH)
    save_adapter(base, MERGED, request.to)
    load_adapter(base, request.to, RELOADED)
    return distance(base.adapted.values(), RELOADED, parts)


def _tuner(model: Any, name: str) -> Any:
    """Wrap a model whose LoRA layers diffusers made as peft's `LoraModel`, which can merge.

    PEFT wraps a model that has adapters only while it adds another one; that one is `SCRATCH`.
    """
    from copy import deepcopy

    from peft import LoraModel

    config = deepcopy(model.peft_config[name])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # peft warns that the model has adapters already
        return LoraModel(model, config, SCRATCH)
