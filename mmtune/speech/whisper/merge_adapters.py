"""Merge several Whisper adapters into one PEFT folder."""

from __future__ import annotations

import torch

from mmtune.adapters.members import Merge
from mmtune.adapters.merge import MERGED, distance, merge_layers
from mmtune.speech.whisper.base import load_base
from mmtune.speech.whisper.decoder_lora import load_adapters
from mmtune.system.processes import this_process


def merge(request: Merge) -> float:
    """Write a PEFT folder of the merged adapters in fp32; return its `distance` as read back.

    Raises:
        AdapterError: a part doesn't load on the base, or the parts can't be merged.
    """
    base = load_base(request.base, this_process().device, torch.float32)
    folders = {f"part {i}": part.folder for i, part in enumerate(request.parts)}
    switch = load_adapters(base, folders)
    parts = {switch.inner[name]: part for name, part in zip(folders, request.parts, strict=True)}
    merge_layers(switch.model.base_model, parts, request.mixing)
    switch.model.peft_config[MERGED].base_model_name_or_path = base.name
    # Without this flag peft asks the hub whether the vocabulary has grown.
    switch.model.save_pretrained(
        str(request.to), selected_adapters=[MERGED], save_embedding_layers=False
    )
    switch.load(MERGED, request.to)
    return distance([base.model], switch.inner[MERGED], parts)
