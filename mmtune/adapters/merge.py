"""Merge adapters inside a loaded model with PEFT, and measure the merge's exactness."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import torch

from mmtune.adapters.members import METHODS, Member, MergeMethod, Mixing
from mmtune.errors import AdapterError

MERGED = "default"  # PEFT saves an adapter of this name into the folder itself, not a subfolder


def merge_layers(tuner: Any, parts: Mapping[str, Member], mixing: Mixing) -> None:
    """Add the merged adapter, named `MERGED`, to a `peft.LoraModel` that holds the parts.

    The parts' layers stay unchanged. A single part is merged by PEFT's "linear", which is exact
    for one part.

    Args:
        tuner: the `LoraModel`; the configurations of its parts are changed.
        parts: the parts by PEFT's names, each in at least one layer.
        mixing: the method and its settings.

    Raises:
        AdapterError: a part uses DoRA or holds whole modules, or the method can't combine the
            ranks.
    """
    for name, part in parts.items():
        _require_plain(tuner.peft_config[name], part)
    method = METHODS.find(mixing.method)
    if method.equal_ranks and len(parts) > 1:
        _require_equal_ranks(tuner.model, parts, mixing)
    for name in parts:
        config = tuner.peft_config[name]
        # PEFT copies the first part's configuration. These values must not be copied:
        config.target_modules = {key for key, layer in _layers(tuner.model) if name in layer.r}
        config.exclude_modules = config.layers_to_transform = config.layers_pattern = None
        config.use_rslora = False  # otherwise alpha = rank would mean a factor of sqrt(rank)
        config.init_lora_weights = True
    with torch.random.fork_rng(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.manual_seed(mixing.seed)
        try:
            tuner.add_weighted_adapter(
                list(parts),
                [part.weight for part in parts.values()],
                MERGED,
                # A method of its own works on the exact sum's pair, which is large enough.
                combination_type="cat" if method.combine else mixing.method,
                svd_rank=mixing.rank,
                svd_full_matrices=False,
                density=mixing.density,
            )
        except (ValueError, RuntimeError, IndexError, TypeError) as error:
            raise AdapterError(
                f"PEFT can't merge these adapters by {mixing.method}: {error}", "try --method cat"
            ) from error
    if method.combine is not None:
        for key, layer in _layers(tuner.model):
            _combine(method, key, layer, parts, mixing)


@torch.no_grad()
def _combine(
    method: MergeMethod, key: str, layer: Any, parts: Mapping[str, Member], mixing: Mixing
) -> None:
    """Put what a method makes of a layer's parts in place of their exact sum."""
    assert method.combine is not None
    present = [name for name in parts if name in layer.r]
    if not present:
        return
    down, up = layer.lora_A[MERGED].weight, layer.lora_B[MERGED].weight
    pairs = [
        (layer.lora_A[name].weight.clone(), layer.lora_B[name].weight * layer.scaling[name])
        for name in present
    ]
    first, second = method.combine(pairs, [parts[name].weight for name in present], mixing)
    rank = len(first)
    fits = rank <= len(down) and first.shape[1:] == down.shape[1:]
    if not fits or second.shape[:2] != (len(up), rank) or second.shape[2:] != up.shape[2:]:
        raise AdapterError(
            f"the merge method {method.name} gives {tuple(first.shape)} and {tuple(second.shape)} "
            f"for {key}, whose pair is {tuple(down.shape)} and {tuple(up.shape)} at most",
            "correct the method, or try --method cat",
        )
    down.zero_()[:rank] = first / layer.scaling[MERGED]
    up.zero_()[:, :rank] = second


def _require_plain(config: Any, part: Member) -> None:
    if config.use_dora:
        raise AdapterError(
            f"{part.place} uses DoRA, and DoRA's magnitudes can't be merged",
            "use the adapters side by side (mmtune generate --adapter A --adapter B) or by label "
            "(mmtune compose --route FILE), or train with lora.dora: false",
        )
    if config.modules_to_save or config.bias != "none" or getattr(config, "lora_bias", False):
        raise AdapterError(
            f"{part.folder} holds whole modules or biases besides its LoRA pairs, which can't be "
            "merged",
            "train the adapter with LoRA alone",
        )


def _require_equal_ranks(model: Any, parts: Mapping[str, Member], mixing: Mixing) -> None:
    for key, layer in _layers(model):
        ranks = {name: layer.r[name] for name in parts if name in layer.r}
        if len(set(ranks.values())) > 1:
            found = ", ".join(f"{parts[name].folder}: {rank}" for name, rank in ranks.items())
            raise AdapterError(
                f"--method {mixing.method} needs equal ranks; the ranks of {key} are {found}",
                "use --method cat or svd, which take any ranks",
            )
    largest = {name: max(layer.r[name] for _, layer in _layers(model) if name in layer.r)
               for name in parts}  # fmt: skip
    if len(set(largest.values())) > 1:
        found = ", ".join(f"{parts[name].folder}: {rank}" for name, rank in largest.items())
        raise AdapterError(
            f"--method {mixing.method} needs equal ranks; the ranks are {found}",
            "use --method cat or svd, which take any ranks",
        )


@torch.no_grad()
def distance(models: Iterable[Any], merged: str, parts: Mapping[str, Member]) -> float:
    """Compute the relative distance of the merged update from the parts' weighted sum.

    Args:
        models: the models that hold the layers.
        merged: PEFT's name of the merged adapter.
        parts: the parts by PEFT's names.

    Returns:
        ‖ΔW - Σ wᵢΔWᵢ‖ / ‖Σ wᵢΔWᵢ‖ over all layers.

    Raises:
        AdapterError: the weighted sum is zero.
    """
    off = size = 0.0
    for model in models:
        for _, layer in _layers(model):
            wanted = sum(
                part.weight * layer.get_delta_weight(name).double()
                for name, part in parts.items()
                if name in layer.r
            )
            got = layer.get_delta_weight(merged).double() if merged in layer.r else 0.0
            off += float(torch.as_tensor(got - wanted).square().sum())
            size += float(torch.as_tensor(wanted).square().sum())
    if size == 0:
        raise AdapterError(
            "the weighted sum of the adapters is zero: they cancel each other out",
            "change the weights",
        )
    return float((off / size) ** 0.5)


def _layers(model: Any) -> Iterator[tuple[str, Any]]:
    from peft.tuners.lora import LoraLayer

    for key, module in model.named_modules():
        if isinstance(module, LoraLayer):
            yield key, module
