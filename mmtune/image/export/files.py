"""Adapters as files: diffusers' LoRA folder, and the single file of ComfyUI and A1111."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from PIL.Image import Image
from torch import Tensor

from mmtune.adapters.export import Export
from mmtune.errors import AdapterError
from mmtune.image.base import DiffusionBase, quiet
from mmtune.image.export.names import unet_names, unread_by_comfy
from mmtune.image.export.proof import EXPORTED, Picture, same_layers, unproved
from mmtune.image.export.weights import Folded, metadata, save
from mmtune.image.generate import WEIGHTS, load_adapter

Proof = tuple[dict[str, Any], tuple[str, ...]]
ALPHA, DOWN, UP = ".alpha", ".lora_down.weight", ".lora_up.weight"


def write_diffusers(
    request: Export, base: DiffusionBase, folded: Folded, picture: Picture, before: Image
) -> Proof:
    """A folder that `load_lora_weights` reads, with diffusers' own metadata and ours."""
    part = base.family.denoiser_name
    _save_lora(base, folded, request.to, request, "diffusers")
    load_adapter(base, request.to, EXPORTED)  # strictly: all keys, and none else
    layers = same_layers(base, request.scale, request.to)
    levels = picture.compare(before, picture.draw({EXPORTED: 1.0}), request.to)
    return {"keys": len(folded.tensors), f"layers of the {part}": layers, **levels}, ()


def write_single(
    request: Export, base: DiffusionBase, folded: Folded, picture: Picture, before: Image
) -> Proof:
    """One file: kohya's keys for a UNet, peft's below `transformer.` for the other families."""
    path = request.to
    notes: tuple[str, ...] = ()
    if base.family.denoiser_name == "unet":
        tensors, names = kohya(base, folded)
        diffusers = all(module == name for module, name in names.items())
        layout = "diffusers" if diffusers else "https://github.com/Stability-AI/generative-models"
        save(tensors, path, metadata(request, base, folded, layout))
        check_kohya(path, base)
    else:
        unread = unread_by_comfy(base.family.pipeline_class, folded.modules)
        if unread:
            raise AdapterError(
                f"ComfyUI has no place for {len(unread)} adapted modules, such as {unread[0]}",
                "--format fused or --format diffusers; or train again on other lora.targets",
            )
        _save_lora(base, folded, path.parent, request, "diffusers", path.name)
        wanted = {f"{base.family.denoiser_name}.{key}" for key in folded.tensors}
        if other := sorted(wanted ^ _read(path).keys()):
            raise unproved(path, f"{len(other)} keys are missing or match nothing: {other[0]}")
        notes = (
            "keys are diffusers' (transformer.….lora_A.weight), which ComfyUI reads; sd-scripts "
            "trains this family under other names and doesn't",
        )
    load_file_strictly(base, path)
    layers = same_layers(base, request.scale, request.to)
    levels = picture.compare(before, picture.draw({EXPORTED: 1.0}), path)
    return {"keys": len(_read(path)), "layers": layers, **levels}, notes


def kohya(base: DiffusionBase, folded: Folded) -> tuple[dict[str, Tensor], dict[str, str]]:
    """A UNet's LoRA under kohya's keys, and the name that each module got."""
    from diffusers.utils import convert_state_dict_to_kohya

    names = _names(base, folded.modules)
    renamed = {}
    for key, tensor in folded.tensors.items():
        module, _, part = key.partition(".lora_")
        renamed[f"unet.{names[module]}.lora_{part}"] = tensor
    # It sets alpha to the rank, which is right because the strength is in B.
    state = convert_state_dict_to_kohya(renamed)
    return {k: v.float() if k.endswith(ALPHA) else v for k, v in state.items()}, names


def check_kohya(path: Path, base: DiffusionBase) -> None:
    """Find a module of the base for each key of a file, with a weight of the right shape.

    Raises:
        AdapterError: a key that belongs to nothing, a part that is missing, a shape or an alpha
            that is wrong.
    """
    weights = {n: w for n, m in base.denoiser.named_modules() if (w := _weight(n, m)) is not None}
    # All modules at once may have no original names where the adapted ones do, so each by itself.
    shapes = {
        f"lora_unet_{name.replace('.', '_')}": weight.shape
        for module, weight in weights.items()
        for name in (module, _names(base, [module])[module])
    }
    layers: dict[str, dict[str, Tensor]] = {}
    for key, tensor in _read(path).items():
        stem, dot, part = key.partition(".")
        layers.setdefault(stem, {})[dot + part] = tensor
    for stem, parts in layers.items():
        if stem not in shapes:
            raise unproved(path, f"{stem} belongs to no module of {base.name}")
        if parts.keys() != {ALPHA, DOWN, UP}:
            raise unproved(path, f"{stem} has {', '.join(sorted(parts))}")
        down, up, rank = parts[DOWN], parts[UP], parts[DOWN].shape[0]
        if (up.shape[0], *down.shape[1:]) != tuple(shapes[stem]) or up.shape[1] != rank:
            raise unproved(path, f"{stem} doesn't fit a weight of {tuple(shapes[stem])}")
        if float(parts[ALPHA]) != rank:
            raise unproved(path, f"{stem} has alpha {float(parts[ALPHA]):g} and rank {rank}")


def load_file_strictly(base: DiffusionBase, path: Path) -> None:
    """Load a single file by diffusers, as `EXPORTED`; every layer is compared afterwards.

    Raises:
        AdapterError: diffusers refuses it.
    """
    try:
        with quiet():
            base.pipeline.load_lora_weights(
                path.parent, weight_name=path.name, adapter_name=EXPORTED
            )
    except (ValueError, RuntimeError, KeyError, TypeError) as error:
        raise unproved(path, str(error).splitlines()[0][:300]) from error


def _save_lora(
    base: DiffusionBase,
    folded: Folded,
    folder: Path,
    request: Export,
    layout: str,
    name: str = WEIGHTS,
) -> None:
    from safetensors import safe_open

    part = base.family.denoiser_name
    type(base.pipeline).save_lora_weights(
        folder,
        weight_name=name,
        **{f"{part}_lora_layers": folded.tensors, f"{part}_lora_adapter_metadata": folded.config},
    )
    # diffusers writes no metadata but its own: written again with both.
    with safe_open(folder / name, "pt") as file:
        theirs = file.metadata()
    save(_read(folder / name), folder / name, theirs | metadata(request, base, folded, layout))


def _names(base: DiffusionBase, modules: Iterable[str]) -> dict[str, str]:
    return unet_names(modules, base.denoiser.config, base.family.name == "SDXL")


def _weight(name: str, module: Any) -> Tensor | None:
    """The weight of one of the base's own modules, adapted or not."""
    if ".lora_" in name or name.endswith(".base_layer"):
        return None
    inner = module.get_base_layer() if hasattr(module, "get_base_layer") else module
    weight = getattr(inner, "weight", None)
    return weight if isinstance(weight, Tensor) and weight.ndim > 1 else None


def _read(path: Path) -> dict[str, Tensor]:
    from safetensors.torch import load_file

    return dict(load_file(path))
