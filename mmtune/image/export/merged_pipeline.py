"""The export format `fused`: the whole pipeline with the adapter merged into its weights."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from PIL.Image import Image
from torch import Tensor

from mmtune.adapters.exported import Export, hashed_weights
from mmtune.adapters.layer_strength import changed
from mmtune.image.diffusion.base import DiffusionBase, load_base
from mmtune.image.diffusion.denoiser_lora import active
from mmtune.image.export.parity import SOURCE, Picture, adapted_layers, same_change, unproved
from mmtune.image.export.weights import origin
from mmtune.image.single_file import SingleFile
from mmtune.image.source import INDEX_FILE, resolve_base
from mmtune.system.files import copy_folder, write_json
from mmtune.system.quiet import quiet

FACTS = "export.json"
# Components that load_base doesn't load, because they alter or withhold images.
LEFT = ("safety_checker", "feature_extractor", "image_encoder")


@torch.no_grad()
def write_fused(
    request: Export, base: DiffusionBase, picture: Picture, before: Image
) -> tuple[dict[str, Any], tuple[str, ...]]:
    """Write a folder for `DiffusionPipeline.from_pretrained`, which needs no peft.

    Components that mmtune doesn't load, such as a safety checker, are copied from the base.

    Args:
        picture: samples the image of the proof.
        before: the image of the adapter before the export.

    Returns:
        Facts of the proof, and notes.

    Raises:
        AdapterError: the written pipeline isn't the base with this adapter.
    """
    pipeline, device, dtype = base.pipeline, base.device, base.dtype
    wanted, parts = _wanted(base, request.scale), list(base.adapted)
    layers = sum(1 for _ in adapted_layers(base))
    with active(base, {SOURCE: request.scale}, {SOURCE: None}):
        pipeline.fuse_lora(components=parts, adapter_names=[SOURCE])
    with quiet():
        pipeline.unload_lora_weights()
        pipeline.save_pretrained(request.to)
    hashes = hashed_weights(request.to)
    names = _state(base, parts).keys()
    notes = _complete(request)
    facts: dict[str, Any] = {**origin(request), "weights": hashes}
    if base.family.is_published_size:
        facts["modelspec.architecture"] = base.family.export_kind()[0]
    write_json(request.to / FACTS, facts)
    del pipeline, base
    again = load_base(str(request.to), device, dtype)
    found = _state(again, parts)
    if found.keys() != names:
        extra = sorted(found.keys() ^ names)
        raise unproved(request.to, f"{len(extra)} keys differ, such as {extra[0]}")
    for name, tensor in wanted.items():
        same_change(tensor, found[name].cpu(), name, request.to)
    levels = picture.compare(before, picture.draw({}, again), request.to)
    return {"keys": len(found), "layers": layers, **levels}, notes


def _state(base: DiffusionBase, parts: Iterable[str]) -> dict[str, Tensor]:
    return {
        f"{part}.{name}": tensor
        for part in parts
        for name, tensor in getattr(base.pipeline, part).state_dict().items()
    }


def _wanted(base: DiffusionBase, scale: float) -> dict[str, Tensor]:
    """Each adapted layer's parameters with the adapter in them, fp32, by their names."""
    with active(base, {SOURCE: scale}, {SOURCE: None}):
        return {
            f"{name}.{parameter}": tensor.cpu()
            for name, layer in adapted_layers(base)
            for parameter, tensor in changed(layer, SOURCE).items()
        }


def _complete(request: Export) -> tuple[str, ...]:
    """Copy the base's components that aren't loaded, and list them in the index again."""
    source = resolve_base(request.base)
    if isinstance(source, SingleFile):  # it has nothing that isn't loaded
        return ()
    folder = source if isinstance(source, Path) else _snapshot(source)
    if folder is None or not (folder / INDEX_FILE).is_file():
        return ()
    theirs = json.loads((folder / INDEX_FILE).read_text(encoding="utf-8"))
    ours = json.loads((request.to / INDEX_FILE).read_text(encoding="utf-8"))
    missing = []
    for name in LEFT:
        if not (theirs.get(name) or [None])[0] or (ours.get(name) or [None])[0]:
            continue
        if (folder / name).is_dir():
            copy_folder(folder / name, request.to / name)
            ours[name] = theirs[name]
        else:
            missing.append(name)
    if "requires_safety_checker" in ours and ours.get("safety_checker", [None])[0]:
        ours["requires_safety_checker"] = theirs.get("requires_safety_checker", True)
    write_json(request.to / INDEX_FILE, ours)
    return tuple(f"the base's {name} is not on this machine and was left out" for name in missing)


def _snapshot(repo: str) -> Path | None:
    from huggingface_hub import try_to_load_from_cache

    found = try_to_load_from_cache(repo, INDEX_FILE)
    return Path(found).parent if isinstance(found, str) else None
