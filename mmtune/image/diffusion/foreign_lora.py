"""Image adapters of other programs: which layer of a base each key means, and their conversion.

Read are the names of sd-scripts and LyCORIS (`lora_unet_…`, `lora_te1_…`), of diffusers and peft
(`unet.….lora_A.weight`, `base_model.model.…`) and of ComfyUI (`diffusion_model.…`). All of them are
the names of the base's modules behind a prefix, with dots or underscores, or the names of the
original code (SDXL's, FLUX.1's). So one table of the base's own modules resolves all.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mmtune.adapters.adopt import ForeignAdapter
from mmtune.adapters.foreign import CONFIGS, json_in_metadata, scaling_of
from mmtune.adapters.foreign_layers import (
    Pair,
    as_lora,
    counted,
    keys_by_layer,
    kind_of,
    own_rank,
    require_all_known,
    split_rows,
    to_pair,
)
from mmtune.errors import AdapterError

if TYPE_CHECKING:
    from torch import Tensor

    from mmtune.image.diffusion.base import DiffusionBase

DENOISER = (
    *("lora_unet_", "lora_transformer_", "lycoris_unet_", "lycoris_transformer_", "lycoris_"),
    *("base_model_model_", "model_diffusion_model_", "diffusion_model_", "unet_", "transformer_"),
    "",
)
ENCODERS = {  # prefixes of a text encoder's keys, by its name in the pipeline
    "text_encoder": ("lora_te_", "lora_te1_", "text_encoder_"),
    "text_encoder_2": ("lora_te2_", "text_encoder_2_"),
}
# How keys of image adapters begin, for telling them from those of another modality.
BEGINNINGS = re.compile(
    r"(lora_unet_|lora_te\d?_|lora_transformer_|lycoris_|unet\.|transformer\.|text_encoder(_\d)?\.|"
    r"(model\.)?diffusion_model\.|(base_model\.model\.)?(down_blocks|mid_block|up_blocks|"
    r"double_blocks|single_blocks|transformer_blocks|single_transformer_blocks|layers|blocks)[._])"
)


@dataclass(frozen=True)
class Target:
    """A module of the base, with the shape of its weight."""

    part: str
    module: str
    shape: tuple[int, ...]


def knows(keys: Collection[str]) -> bool:
    """Whether these are the keys of an image adapter."""
    return any(BEGINNINGS.match(key) for key in keys)


def convert(foreign: ForeignAdapter, base: str, to: Path) -> dict[str, str]:
    """Write an adapter of another program as the folder that `load_adapter` reads.

    Args:
        foreign: the adapter.
        base: the base that it is for; its modules and their shapes are read, and not its weights.
        to: an empty folder.

    Returns:
        The kinds of its layers, for the card.

    Raises:
        AdapterError: keys belong to no module of the base, or a layer is of a kind that no LoRA
            can express.
        BaseModelError: the base can't be loaded.
    """
    from mmtune.image.diffusion.denoiser_lora import require_small
    from mmtune.image.diffusion.outline import outline
    from mmtune.system.tensors import load_tensors

    loaded = outline(base)
    require_small(foreign.shapes, loaded, foreign.file)
    layers = resolve(foreign, loaded)
    tensors = load_tensors(foreign.file, AdapterError, "copy the file again from its source")
    configs = json_in_metadata(foreign.file, CONFIGS)
    pairs: dict[str, dict[str, Pair]] = {}
    for stem, (keys, targets) in layers.items():
        parts = {part: tensors[key] for part, key in keys.items()}
        for target, pair in _pairs(foreign, configs, stem, parts, targets):
            if target.module in pairs.setdefault(target.part, {}):
                raise AdapterError(
                    f"{foreign.file} changes {target.part}.{target.module} twice (again: {stem})",
                    "ask its author for a file that names each layer once",
                )
            pairs[target.part][target.module] = pair
    _save(pairs, loaded, to)
    return {"kinds": counted(kind_of(keys) for keys, _ in layers.values())}


def resolve(
    foreign: ForeignAdapter, base: DiffusionBase
) -> dict[str, tuple[dict[str, str], tuple[Target, ...]]]:
    """Find the modules that each layer of an adapter changes.

    Returns:
        By the layer's name in the file: its tensors' keys by what they are, and the modules.

    Raises:
        AdapterError: a key is of an unknown kind, or belongs to no module.
    """
    stems, unread = keys_by_layer(foreign.shapes, foreign.file)
    table, found = _table(base), {}
    for stem, keys in stems.items():
        targets = next((table[name] for name in _names(stem) if name in table), None)
        if targets is None or not kind_of(keys):
            unread += keys.values()
        else:
            found[stem] = keys, targets
    cure = _cure(unread, base, foreign)
    require_all_known(unread, len(foreign.shapes), foreign.file, base.name, cure)
    return found


def _cure(unread: list[str], base: DiffusionBase, foreign: ForeignAdapter) -> str:
    encoders = any(re.match(r"lora_te|text_encoder", key) for key in unread)
    if encoders and not base.family.text_encoders:
        return (
            f"mmtune adapts no text encoder of {base.family.name}: ask its author for a file "
            "without the text encoder"
        )
    return f"name the base that it was trained on{foreign.said_base}: --base BASE"


def _names(stem: str) -> Iterator[str]:
    """The forms in which the table may hold a layer's name."""
    plain = stem.replace(".processor.", ".").replace(".", "_")
    yield plain
    # diffusers' earlier names of attention: `to_out_lora`; peft's wrapper inside of a part.
    yield plain.removesuffix("_lora")
    yield plain.replace("base_model_model_", "", 1)


