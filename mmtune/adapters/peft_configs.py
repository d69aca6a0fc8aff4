"""peft's configuration of each method, made from a run's settings."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from mmtune.adapters.lora import lora_config
from mmtune.config import AdapterOptions, LoraOptions


def peft_config(
    lora: LoraOptions,
    adapter: AdapterOptions,
    targets: Sequence[str] | str,
    inputs: Sequence[str] = (),
) -> Any:
    """Make the configuration of a method that changes layers (`Method.by_layer`).

    Args:
        lora: size and place of the adapter; of a method's settings only those that it has are used.
        adapter: the method and its own settings.
        targets: the default targets, as for `lora_config`.
        inputs: ends of the names of layers whose inputs (IA)³ multiplies, and not their outputs.
    """
    from peft import IA3Config, LoHaConfig, LoKrConfig

    if adapter.method in ("lora", "dora"):
        dora = lora.dora or adapter.method == "dora"
        return lora_config(lora.model_copy(update={"dora": dora}), targets)
    chosen = list(lora.targets) or (targets if isinstance(targets, str) else list(targets))
    if adapter.method == "ia3":
        return IA3Config(target_modules=chosen, feedforward_modules=_within(inputs, chosen))
    size: dict[str, Any] = {"r": lora.rank, "alpha": lora.alpha, "target_modules": chosen}
    if adapter.method == "loha":
        return LoHaConfig(**size)
    assert adapter.method == "lokr"
    return LoKrConfig(**size, decompose_factor=-1 if adapter.factor is None else adapter.factor)


def _within(inputs: Sequence[str], chosen: Sequence[str] | str) -> list[str]:
    # peft wants each of them among the targets, unless these are a regular expression.
    return [name for name in inputs if isinstance(chosen, str) or name in chosen]
