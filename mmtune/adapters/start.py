"""Start training from an adapter: a fresh LoRA gets its rank, its scaling and its weights.

The change of each layer stays what it was. Where the settings ask for a larger rank, B gets zeros
and A keeps its random start, so that the new dimensions change nothing yet and can learn. Where
they ask for another alpha, B is divided by the new scaling. Where they ask for DoRA (arXiv
2402.09353), the magnitudes are the lengths of the rows of the changed weight.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch

from mmtune.adapters.foreign import Shapes, lora_settings
from mmtune.adapters.foreign_layers import Pair
from mmtune.adapters.method_files import peft_kind
from mmtune.config import LORA_SHAPE
from mmtune.errors import AdapterError, ConfigError


def require_pairs(folder: Path) -> None:
    """Refuse an adapter of another method than LoRA and DoRA.

    Raises:
        AdapterError: its config names another method, or can't be read.
    """
    kind = peft_kind(folder)
    if kind != "LORA":
        raise AdapterError(
            f"{folder} is an adapter of the method {kind}; training starts from LoRA and DoRA "
            "alone",
            "give --init another adapter, or leave it out",
        )


def described(
    parts: Iterable[tuple[Shapes, Mapping[str, Any] | None, Path]], beside: Mapping[str, Any]
) -> dict[str, Any]:
    """Read rank, alpha and kind of an adapter from its tensors' shapes and its config.

    Args:
        parts: for each model that it changes, the arguments of `lora_settings`.
        beside: settings that the user gives: a rank or a rule of scaling decides alpha.

    Returns:
        Settings by full name. The rank is the smallest of the layers, and alpha gives the most
        common scaling. No targets stands for the adapter's own layers.

    Raises:
        AdapterError: see `lora_settings`.
        ConfigError: the user gives a rank in which no layer has room.
    """
    ranks: list[int] = []
    scalings: Counter[float] = Counter()
    dora = False
    for shapes, given, path in parts:
        found = lora_settings(shapes, given, path)
        dora = dora or found["use_dora"]
        for name in found["target_modules"]:
            rank = found["rank_pattern"].get(name, found["r"])
            alpha = found["alpha_pattern"].get(name, found["lora_alpha"])
            ranks.append(rank)
            scalings[_scaling(rank, alpha, found["use_rslora"])] += 1
    rank, [(scaling, _)] = min(ranks), scalings.most_common(1)
    _require_room(beside.get("lora.rank", rank), rank)
    wanted, rslora = beside.get("lora.rank", rank), bool(beside.get("lora.rslora", False))
    alpha = scaling / _scaling(wanted, 1.0, rslora)
    own = {"rank": rank, "alpha": alpha, "rslora": rslora, "dora": dora, "targets": []}
    return {f"lora.{name}": own[name] for name in LORA_SHAPE}


def _scaling(rank: int, alpha: float, rslora: bool) -> float:
    return alpha / (float(rank) ** 0.5 if rslora else rank)


def read_layers(model: Any, name: str) -> dict[str, Pair]:
    """Read the layers of a loaded adapter, each as a pair of strength 1.

    Args:
        model: holds the adapter.
        name: of the adapter, as PEFT knows it.

    Returns:
        By the layer's name in the model. B is in float64, so that dividing it by the same scaling
        gives the same numbers again.
    """
    found = {}
    for place, layer in _layers(model, name):
        magnitude = None
        if name in layer.lora_magnitude_vector:
            magnitude = layer.lora_magnitude_vector[name].weight.detach().clone()
        up = layer.lora_B[name].weight.detach().double() * layer.scaling[name]
        found[place] = Pair(layer.lora_A[name].weight.detach().clone(), up, magnitude)
    return found


def require_rank(rank: int, pairs: Iterable[Pair]) -> None:
    """Refuse a rank in which no layer of an adapter has room.

    Args:
        rank: `lora.rank`.
        pairs: all layers of the adapter that training starts from.

    Raises:
        ConfigError: it is smaller than the rank of every layer.
    """
    _require_room(rank, min((len(pair.down) for pair in pairs), default=rank))


def _require_room(rank: int, least: int) -> None:
    if rank < least:
        raise ConfigError(
            f"lora.rank = {rank}: the adapter of --init has rank {least}",
            f"leave --rank out, or give --rank {least} or more: a larger rank begins as the same "
            "adapter",
        )


def fit(config: Any, start: Mapping[str, Pair]) -> Any:
    """Give a `peft.LoraConfig` the ranks of layers that are larger than its own.

    Args:
        config: is changed; all its layers have one scaling.
        start: the layers that training starts from, by name.
    """
    ranks = {place: len(pair.down) for place, pair in start.items()}
    scaling = _scaling(config.r, config.lora_alpha, config.use_rslora)
    larger = {place: rank for place, rank in ranks.items() if rank > config.r}
    config.rank_pattern = larger
    config.alpha_pattern = {
        place: scaling / _scaling(rank, 1.0, config.use_rslora) for place, rank in larger.items()
    }
    return config


@torch.no_grad()
def put_layers(model: Any, start: Mapping[str, Pair], name: str = "default") -> None:
    """Put layers into a fresh adapter, so that the model answers as with the adapter they are of.

    Layers of the fresh adapter that are not among them change nothing yet.

    Args:
        model: holds the fresh adapter.
        start: from `read_layers`.
        name: of the fresh adapter.

    Raises:
        ConfigError: the fresh adapter lacks a layer, or has no magnitudes for those of DoRA.
    """
    layers = dict(_layers(model, name))
    lacking = sorted(start.keys() - layers.keys())
    if lacking:
        raise ConfigError(
            f"lora.targets: {len(lacking)} layers of the adapter of --init are not among them "
            f"(first: {lacking[0]})",
            "leave --targets out, or name these layers too",
        )
    for place, pair in start.items():
        layer, rank = layers[place], len(pair.down)
        down, up = layer.lora_A[name].weight, layer.lora_B[name].weight
        down[:rank] = pair.down
        up.zero_()[:, :rank] = pair.up / layer.scaling[name]
        own = layer.lora_magnitude_vector
        if name in own:
            _put_magnitude(layer, name, pair)
        elif pair.magnitude is not None:
            raise ConfigError(
                "lora.dora = false: the adapter of --init is a DoRA, whose magnitudes LoRA lacks",
                "leave --dora out",
            )


def _put_magnitude(layer: Any, name: str, pair: Pair) -> None:
    vector = layer.lora_magnitude_vector[name]
    if pair.magnitude is not None:
        vector.weight.copy_(pair.magnitude.view_as(vector.weight))
        return
    # PEFT's own start of a DoRA, now for the changed weight; it replaces the parameter.
    own = vector.weight
    vector.update_layer(
        base_layer=layer.get_base_layer(),
        lora_A=layer.lora_A[name].weight,
        lora_B=layer.lora_B[name].weight,
        scaling=layer.scaling[name],
    )
    lengths, vector.weight = vector.weight, own
    own.copy_(lengths)


def _layers(model: Any, name: str) -> Iterator[tuple[str, Any]]:
    from peft.tuners.lora import LoraLayer

    for place, module in model.named_modules():
        if isinstance(module, LoraLayer) and name in module.lora_A:
            yield place, module
