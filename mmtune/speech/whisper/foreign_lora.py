"""Whisper adapters of peft, of LoRA, LoHa and LoKr, written as one PEFT folder of LoRA."""

from __future__ import annotations

import re
from collections.abc import Collection
from pathlib import Path

from mmtune.adapters.adopt import ForeignAdapter
from mmtune.adapters.foreign import refuse_unsupported, scaling_of
from mmtune.adapters.foreign_layers import (
    Pair,
    as_lora,
    counted,
    keys_by_layer,
    kind_of,
    own_rank,
    require_all_known,
    to_pair,
    weight_shape,
)
from mmtune.adapters.switch import MARKER, PREFIX, WEIGHTS
from mmtune.errors import AdapterError
from mmtune.system.files import write_json

LAYERS = re.compile(r"(base_model\.model\.)?(model\.)?(en|de)coder\.layers\.\d+\.")
MAX_SIDE = 2**16  # of a layer; the sides of the largest Whisper's layers are 5,120


def knows(keys: Collection[str]) -> bool:
    """Whether these are the keys of a Whisper adapter."""
    return any(LAYERS.match(key) for key in keys)


def convert(foreign: ForeignAdapter, base: str, to: Path) -> dict[str, str]:
    """Write an adapter as the PEFT folder that `load_adapters` reads.

    The base isn't loaded: `load_adapters` compares the layers with it.

    Args:
        foreign: the adapter, with peft's adapter_config.json.
        base: the base that it is for.
        to: an empty folder.

    Returns:
        The kinds of its layers, for the card.

    Raises:
        AdapterError: the config is missing, a key is unknown, or a layer is of a kind that no
            LoRA can express.
    """
    from mmtune.system.tensors import load_tensors, save_tensors

    file, given = foreign.file, foreign.config
    if given is None:
        raise AdapterError(
            f"{file} doesn't say its alpha: {file.with_name(MARKER)} is missing",
            f"give the whole folder that peft wrote, with {MARKER} and {WEIGHTS}",
        )
    refuse_unsupported(given, file.with_name(MARKER))
    layers = _layers(foreign)
    tensors = load_tensors(file, AdapterError, "copy the file again from its source")
    pairs: dict[str, Pair] = {}
    for name, keys in layers.items():
        parts = {part: tensors[key] for part, key in keys.items()}
        try:
            shape = weight_shape({part: tuple(tensor.shape) for part, tensor in parts.items()})
            if max(shape) > MAX_SIDE:
                raise ValueError(f"no layer is as large as {shape[0]:,} x {shape[1]:,}")
            scale = scaling_of(name, given, own_rank(parts), file.with_name(MARKER))
            pairs[name] = to_pair(parts, shape, scale)
        except ValueError as error:
            raise AdapterError(
                f"{file}: {name}: {error}", "load a LoRA adapter of Whisper's linear layers"
            ) from None
        except AdapterError as error:
            raise AdapterError(f"{file}: {name}: {error.found}", error.cure) from None
    state, config = as_lora(pairs, inference_mode=True, base_model_name_or_path=base)
    named = {f"{PREFIX}{name}": tensor for name, tensor in state.items()}
    save_tensors(to / WEIGHTS, named, {"format": "pt"})
    write_json(to / MARKER, config)
    return {"kinds": counted(map(kind_of, layers.values()))}


def _layers(foreign: ForeignAdapter) -> dict[str, dict[str, str]]:
    """The keys of each layer by what they are, by the layer's name in the base."""
    layers, unread = keys_by_layer(foreign.shapes, foreign.file)
    found = {}
    for stem, keys in layers.items():
        name = stem.removeprefix(PREFIX)
        # A Whisper without its last layer has no "model." before its own names.
        found[name if name.startswith(("model.", "proj_out")) else f"model.{name}"] = keys
    unread += [key for keys in found.values() if not kind_of(keys) for key in keys.values()]
    cure = "load a LoRA adapter of Whisper's linear layers"
    require_all_known(unread, len(foreign.shapes), foreign.file, "Whisper", cure)
    return found
