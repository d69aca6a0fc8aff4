"""Keys of FLUX.1 adapters in sd-scripts' format, with the names of Black Forest Labs' own code.

In that code query, key and value of a stream are one layer; in single-stream blocks this layer
also holds the MLP's first layer. The LoRAs of the parts can be stacked to one LoRA of the layer:
with A = [A1; A2; …] and B block-diagonal, B A is the stack of B1 A1, B2 A2, …. Parts without a LoRA
or with a smaller rank are padded with zeros, because loaders cut such a layer into equal parts.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path

import torch
from torch import Tensor

from mmtune.image.diffusion.base import DiffusionBase
from mmtune.image.export.parity import unproved
from mmtune.image.export.weights import Folded

LAYOUT = "https://github.com/black-forest-labs/flux"  # of modelspec.implementation
ALPHA, DOWN, UP = ".alpha", ".lora_down.weight", ".lora_up.weight"
A, B = ".lora_A.weight", ".lora_B.weight"
DOUBLE, SINGLE = "transformer_blocks.#.", "single_transformer_blocks.#."
# `#` is a block's number; the parts are in the order in which they are stacked.
LAYERS: dict[str, tuple[str, ...]] = {
    "double_blocks_#_img_attn_qkv": tuple(f"{DOUBLE}attn.to_{x}" for x in "qkv"),
    "double_blocks_#_txt_attn_qkv": tuple(f"{DOUBLE}attn.add_{x}_proj" for x in "qkv"),
    "double_blocks_#_img_attn_proj": (f"{DOUBLE}attn.to_out.0",),
    "double_blocks_#_txt_attn_proj": (f"{DOUBLE}attn.to_add_out",),
    "double_blocks_#_img_mlp_0": (f"{DOUBLE}ff.net.0.proj",),
    "double_blocks_#_img_mlp_2": (f"{DOUBLE}ff.net.2",),
    "double_blocks_#_txt_mlp_0": (f"{DOUBLE}ff_context.net.0.proj",),
    "double_blocks_#_txt_mlp_2": (f"{DOUBLE}ff_context.net.2",),
    "double_blocks_#_img_mod_lin": (f"{DOUBLE}norm1.linear",),
    "double_blocks_#_txt_mod_lin": (f"{DOUBLE}norm1_context.linear",),
    "single_blocks_#_linear1": (
        *(f"{SINGLE}attn.to_{x}" for x in "qkv"),
        f"{SINGLE}proj_mlp",
    ),
    "single_blocks_#_linear2": (f"{SINGLE}proj_out",),
    "single_blocks_#_modulation_lin": (f"{SINGLE}norm.linear",),
}


def stacked(base: DiffusionBase, folded: Folded) -> dict[str, Tensor] | None:
    """Stack a LoRA's parts under sd-scripts' keys; alpha is the rank.

    Returns:
        The tensors of the file; None if a module has no such key, as the embedders.
    """
    part = base.family.denoiser_name
    tensors, outs = folded.tensors[part], linear_outputs(base)
    left = set(folded.modules(part))
    state: dict[str, Tensor] = {}
    for stem, parts in fused_layers(outs):
        present = [module for module in parts if module in left]
        if not present:
            continue
        left -= set(present)
        rank = max(tensors[module + A].shape[0] for module in present)
        width = tensors[present[0] + A].shape[1]
        down = torch.zeros(rank * len(parts), width)
        up = torch.zeros(sum(outs[module] for module in parts), len(down))
        row = 0
        for i, module in enumerate(parts):
            if module in present:
                own = tensors[module + A].shape[0]
                place = slice(i * rank, i * rank + own)
                down[place] = tensors[module + A]
                up[row : row + outs[module], place] = tensors[module + B]
            row += outs[module]
        name = f"lora_unet_{stem}"
        state |= {name + DOWN: down, name + UP: up, name + ALPHA: torch.tensor(float(len(down)))}
    return None if left else state


def unstacked(
    state: Mapping[str, Tensor], base: DiffusionBase, wanted: set[str], path: Path
) -> dict[str, Tensor]:
    """Undo `stacked`, with peft's keys below `transformer.`.

    Args:
        state: tensors of a file.
        base: the base of the adapter.
        wanted: the modules that the adapter changes; all others must be zero.
        path: the file, for errors.

    Raises:
        AdapterError: a key is unknown or missing, a shape or an alpha is wrong, parts of a layer
            mix, or a module changes that isn't in `wanted`.
    """
    outs = linear_outputs(base)
    layers = {f"lora_unet_{stem}": parts for stem, parts in fused_layers(outs)}
    found: dict[str, Tensor] = {}
    for stem in sorted({key.partition(".")[0] for key in state}):
        keys = {key for key in state if key.partition(".")[0] == stem}
        if stem not in layers:
            raise unproved(path, f"{stem} belongs to no module of {base.name}")
        if keys != {stem + ALPHA, stem + DOWN, stem + UP}:
            raise unproved(path, f"{stem} has {', '.join(sorted(keys))}")
        parts, down, up = layers[stem], state[stem + DOWN], state[stem + UP]
        sizes = [outs[module] for module in parts]
        rank = len(down)
        if tuple(up.shape) != (sum(sizes), rank) or rank % len(parts):
            raise unproved(path, f"{stem} of {tuple(up.shape)} doesn't fit {sum(sizes)} outputs")
        if float(state[stem + ALPHA]) != rank:
            raise unproved(path, f"{stem} has alpha {float(state[stem + ALPHA]):g}, rank {rank}")
        each, row = rank // len(parts), 0
        for i, (module, size) in enumerate(zip(parts, sizes, strict=True)):
            place = slice(i * each, (i + 1) * each)
            rows = up[row : row + size]
            own, row = rows[:, place], row + size
            if bool(rows.any()) and int(rows.count_nonzero()) != int(own.count_nonzero()):
                raise unproved(path, f"the parts of {stem} mix")
            if module in wanted:
                found[f"transformer.{module}{A}"] = down[place].contiguous()
                found[f"transformer.{module}{B}"] = own.contiguous()
            elif bool(own.any()):
                raise unproved(path, f"{stem} changes {module}, which the adapter doesn't")
    return found


def linear_outputs(base: DiffusionBase) -> dict[str, int]:
    """Outputs of each linear layer of the denoiser, adapted or not, by its name."""
    found = {}
    for name, module in base.denoiser.named_modules():
        if ".lora_" in name or name.endswith(".base_layer"):
            continue
        inner = module.get_base_layer() if hasattr(module, "get_base_layer") else module
        if isinstance(inner, torch.nn.Linear):
            found[name] = int(inner.out_features)
    return found


def fused_layers(modules: Mapping[str, int]) -> Iterator[tuple[str, tuple[str, ...]]]:
    """Each layer of the original code with the base's modules that it is made of."""
    numbers: dict[str, set[str]] = {DOUBLE: set(), SINGLE: set()}
    for name in modules:
        for block, seen in numbers.items():
            if match := re.match(block.replace(".", r"\.").replace("#", r"(\d+)"), name):
                seen.add(match[1])
    for stem, parts in LAYERS.items():
        block = SINGLE if stem.startswith("single") else DOUBLE
        for number in sorted(numbers[block], key=int):
            yield stem.replace("#", number), tuple(p.replace("#", number) for p in parts)
