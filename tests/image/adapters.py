"""Random adapters for the small pipelines, as a run leaves them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from mmtune.adapters.card import Card
from tests.image import tiny


def make(
    folder: Path,
    kind: str,
    *,
    base: str = "",
    text: bool = False,
    strength: float = 5.0,
    **lora: Any,
) -> Path:
    """A LoRA that does something, with its card: B is random, not zero.

    Args:
        text: whether it also adapts the text encoders.
        strength: what a random B is multiplied by.
        lora: settings of `peft.LoraConfig`; by default rank 4, alpha 2, the family's own targets.
    """
    from diffusers.training_utils import _collate_lora_metadata
    from peft import LoraConfig, get_peft_model_state_dict

    loaded = tiny.loaded(kind)
    denoiser, part = loaded.denoiser, loaded.family.denoiser_name
    settings: dict[str, Any] = {"r": 4, "lora_alpha": 2, "init_lora_weights": False}
    settings |= {"target_modules": list(loaded.family.targets)} | lora
    torch.manual_seed(1)
    denoiser.add_adapter(LoraConfig(**settings))
    models = {part: denoiser}
    if text:
        for name, encoder in loaded.family.text_encoders.items():
            targets = loaded.family.text_targets(name)
            targets = targets if isinstance(targets, str) else list(targets)
            encoder.add_adapter(
                LoraConfig(**settings | {"target_modules": targets}), adapter_name="default"
            )
            models[name] = encoder
    with torch.no_grad():
        for model in models.values():
            for name, value in model.named_parameters():
                if "magnitude" in name:
                    value *= 1 + 0.2 * torch.rand(value.shape)
                elif "lora_B" in name:
                    value *= strength
    loaded.pipeline.save_lora_weights(
        folder,
        **{f"{name}_lora_layers": get_peft_model_state_dict(m) for name, m in models.items()},
        **_collate_lora_metadata(models),
    )
    card = Card(
        name="brand",
        recipe="brand_style",
        modality="image",
        base=base or str(tiny.saved(kind)),
        base_hash=loaded.fingerprint,
        dataset="1" * 64,
        rows={"train": 9},
        settings={"train": {"lr": 0.1}, "task": {"steps": 2, "guidance": 2.0}},
    )
    card.write(folder)
    return folder
