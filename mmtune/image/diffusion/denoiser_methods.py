"""Adapters of other methods than LoRA in a denoiser: PEFT folders, loaded strictly.

diffusers reads and writes LoRA alone. These are the folders that peft writes of the denoiser, so
`PeftModel.from_pretrained(pipeline.unet, folder)` loads them too.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from mmtune.adapters.foreign import read_config, read_shapes
from mmtune.adapters.integrity import PEFT_CONFIG, cure_of
from mmtune.adapters.layer_strength import at_strength, tuned_layers
from mmtune.adapters.lora import plain_config, require_match
from mmtune.adapters.method_files import KINDS, read_settings
from mmtune.adapters.switch import PREFIX, WEIGHTS
from mmtune.errors import AdapterError, first_line
from mmtune.image.diffusion.base import DiffusionBase
from mmtune.methods import method_of_peft
from mmtune.system.files import write_json
from mmtune.system.quiet import quiet
from mmtune.system.tensors import load_tensors, save_tensors

OTHERS = tuple(kind for kind in KINDS if kind != "LORA")


def is_other(model: Any, name: str) -> bool:
    """Whether the adapter `name` in a model is of another method than LoRA."""
    return str(model.peft_config[name].peft_type.value) != "LORA"


def load_other(base: DiffusionBase, folder: Path, name: str) -> Path:
    """Put an adapter into the base's denoiser, and compare it with its file.

    Args:
        base: gets the adapter in its denoiser; it is active afterwards.
        folder: a PEFT folder.
        name: of the adapter in the pipeline.

    Returns:
        The file of the weights.

    Raises:
        AdapterError: the file or its config is damaged, doesn't fit the denoiser, or is of another
            method than the adapters that are loaded.
    """
    from peft import get_peft_model_state_dict
    from peft.utils.save_and_load import set_peft_model_state_dict

    path, denoiser = folder / WEIGHTS, base.denoiser
    given = read_config(folder / PEFT_CONFIG, OTHERS)
    method = method_of_peft(str(given["peft_type"]))
    assert method is not None
    shapes = {key.removeprefix(PREFIX): shape for key, shape in read_shapes(path).items()}
    modules = dict(denoiser.named_modules())
    config = read_settings(method, shapes, given, modules, folder / PEFT_CONFIG)
    tensors = load_tensors(path, AdapterError, cure_of(folder))
    tensors = {key.removeprefix(PREFIX): tensor for key, tensor in tensors.items()}
    try:
        with quiet():
            denoiser.add_adapter(config, adapter_name=name)
            wanted = get_peft_model_state_dict(denoiser, adapter_name=name).keys()
            require_match(wanted - tensors.keys(), tensors.keys() - wanted, path, base.name)
            set_peft_model_state_dict(denoiser, dict(tensors), adapter_name=name)
    except (ValueError, RuntimeError, KeyError) as error:
        raise AdapterError(
            f"{path} can't be loaded on {base.name}: {first_line(error)}",
            "load it on the base named in its card.json",
        ) from error
    loaded = get_peft_model_state_dict(denoiser, adapter_name=name)
    odd = [key for key, value in loaded.items() if not torch.equal(value, tensors[key].to(value))]
    if odd:
        raise AdapterError(
            f"{path} can't be loaded: {len(odd)} tensors differ from those of the file (first: "
            f"{odd[0]})",
            "report this with the versions of diffusers and peft",
        )
    denoiser.requires_grad_(False)
    return path


def require_alike(base: DiffusionBase, kind: str, folder: Path) -> None:
    """Refuse an adapter of another method beside those that are loaded.

    Args:
        kind: peft's name of the method.

    Raises:
        AdapterError: peft can't use the two side by side.
    """
    for model in base.adapted.values():
        for config in model.peft_config.values():
            if (loaded := str(config.peft_type.value)) != kind:
                raise AdapterError(
                    f"{folder} is trained by {_title(kind)}, but another adapter is loaded that is "
                    f"trained by {_title(loaded)}: peft can't use the two side by side",
                    "use adapters of one method, or each alone",
                )


def _title(kind: str) -> str:
    method = method_of_peft(kind)
    return kind if method is None else method.title


def save_other(base: DiffusionBase, name: str, folder: Path) -> None:
    """Write the denoiser's adapter as a PEFT folder."""
    from peft import get_peft_model_state_dict

    denoiser = base.denoiser
    state = get_peft_model_state_dict(denoiser, adapter_name=name)
    named = {f"{PREFIX}{key}": value.float().cpu().contiguous() for key, value in state.items()}
    save_tensors(folder / WEIGHTS, named, {"format": "pt"})
    config = plain_config(denoiser.peft_config[name].to_dict())
    kind = denoiser.peft_config[name].peft_type.value
    own = {"peft_type": kind, "base_model_name_or_path": base.name, "inference_mode": True}
    write_json(folder / PEFT_CONFIG, config | own)


@contextmanager
def others_on(base: DiffusionBase, weights: Mapping[str, float]) -> Iterator[None]:
    """Within it, these adapters act with these weights; the pipeline switches them off later."""
    base.pipeline.enable_lora()  # of peft's layers, whatever their method
    for layer in tuned_layers(base.denoiser):
        layer.set_adapter(list(weights))
    with at_strength(base.denoiser, weights):
        yield
