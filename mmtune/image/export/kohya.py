"""The export formats `diffusers` (a LoRA folder) and `kohya` (one file for ComfyUI and A1111)."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from PIL.Image import Image
from torch import Tensor

from mmtune.adapters.exported import Export
from mmtune.adapters.foreign_layers import Pair, padded
from mmtune.errors import AdapterError, first_line
from mmtune.image.diffusion.base import DiffusionBase
from mmtune.image.diffusion.denoiser_lora import WEIGHTS, load_adapter
from mmtune.image.export.image_format import Proof
from mmtune.image.export.kohya_flux_layers import LAYOUT, stacked, unstacked
from mmtune.image.export.kohya_names import clip_name, unet_names, unread_by_comfy
from mmtune.image.export.parity import EXPORTED, Picture, same_layers, unproved
from mmtune.image.export.weights import Folded, metadata, save
from mmtune.system.quiet import quiet
from mmtune.system.tensors import load_tensors, read_metadata

ORIGINAL = ("lora_unet_input_blocks", "lora_unet_middle_block", "lora_unet_output_blocks")
ALPHA, DOWN, UP = ".alpha", ".lora_down.weight", ".lora_up.weight"


def write_diffusers(
    request: Export, base: DiffusionBase, folded: Folded, picture: Picture, before: Image
) -> Proof:
    """Write a folder for `load_lora_weights`, with diffusers' own metadata and ours.

    Returns:
        Facts of the proof, and notes.

    Raises:
        AdapterError: the written adapter isn't the same.
    """
    _save_lora(base, folded, request.to, request)
    load_adapter(base, request.to, EXPORTED)  # fails if a key is missing or unknown
    layers = same_layers(base, request.scale, request.to)
    levels = picture.compare(before, picture.draw({EXPORTED: 1.0}), request.to)
    return {"keys": len(folded.keys), "layers": layers, **levels}, ()


def write_single(
    request: Export, base: DiffusionBase, folded: Folded, picture: Picture, before: Image
) -> Proof:
    """Write one file: with kohya's keys for UNets and FLUX.1, else peft's below `transformer.`.

    Returns:
        Facts of the proof, and notes.

    Raises:
        AdapterError: ComfyUI can't read some modules, or the written adapter isn't the same.
    """
    path = request.to
    notes: tuple[str, ...] = ()
    layout_of = base.family.export_names.single_file
    fused = stacked(base, folded) if layout_of == "flux" else None
    if layout_of in ("unet", "original_unet"):
        tensors = kohya(base, folded)
        original = any(key.startswith(ORIGINAL) for key in tensors)
        layout = "https://github.com/Stability-AI/generative-models" if original else "diffusers"
        save(tensors, path, metadata(request, base, folded, layout))
        check_kohya(path, base)
        load_file_strictly(base, path)
    elif fused is not None:
        save(fused, path, metadata(request, base, folded, LAYOUT))
        # diffusers splits such layers only for the width of the published model.
        wanted = set(folded.modules(base.family.denoiser_name))
        load_strictly(base, unstacked(_read(path), base, wanted, path), path)
        notes = (
            "keys are sd-scripts' (lora_unet_double_blocks_…), in which q, k and v are one layer; "
            "ComfyUI reads them, and diffusers too",
        )
    else:
        part = base.family.denoiser_name
        unread = unread_by_comfy(base.family.export_names.comfy, folded.modules(part))
        if unread:
            raise AdapterError(
                f"ComfyUI can't read {len(unread)} adapted modules, such as {unread[0]}",
                "use --format fused or --format diffusers, or train again on other lora.targets",
            )
        _save_lora(base, folded, path.parent, request, path.name)
        if other := sorted(folded.keys ^ _read(path).keys()):
            raise unproved(path, f"{len(other)} keys are missing or match nothing: {other[0]}")
        notes = (
            "keys are diffusers' (transformer.….lora_A.weight); ComfyUI reads them, but sd-scripts "
            "doesn't: it uses other names for this family",
        )
        load_file_strictly(base, path)
    layers = same_layers(base, request.scale, request.to)
    levels = picture.compare(before, picture.draw({EXPORTED: 1.0}), path)
    return {"keys": len(_read(path)), "layers": layers, **levels}, notes


def kohya(base: DiffusionBase, folded: Folded) -> dict[str, Tensor]:
    """Rename the LoRA of a UNet and its text encoders to kohya's keys.

    diffusers' `convert_state_dict_to_kohya` gives the same keys where kohya uses diffusers' names.
    It knows neither the names of SDXL's UNet nor those of CLIP.

    Two things are written for the sake of diffusers' loader, and change nothing. All layers get
    the largest rank, with zeros, because it divides the most common alpha by each layer's own
    rank. Of a text encoder whose attention has no `out_proj` it doesn't recognise the keys, so one
    gets a pair of zeros.
    """
    state: dict[str, Tensor] = {}
    for part, tensors in folded.tensors.items():
        modules = folded.modules(part)
        pairs = {
            module: Pair(tensors[f"{module}.lora_A.weight"], tensors[f"{module}.lora_B.weight"])
            for module in modules
        }
        if part != base.family.denoiser_name:
            pairs |= _unchanged_output(base.family.text_encoders[part], modules)
        for module, stem in _stems(base, part, pairs).items():
            pair = padded(pairs[module], folded.rank)
            state[stem + DOWN], state[stem + UP] = pair.down, pair.up
            state[stem + ALPHA] = torch.tensor(float(folded.rank))
    return state


def _unchanged_output(encoder: Any, modules: Iterable[str]) -> dict[str, Pair]:
    """A pair of zeros for an attention's output, if attention is adapted and no output is."""
    attention = [module for module in modules if ".self_attn." in module]
    if not attention or any(module.endswith(".out_proj") for module in attention):
        return {}
    name = f"{attention[0].rpartition('.')[0]}.out_proj"
    out, ins = encoder.get_submodule(name).weight.shape
    return {name: Pair(torch.zeros(1, ins), torch.zeros(out, 1))}