def _table(base: DiffusionBase) -> dict[str, tuple[Target, ...]]:
    """The base's modules by all names that other programs give to them, with underscores."""
    from mmtune.image.export.kohya_flux_layers import fused_layers, linear_outputs
    from mmtune.image.export.kohya_names import original_names

    part, model = base.family.denoiser_name, base.denoiser
    own = _modules(model)
    names: dict[str, tuple[Target, ...]] = {}
    original = original_names(own, model.config) if part == "unet" else {}
    for module, shape in own.items():
        target = (Target(part, module, shape),)
        names[module.replace(".", "_")] = target
        if module.endswith(".to_out.0"):
            names.setdefault(module.removesuffix(".0").replace(".", "_"), target)
        if module in original:
            names.setdefault(original[module].replace(".", "_"), target)
    if base.family.export_names.single_file == "flux":
        for stem, modules in fused_layers(linear_outputs(base)):
            targets = tuple(Target(part, name, own[name]) for name in modules if name in own)
            if len(targets) == len(modules):
                names[stem] = targets
    found = {prefix + name: targets for name, targets in names.items() for prefix in DENOISER}
    for encoder, each in base.family.text_encoders.items():
        for module, shape in _modules(each).items():
            plain = module.replace(".", "_")
            bare = plain.removeprefix("text_model_")  # transformers 5 leaves it out
            for prefix in ENCODERS.get(encoder, (f"{encoder}_",)):
                for name in (bare, f"text_model_{bare}"):
                    found[prefix + name] = (Target(encoder, module, shape),)
    return found


def _modules(model: Any) -> dict[str, tuple[int, ...]]:
    """The linear and convolutional modules of a model with the shapes of their weights."""
    from torch import nn

    return {
        name: tuple(module.weight.shape)
        for name, module in model.named_modules()
        if isinstance(module, nn.Linear | nn.Conv2d)
    }


def _pairs(
    foreign: ForeignAdapter,
    configs: Mapping[str, Any],
    stem: str,
    parts: Mapping[str, Tensor],
    targets: tuple[Target, ...],
) -> Iterator[tuple[Target, Pair]]:
    """The pairs of a layer's modules; a layer of FLUX.1 may be several modules of the base."""
    first = targets[0]
    shape = (sum(target.shape[0] for target in targets), *first.shape[1:])
    own = {
        name.removeprefix(f"{first.part}."): value
        for name, value in configs.items()
        if name.startswith(f"{first.part}.")
    } or foreign.config
    try:
        scale = None
        if own and "alpha" not in parts:
            module = re.sub(r"^(base_model\.model|unet|transformer|text_encoder(_\d)?)\.", "", stem)
            scale = scaling_of(module, own, own_rank(parts), foreign.file)
        whole = to_pair(parts, shape, scale)
    except AdapterError as error:
        raise AdapterError(f"{foreign.file}: {stem}: {error.found}", error.cure) from None
    if len(targets) == 1:
        yield first, whole
        return
    split = split_rows(whole, [target.shape[0] for target in targets])
    for target, pair in zip(targets, split, strict=True):
        if pair is not None:
            yield target, pair


def _save(pairs: Mapping[str, Mapping[str, Pair]], base: DiffusionBase, to: Path) -> None:
    from mmtune.image.diffusion.denoiser_lora import write_layers

    layers: dict[str, Any] = {}
    for part, modules in pairs.items():
        state, config = as_lora(modules)
        layers[f"{part}_lora_layers"] = state
        layers[f"{part}_lora_adapter_metadata"] = config
    write_layers(base, layers, to)
