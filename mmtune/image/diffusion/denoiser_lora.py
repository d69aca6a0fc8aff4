"""LoRA on a pipeline: loading, saving, switching, and proof that it changes the output."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from mmtune.adapters.lora import require_effect, require_match
from mmtune.errors import AdapterError, first_line
from mmtune.image.diffusion.base import DiffusionBase
from mmtune.system.quiet import quiet

WEIGHTS = "pytorch_lora_weights.safetensors"


@contextmanager
def active(
    base: DiffusionBase, weights: Mapping[str, float], known: Mapping[str, Any]
) -> Iterator[None]:
    """Only these adapters, at these weights; none of them, or all at 0, is the base itself.

    An adapter at 0 is switched off, not multiplied by 0: the magnitudes that DoRA has learned
    (arXiv 2402.09353, eq. 5) would still change the output.

    Raises:
        AdapterError: an adapter that isn't loaded.
    """
    for name in weights:
        if name not in known:
            raise AdapterError(
                f"no adapter {name!r} is loaded", "loaded: " + (", ".join(known) or "none")
            )
    if not known:
        yield
        return
    pipeline = base.pipeline
    on = {name: weight for name, weight in weights.items() if weight != 0}
    if on:
        pipeline.enable_lora()
        pipeline.set_adapters(list(on), list(on.values()))
    else:
        pipeline.disable_lora()
    try:
        yield
    finally:
        pipeline.disable_lora()


def load_adapter(base: DiffusionBase, folder: Path, name: str) -> Path:
    """Add the diffusers LoRA of `folder` to the base's denoiser, strictly; it is left switched off.

    Returns:
        The file of its weights.

    Raises:
        AdapterError: the file is missing, its keys don't all match, or it changes nothing.
    """
    from diffusers.utils import convert_unet_state_dict_to_peft
    from peft import get_peft_model_state_dict
    from safetensors import SafetensorError

    path = folder / WEIGHTS
    if not path.is_file():
        raise AdapterError(
            f"{folder} holds no {WEIGHTS}", "give a run's adapter folder, made by save_lora_weights"
        )
    pipeline = base.pipeline
    try:
        state = pipeline.lora_state_dict(folder, weight_name=WEIGHTS)
        state = state[0] if isinstance(state, tuple) else state  # some classes add alphas
        with quiet():  # it remarks on text encoders without LoRA; keys are compared below
            pipeline.load_lora_weights(folder, weight_name=WEIGHTS, adapter_name=name)
    except (ValueError, RuntimeError, KeyError, OSError, SafetensorError) as error:
        raise AdapterError(
            f"{path} can't be loaded on {base.name}: {first_line(error)}",
            "load it on the base named in its card.json, or restore the file",
        ) from error
    part = base.family.denoiser_name
    if name not in getattr(base.denoiser, "peft_config", {}):
        # diffusers passes over weights of a part that the pipeline lacks.
        raise AdapterError(
            f"{path} can't be loaded on {base.name}: it has no weights for the {part}",
            "load it on the base named in its card.json",
        )
    given = (convert_unet_state_dict_to_peft(state) if part == "unet" else state).keys()
    wanted = {
        f"{part}.{key}"
        for part, model in base.adapted.items()
        if name in model.peft_config
        for key in get_peft_model_state_dict(model, adapter_name=name)
    }
    require_match(wanted - given, given - wanted, path, base.name)
    with active(base, {}, {name: path}):
        without = probe_output(base)
    with active(base, {name: 1.0}, {name: path}):
        require_effect(without, probe_output(base), path)
    return path


def save_adapter(base: DiffusionBase, name: str, folder: Path) -> None:
    """Write an adapter of the base as `WEIGHTS`, which `load_lora_weights(folder)` reads.

    The file's metadata holds rank and alpha: without it diffusers takes alpha = rank. Keys are
    peft's (`lora_A`, `lora_B`): `convert_state_dict_to_diffusers` renames those of attention
    alone, and of such a mixture `load_lora_weights` silently drops one half.
    """
    from peft import get_peft_model_state_dict

    layers: dict[str, Any] = {}
    for part, model in base.adapted.items():
        state = get_peft_model_state_dict(model, adapter_name=name)
        layers[f"{part}_lora_layers"] = {k: v.float().cpu().contiguous() for k, v in state.items()}
        layers[f"{part}_lora_adapter_metadata"] = model.peft_config[name].to_dict()
    type(base.pipeline).save_lora_weights(folder, **layers)


@torch.no_grad()
def probe_output(base: DiffusionBase) -> torch.Tensor:
    """The denoiser's answer to fixed noise at the middle of the schedule."""
    generator = torch.Generator().manual_seed(0)

    def noise(*shape: int) -> torch.Tensor:
        return torch.randn(shape, generator=generator).to(base.device, base.dtype)

    noisy, conditions = base.family.probe(noise)
    middle = torch.tensor([500], device=base.device)
    return base.family.predict(base.denoiser, noisy, middle, conditions)
