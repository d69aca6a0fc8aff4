"""LoRA settings for PEFT, and checks that a loaded adapter fits its base and has an effect."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mmtune.config import LoraOptions
from mmtune.errors import AdapterError

if TYPE_CHECKING:
    from torch import Tensor


def lora_config(options: LoraOptions, targets: Sequence[str] | str) -> Any:
    """Make a `peft.LoraConfig` from the user's settings.

    Args:
        options: rank, alpha, dropout, kind and, if the user gave any, targets.
        targets: the default targets: endings of layer names, or one regular expression that
            matches full names.
    """
    from peft import LoraConfig

    chosen = list(options.targets) or (targets if isinstance(targets, str) else list(targets))
    return LoraConfig(
        r=options.rank,
        lora_alpha=options.alpha,  # type: ignore[arg-type, unused-ignore]
        lora_dropout=options.dropout,
        use_rslora=options.rslora,
        use_dora=options.dora,
        target_modules=chosen,
        bias="none",
    )


def attach_lora(
    model: Any,
    options: LoraOptions,
    targets: Sequence[str] | str,
    seed: int,
    name: str,
) -> Any:
    """A `PeftModel` with a fresh adapter; the base's own weights stay frozen.

    Args:
        model: of transformers; it is changed: peft puts the adapter into its layers.
        options, targets: see `lora_config`.
        seed: of the adapter's initial weights.
        name: of the base, which the adapter's configuration names.
    """
    return attach_config(model, lora_config(options, targets), seed, name)


def attach_config(model: Any, config: Any, seed: int, name: str) -> Any:
    """A `PeftModel` with a fresh adapter of any method; see `attach_lora`.

    Args:
        config: of peft.
    """
    import torch
    from peft import get_peft_model

    with torch.random.fork_rng(devices=[]), warnings.catch_warnings():
        # peft records the loaded folder, which for a starter exists on one machine only, and warns.
        warnings.filterwarnings("ignore", "The PEFT config's `base_model_name_or_path`")
        torch.manual_seed(seed)
        attached = get_peft_model(model, config)
    attached.peft_config["default"].base_model_name_or_path = name
    return attached


def require_match(
    missing: Iterable[str], unexpected: Iterable[str], folder: Path | str, base: str
) -> None:
    """Refuse an adapter whose keys don't all match; PEFT and diffusers would only log this.

    Args:
        missing: adapter weights that the base expects and the file lacks.
        unexpected: keys of the file that match nothing in the base.
        folder: the adapter folder, for the message.
        base: the base model's name, for the message.

    Raises:
        AdapterError: any key is missing or unexpected.
    """
    lost, extra = sorted(missing), sorted(unexpected)
    if not lost and not extra:
        return
    what = []
    if extra:
        what.append(f"{len(extra)} keys match nothing (first: {extra[0]})")
    if lost:
        what.append(f"{len(lost)} keys are missing (first: {lost[0]})")
    raise AdapterError(
        f"{folder}: the adapter doesn't fit the base {base!r}: {'; '.join(what)}",
        "load the adapter on the base named in its card.json, or train it again on this base",
    )


def require_effect(base_output: Tensor, adapter_output: Tensor, folder: Path | str) -> None:
    """Refuse a loaded adapter that has no effect: for the same input its output equals the base's.

    Args:
        base_output: any output of the model with the adapter switched off.
        adapter_output: the same output with the adapter switched on; same shape.
        folder: the adapter folder, for the message.

    Raises:
        AdapterError: the outputs are equal bit by bit.
    """
    import torch

    if torch.equal(base_output, adapter_output):
        raise AdapterError(
            f"{folder}: the adapter has no effect: its output equals the base's",
            "check that training made progress (log.jsonl) and that the weights are not all zero",
        )


def plain_config(values: Mapping[str, Any]) -> dict[str, Any]:
    """Sort the sets in a PEFT configuration, whose order differs from process to process."""
    return {k: sorted(v) if isinstance(v, set) else v for k, v in values.items()}
