"""Adapters of a diffusion model merged into one LoRA folder."""

from __future__ import annotations

import warnings
from typing import Any

import torch

from mmtune.adapters.members import Merge
from mmtune.adapters.merge import MERGED, distance, merge_layers
from mmtune.image.diffusion.base import load_base
from mmtune.image.diffusion.denoiser_lora import load_adapter, save_adapter
from mmtune.system.processes import pick_device

SCRATCH, AGAIN = "scratch", "again"


def merge(request: Merge) -> float:
    """Write a diffusers LoRA of the merged adapters, in fp32; returns its `distance` as read back.

    The denoiser's layers are merged, and each adapted text encoder's.

    Raises:
        AdapterError: a part doesn't load on the base, or the parts can't be merged.
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
    load_adapter(base, request.to, AGAIN)
    return distance(base.adapted.values(), AGAIN, parts)


def _tuner(model: Any, name: str) -> Any:
    """A `LoraModel` around layers that diffusers has filled: it keeps none itself.

    It is made by adding an adapter that is thrown away, which is how PEFT joins a model that has
    adapters already.
    """
    from copy import deepcopy

    from peft import LoraModel

    config = deepcopy(model.peft_config[name])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that there are adapters already is the point
        return LoraModel(model, config, SCRATCH)
