"""Whisper adapters of peft, of LoRA, LoHa and LoKr, written as one PEFT folder of LoRA."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mmtune.adapters.adopt import ForeignAdapter
from mmtune.adapters.foreign import MAX_RANKS, scaling_of
from mmtune.adapters.foreign_layers import (
    Pair,
    common_rank,
    kind_of,
    own_rank,
    padded,
    split_name,
    to_pair,
    unreadable_kind,
    weight_shape,
)
from mmtune.adapters.switch import MARKER, PREFIX, WEIGHTS
from mmtune.errors import AdapterError
from mmtune.system.files import write_json

if TYPE_CHECKING:
    from torch import Tensor

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
    layers = _layers(foreign)
    tensors = load_tensors(file, AdapterError, "copy the file again from its source")
    pairs: dict[str, Pair] = {}
    kinds: Counter[str] = Counter()
    for name, keys in layers.items():
        parts = {part: tensors[key] for part, key in keys.items()}
        kinds[kind_of(parts)] += 1
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
    ranks = {name: len(pair.down) for name, pair in pairs.items()}
    longest = {name: max(len(pair.up), pair.down.shape[1]) for name, pair in pairs.items()}
    rank = common_rank(ranks, longest, MAX_RANKS)
    state: dict[str, Tensor] = {}
    for name, pair in pairs.items():
        whole = padded(pair, rank) if rank <= longest[name] else pair
        ranks[name] = len(whole.down)
        state[f"{PREFIX}{name}.lora_A.weight"] = whole.down
        state[f"{PREFIX}{name}.lora_B.weight"] = whole.up
        if whole.magnitude is not None:
            state[f"{PREFIX}{name}.lora_magnitude_vector"] = whole.magnitude
    save_tensors(to / WEIGHTS, state, {"format": "pt"})
    write_json(
        to / MARKER, _config(ranks, base, any(p.magnitude is not None for p in pairs.values()))
    )
    return {"kinds": ", ".join(f"{kind} x {count}" for kind, count in sorted(kinds.items()))}


def _layers(foreign: ForeignAdapter) -> dict[str, dict[str, str]]:
    """The keys of each layer by what they are, by the layer's name in the base."""
    found: dict[str, dict[str, str]] = {}
    unread = []
    for key in foreign.shapes:
        if kind := unreadable_kind(key):
            raise AdapterError(
                f"{foreign.file} holds {kind} ({key}), which no LoRA can express, so mmtune "
                "doesn't read it",
                "give an adapter of LoRA, LoHa, LoKr or DoRA",
            )
        split = split_name(key)
        if split is None:
            unread.append(key)
            continue
        name = split[0].removeprefix(PREFIX)
        # A Whisper without its last layer has no "model." before its own names.
        name = name if name.startswith(("model.", "proj_out")) else f"model.{name}"
        found.setdefault(name, {})[split[1]] = key
    unread += [key for keys in found.values() if not kind_of(keys) for key in keys.values()]
    if unread:
        raise AdapterError(
            f"{foreign.file}: {len(unread)} of {len(foreign.shapes)} keys belong to no layer that "
            f"an adapter can change (first: {min(unread)})",
            "load a LoRA adapter of Whisper's linear layers",
        )
    return found


def _config(ranks: dict[str, int], base: str, dora: bool) -> dict[str, Any]:
    from peft import LoraConfig

    common = Counter(ranks.values()).most_common(1)[0][0]
    others = {name: rank for name, rank in ranks.items() if rank != common}
    config = LoraConfig(
        r=common,
        lora_alpha=common,
        rank_pattern=others,
        alpha_pattern=dict(others),
        target_modules=sorted(ranks),
        use_dora=dora,
        inference_mode=True,
        base_model_name_or_path=base,
    )
    values: dict[str, Any] = config.to_dict()
    return {k: sorted(v) if isinstance(v, set) else v for k, v in values.items()}
