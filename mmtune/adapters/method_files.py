"""Read an adapter of LoHa, LoKr or (IA)³ as peft's configuration, from its tensors' shapes.

As for LoRA (`mmtune/adapters/foreign.py`), the tensors' names say which layers are changed: no
regular expression of the file is run, and no tensor may be larger than the base's layer.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mmtune.adapters.foreign import Shapes, read_config
from mmtune.adapters.integrity import PEFT_CONFIG
from mmtune.errors import AdapterError
from mmtune.methods import METHODS, Method, method_of_peft

PARTS: Mapping[str, tuple[str, ...]] = {  # of each layer; LoKr has some of them
    "loha": ("hada_w1_a", "hada_w1_b", "hada_w2_a", "hada_w2_b"),
    "lokr": ("lokr_w1", "lokr_w2", "lokr_w2_a", "lokr_w2_b"),
    "ia3": ("ia3_l",),
}
# Settings of peft that mmtune doesn't train with; where one is set, the change is another one.
OTHERS = (
    *("modules_to_save", "rank_pattern", "alpha_pattern", "use_effective_conv2d"),
    *("decompose_both", "fan_in_fan_out"),
)
MAX_NUMBER = 1e9  # of a rank or alpha; NaN isn't below it
RESTORE = "restore the folder, or train the adapter again"
_ENDING = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.]*")


def read_settings(
    method: Method, shapes: Shapes, given: Mapping[str, Any], modules: Mapping[str, Any], path: Path
) -> Any:
    """Make peft's configuration of an adapter.

    Args:
        method: one of `PARTS`.
        shapes: shapes of the tensors, by names below the base's own.
        given: the adapter's adapter_config.json.
        modules: the base's modules by name, with or without adapters.
        path: of the config, for messages.

    Raises:
        AdapterError: a tensor belongs to no layer of the base or is too large for it, a layer
            lacks a part, or the config contradicts the tensors or holds a setting that mmtune
            doesn't load.
    """
    from peft import IA3Config, LoHaConfig, LoKrConfig

    used = [name for name in OTHERS if given.get(name)]
    if used:
        raise AdapterError(
            f"{path}: the adapter uses {', '.join(used)}, which mmtune doesn't load",
            f"train the {method.title} without it",
        )
    layers = _layers(method, shapes, modules, path)
    fixed: dict[str, Any] = {"target_modules": sorted(layers), "inference_mode": True}
    if method.name == "ia3":
        inputs = tuple(_endings(given, path))  # as peft reads them: ends of names
        return IA3Config(
            **fixed, feedforward_modules=[name for name in sorted(layers) if name.endswith(inputs)]
        )
    rank, alpha = _whole("r", given, path), _number("alpha", given, path)
    longest = max(max(_sides(modules[name]) or (0,)) for name in layers)
    if not 1 <= rank <= longest:
        raise AdapterError(f"{path}: the rank r is {rank}; layers have {longest} sides", RESTORE)
    if method.name == "loha":
        return LoHaConfig(r=rank, alpha=alpha, **fixed)
    factor = _whole("decompose_factor", given, path)
    return LoKrConfig(r=rank, alpha=alpha, decompose_factor=factor, **fixed)


def _layers(
    method: Method, shapes: Shapes, modules: Mapping[str, Any], path: Path
) -> dict[str, set[str]]:
    parts, found = PARTS[method.name], dict[str, set[str]]()
    for key, shape in shapes.items():
        name, _, part = key.rpartition(".")
        weight = _sides(modules.get(name))
        if part not in parts or weight is None:
            raise AdapterError(
                f"{path.parent}: the adapter doesn't fit the base: {key} is no part of a "
                f"{method.title} of one of its layers",
                "load the adapter on the base named in its card.json",
            )
        # A factor has the layer's longer side times the rank, and the rank is at most that side.
        if not 1 <= math.prod(shape) <= max(weight) ** 2:
            raise AdapterError(
                f"{path.parent}: {key} has the shape {shape}, too large for a layer of "
                f"{'x'.join(map(str, weight))}",
                "load the adapter on the base that it was trained on",
            )
        found.setdefault(name, set()).add(part)
    if not found:
        raise AdapterError(f"{path.parent} holds no layer of a {method.title}", RESTORE)
    if method.name == "loha":
        for name, held in found.items():
            if lost := sorted(set(parts) - held):
                raise AdapterError(
                    f"{path.parent}: {len(lost)} keys are missing (first: {name}.{lost[0]})",
                    RESTORE,
                )
    return found


def _sides(module: Any) -> tuple[int, ...] | None:
    """Outputs and inputs of a layer, a convolution's with its kernel; None: it is no such layer."""
    inner = module.get_base_layer() if hasattr(module, "get_base_layer") else module
    shape: Any = getattr(getattr(inner, "weight", None), "shape", ())
    return (int(shape[0]), math.prod(shape[1:])) if len(shape) > 1 else None


def _endings(given: Mapping[str, Any], path: Path) -> list[str]:
    named = given.get("feedforward_modules") or []
    if not isinstance(named, list) or not all(_ENDING.fullmatch(str(each)) for each in named):
        raise AdapterError(
            f"{path}: feedforward_modules is {str(named)[:80]!r}; mmtune reads a list of names and "
            "runs no regular expression",
            "write the names of the layers in its place",
        )
    return [str(each) for each in named]


def _whole(name: str, given: Mapping[str, Any], path: Path) -> int:
    value = _number(name, given, path)
    if value != int(value):
        raise AdapterError(f"{path}: {name} = {value:g} is not a whole number", RESTORE)
    return int(value)


def _number(name: str, given: Mapping[str, Any], path: Path) -> float:
    value = given.get(name)
    if not isinstance(value, bool) and isinstance(value, int | float) and abs(value) < MAX_NUMBER:
        return float(value)
    raise AdapterError(f"{path}: {name} = {str(value)[:80]} is not a usable number", RESTORE)


KINDS = tuple(METHODS[name].peft_type for name in ("lora", *PARTS))  # what `read_settings` reads
ALL_KINDS = tuple(dict.fromkeys(each.peft_type for each in METHODS.values()))


def peft_kind(folder: Path) -> str:
    """Return peft's name of an adapter's method; "LORA" where the folder isn't a PEFT folder.

    Raises:
        AdapterError: the config can't be read, or is of a method that mmtune doesn't know.
    """
    config = folder / PEFT_CONFIG
    return str(read_config(config, ALL_KINDS)["peft_type"]) if config.is_file() else "LORA"


def require_mergeable(folder: Path) -> None:
    """Refuse an adapter that can't be merged with others into one.

    Raises:
        AdapterError: its method has no such merge.
    """
    method = method_of_peft(peft_kind(folder))
    assert method is not None
    if not method.merges:
        side = (
            "use the adapters side by side (--adapter A --adapter B)"
            if method.by_layer
            else "use each alone, or choose one for each row: mmtune compose --route FILE"
        )
        raise AdapterError(
            f"{folder} is trained by {method.title}; mmtune compose merges the pairs of matrices "
            "of LoRA, which it doesn't have",
            f"{side}, or train with adapter.method lora",
        )