def check_kohya(path: Path, base: DiffusionBase) -> None:
    """Require that each key of a file belongs to a module of the base with a fitting shape.

    Raises:
        AdapterError: a key is unknown or missing, or a shape or an alpha is wrong.
    """
    shapes: dict[str, torch.Size] = {}
    for part, model in base.adapted.items():
        for module, each in model.named_modules():
            weight = _weight(module, each)
            if weight is None:
                continue
            # One by one: if some module has no original name, `_stems` of all gives none of them.
            shapes |= dict.fromkeys(_stems(base, part, [module]).values(), weight.shape)
            if part == base.family.denoiser_name:
                shapes["lora_unet_" + module.replace(".", "_")] = weight.shape
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
    """Load a single file with diffusers, as the adapter `EXPORTED`.

    Raises:
        AdapterError: diffusers refuses the file.
    """
    load_strictly(base, path.parent, path, weight_name=path.name)


def load_strictly(
    base: DiffusionBase, source: Path | dict[str, Tensor], path: Path, **given: str
) -> None:
    """Load a folder or tensors with diffusers, as the adapter `EXPORTED`.

    Raises:
        AdapterError: diffusers refuses it; the error names `path`.
    """
    try:
        with quiet():
            base.pipeline.load_lora_weights(source, adapter_name=EXPORTED, **given)
    except (ValueError, RuntimeError, KeyError, TypeError) as error:
        raise unproved(path, first_line(error)) from error


def _save_lora(
    base: DiffusionBase, folded: Folded, folder: Path, request: Export, name: str = WEIGHTS
) -> None:
    layers = {f"{part}_lora_layers": tensors for part, tensors in folded.tensors.items()}
    configs = {f"{part}_lora_adapter_metadata": c for part, c in folded.configs.items()}
    type(base.pipeline).save_lora_weights(folder, weight_name=name, **layers, **configs)
    # diffusers writes only its own metadata, so the file is written again with both.
    theirs = read_metadata(folder / name, AdapterError)
    facts = theirs | metadata(request, base, folded, "diffusers")
    save(_read(folder / name), folder / name, facts)


def _stems(base: DiffusionBase, part: str, modules: Iterable[str]) -> dict[str, str]:
    """The beginning of kohya's keys for each module of a part."""
    sdxl = base.family.export_names.single_file == "original_unet"
    if part != base.family.denoiser_name:
        encoder = 2 if part.endswith("_2") else 1
        return {module: clip_name(module, encoder, 2 if sdxl else 1) for module in modules}
    names = unet_names(modules, base.denoiser.config, sdxl)
    return {module: "lora_unet_" + name.replace(".", "_") for module, name in names.items()}


def _weight(name: str, module: Any) -> Tensor | None:
    """The weight of one of the base's own modules, adapted or not."""
    if ".lora_" in name or name.endswith(".base_layer"):
        return None
    inner = module.get_base_layer() if hasattr(module, "get_base_layer") else module
    weight = getattr(inner, "weight", None)
    return weight if isinstance(weight, Tensor) and weight.ndim > 1 else None


def _read(path: Path) -> dict[str, Tensor]:
    return load_tensors(path, AdapterError, "free disk space, and export again")
