"""Adapters of a pipeline: loading, saving, switching on and off."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from mmtune.adapters.card import file_hashes
from mmtune.adapters.foreign import (
    CONFIGS,
    Shapes,
    json_in_metadata,
    lora_settings,
    read_shapes,
    require_bounded,
    require_safetensors,
)
from mmtune.adapters.foreign_layers import Pair
from mmtune.adapters.integrity import PEFT_CONFIG, check_adapter, check_base
from mmtune.adapters.lora import plain_config, require_effect, require_match
from mmtune.adapters.method_files import peft_kind
from mmtune.adapters.start import described, read_layers, require_pairs
from mmtune.adapters.switch import WEIGHTS as PEFT_WEIGHTS
from mmtune.errors import AdapterError, first_line
from mmtune.image.diffusion.base import DiffusionBase
from mmtune.image.diffusion.denoiser_methods import (
    is_other,
    load_other,
    others_on,
    require_alike,
    save_other,
)
from mmtune.system.quiet import quiet
from mmtune.system.tensors import make_reproducible

WEIGHTS = "pytorch_lora_weights.safetensors"
MAX_SHARE = 2.0  # most numbers of an adapter, as a share of its base's


@contextmanager
def active(
    base: DiffusionBase, weights: Mapping[str, float], known: Mapping[str, Any]
) -> Iterator[None]:
    """Switch on exactly these adapters inside the context; afterwards all are off.

    An adapter with strength 0 is switched off, not multiplied by 0: the magnitudes of a DoRA
    (arXiv 2402.09353, eq. 5) would still change the output.

    Args:
        base: holds the adapters.
        weights: strengths by the adapters' names; empty, or all 0: the base itself.
        known: the loaded adapters, by name.

    Raises:
        AdapterError: `weights` names an adapter that isn't loaded.
    """
    for name in weights:
        if name not in known:
            raise AdapterError(
                f"no adapter {name!r} is loaded",
                "use one of the loaded adapters: " + (", ".join(known) or "none is loaded"),
            )
    if not known:
        yield
        return
    pipeline = base.pipeline
    on = {name: weight for name, weight in weights.items() if weight != 0}
    held = getattr(base.denoiser, "peft_config", {})
    try:
        if any(name in held and is_other(base.denoiser, name) for name in on):
            with others_on(base, on):
                yield
            return
        if on:
            pipeline.enable_lora()
            pipeline.set_adapters(list(on), list(on.values()))
        else:
            pipeline.disable_lora()
        yield
    finally:
        pipeline.disable_lora()


def load_adapter(base: DiffusionBase, folder: Path, name: str) -> Path:
    """Load an adapter into the base strictly, and leave it switched off.

    Args:
        base: gets the adapter in its denoiser, and in text encoders that it adapts.
        folder: holds `pytorch_lora_weights.safetensors` of diffusers, or, of another method than
            LoRA, a PEFT folder of the denoiser.
        name: name of the adapter in the pipeline.

    Returns:
        The file of the weights.

    Raises:
        AdapterError: the file is missing or damaged, the base has other weights than the card
            names, keys don't match the base or are missing, or the adapter doesn't change the
            denoiser's output; or it is of another method than those that are loaded.
    """
    other = (folder / PEFT_CONFIG).is_file()
    if not other:
        require_safetensors(folder / WEIGHTS)
    check_adapter(folder)
    check_base(folder, base.name, base.fingerprint, any_name=True)
    if other:
        require_alike(base, peft_kind(folder), folder)
        path = load_other(base, folder, name)
    else:
        require_alike(base, "LORA", folder)
        path = _load_lora(base, folder, name)
    with active(base, {}, {name: path}):
        without = probe_output(base)
    with active(base, {name: 1.0}, {name: path}):
        require_effect(without, probe_output(base), path)
    return path


def file_digest(folder: Path) -> str:
    """Hash the weights of an adapter: its one file, whatever the method."""
    hashes = file_hashes(folder)
    return hashes[WEIGHTS] if WEIGHTS in hashes else hashes[PEFT_WEIGHTS]


def _load_lora(base: DiffusionBase, folder: Path, name: str) -> Path:
    from diffusers.utils import convert_unet_state_dict_to_peft
    from peft import get_peft_model_state_dict
    from safetensors import SafetensorError

    path, pipeline = folder / WEIGHTS, base.pipeline
    require_small(read_shapes(path), base, path)
    try:
        # It warns of text encoders without LoRA; keys are compared below.
        with quiet(), checked_config(base, path) as state:
            pipeline.load_lora_weights(folder, weight_name=WEIGHTS, adapter_name=name)
    except (ValueError, RuntimeError, KeyError, OSError, SafetensorError) as error:
        raise AdapterError(
            f"{path} can't be loaded on {base.name}: {first_line(error)}",
            "load it on the base named in its card.json, or restore the file",
        ) from error
    part = base.family.denoiser_name
    if name not in getattr(base.denoiser, "peft_config", {}):
        # diffusers ignores weights of a component that the pipeline lacks.
        raise AdapterError(
            f"{path} can't be loaded on {base.name}: it has no weights for the {part}",
            "load it on the base named in its card.json",
        )
    tensors = convert_unet_state_dict_to_peft(state) if part == "unet" else state
    given = tensors.keys()
    wanted = {
        f"{part}.{key}"
        for part, model in base.adapted.items()
        if name in model.peft_config
        for key in get_peft_model_state_dict(model, adapter_name=name)
    }
    require_match(wanted - given, given - wanted, path, base.name)
    for component, model in base.adapted.items():
        if name in model.peft_config:
            _require_loaded(component, model, tensors, name, path)
    return path


def read_start(base: DiffusionBase, folder: Path) -> dict[str, dict[str, Pair]]:
    """Load an adapter strictly, read its layers, and take it out again.

    Args:
        base: is as before afterwards.
        folder: the adapter that training starts from.

    Returns:
        Pairs of strength 1 by the layer's name, for each model that it changes.

    Raises:
        AdapterError: see `load_adapter`.
    """
    load_adapter(base, folder, "parent")
    found = {
        part: layers
        for part, model in base.adapted.items()
        if (layers := read_layers(model, "parent"))
    }
    base.pipeline.unload_lora_weights()
    return found


def settings_of_adapter(folder: Path, beside: Mapping[str, Any]) -> dict[str, Any]:
    """Read rank, alpha and kind of a LoRA folder, and whether it changes text encoders.

    Raises:
        AdapterError: the folder can't be read, or holds more than LoRA pairs.
    """
    require_pairs(folder)
    path = folder / WEIGHTS
    own = json_in_metadata(path, CONFIGS)
    parts: dict[str, dict[str, tuple[int, ...]]] = {}
    for key, shape in read_shapes(path).items():
        part, _, name = key.partition(".")
        parts.setdefault(part, {})[name] = shape
    given = {
        part: {k.removeprefix(f"{part}."): v for k, v in own.items() if k.startswith(f"{part}.")}
        for part in parts
    }
    settings = described(
        ((shapes, given[part] or None, path) for part, shapes in parts.items()), beside
    )
    return settings | {"task.text_encoder": any("text_encoder" in part for part in parts)}


def _require_loaded(
    part: str, model: Any, tensors: Mapping[str, torch.Tensor], name: str, path: Path
) -> None:
    """Put tensors into a model that its library has left out, and compare all.

    transformers loads no magnitudes of DoRA into a text encoder, and doesn't say so.
    """
    from peft import get_peft_model_state_dict
    from peft.utils.save_and_load import set_peft_model_state_dict

    own = {
        key.removeprefix(f"{part}."): tensor
        for key, tensor in tensors.items()
        if key.startswith(f"{part}.")
    }

    def differing() -> list[str]:
        loaded = get_peft_model_state_dict(model, adapter_name=name)
        return [key for key, value in loaded.items() if not torch.equal(value, own[key].to(value))]

    if not differing():
        return
    set_peft_model_state_dict(model, dict(own), adapter_name=name)
    if other := differing():
        raise AdapterError(
            f"{path} can't be loaded: in the {part}, {len(other)} tensors differ from those of the "
            f"file (first: {other[0]})",
            "report this with the versions of diffusers, transformers and peft",
        )


def require_small(shapes: Shapes, base: DiffusionBase, path: Path) -> None:
    """Refuse a file with more numbers than the base's adaptable parts, before it is loaded.

    Raises:
        AdapterError: it holds more numbers.
    """
    parts = (base.denoiser, *base.family.text_encoders.values())
    most = sum(weight.numel() for part in parts for weight in part.parameters())
    numbers = sum(math.prod(shape) for shape in shapes.values())
    if numbers > MAX_SHARE * most:
        raise AdapterError(
            f"{path} holds {numbers:,} numbers, more than its base {base.name} ({most:,})",
            "load the adapter on the base that it was trained on",
        )


@contextmanager
def checked_config(base: DiffusionBase, path: Path) -> Iterator[dict[str, Any]]:
    """Make diffusers derive an adapter's config from its tensors while it loads the file.

    The file's metadata holds a peft config, which could hold a regular expression or any rank. In
    the context, `lora_state_dict` of the pipeline gives a config made of the tensors instead.

    Args:
        base: the base.
        path: the adapter's file, for messages.

    Yields:
        The tensors by diffusers' names; filled when diffusers has read the file.

    Raises:
        AdapterError: see `lora_settings` and `require_bounded`.
    """
    from diffusers.utils import convert_unet_state_dict_to_peft

    pipeline, found = base.pipeline, {}
    original = pipeline.lora_state_dict
    parts = {base.family.denoiser_name: base.denoiser, **base.family.text_encoders}

    def read(source: Any, **given: Any) -> tuple[Any, ...]:
        # Without this flag diffusers reads a damaged file again in PyTorch's pickled format.
        state, *alphas, metadata = original(source, **given, use_safetensors=True)
        found.update(state)
        settings: dict[str, Any] = {}
        for part, model in parts.items():
            tensors = state
            if part == "unet":
                tensors = convert_unet_state_dict_to_peft(state)
            shapes = {
                key.removeprefix(f"{part}."): tuple(tensor.shape)
                for key, tensor in tensors.items()
                if key.startswith(f"{part}.")
            }
            if not shapes:
                continue
            require_bounded(shapes, dict(model.named_modules()), path, base.name)
            if metadata is not None:
                own = {
                    key.removeprefix(f"{part}."): value
                    for key, value in metadata.items()
                    if key.startswith(f"{part}.")
                }
                checked = lora_settings(shapes, own or None, path)
                settings |= {f"{part}.{key}": value for key, value in checked.items()}
        return (state, *alphas, None if metadata is None else settings)

    pipeline.lora_state_dict = read
    try:
        yield found
    finally:
        del pipeline.lora_state_dict


def save_adapter(base: DiffusionBase, name: str, folder: Path) -> None:
    """Write an adapter as a folder that diffusers' `load_lora_weights` reads.

    Of another method than LoRA, it is the folder that peft reads of the denoiser.

    The file's metadata holds rank and alpha: without them diffusers assumes alpha = rank. Keys are
    peft's (`lora_A`, `lora_B`), because `convert_state_dict_to_diffusers` renames only those of
    attention, and `load_lora_weights` silently drops half of a file with both kinds of keys.

    Args:
        base: holds the adapter.
        name: name of the adapter in the pipeline.
        folder: gets `pytorch_lora_weights.safetensors`.
    """
    from peft import get_peft_model_state_dict

    if is_other(base.denoiser, name):
        save_other(base, name, folder)
        return
    layers: dict[str, Any] = {}
    for part, model in base.adapted.items():
        state = get_peft_model_state_dict(model, adapter_name=name)
        layers[f"{part}_lora_layers"] = {k: v.float().cpu().contiguous() for k, v in state.items()}
        # transformers writes the place of the text encoder here, which is this machine's alone.
        layers[f"{part}_lora_adapter_metadata"] = plain_config(
            model.peft_config[name].to_dict() | {"base_model_name_or_path": None}
        )
    write_layers(base, layers, folder)


def write_layers(base: DiffusionBase, layers: Mapping[str, Any], folder: Path) -> None:
    """Write a LoRA with diffusers.

    Args:
        base: whose family's pipeline class writes.
        layers: the arguments of `save_lora_weights`: tensors and peft configs of each part.
        folder: gets `pytorch_lora_weights.safetensors`.
    """
    import diffusers

    with quiet():  # importing the class may warn of packages that nothing here needs
        pipeline = getattr(diffusers, base.family.pipeline_class)
        pipeline.save_lora_weights(folder, **layers)
    make_reproducible(folder / WEIGHTS)


@torch.no_grad()
def probe_output(base: DiffusionBase) -> torch.Tensor:
    """Run the denoiser on fixed noise at timestep 500, with the adapters that are on.

    Two outputs that differ prove that an adapter changes something.
    """
    generator = torch.Generator().manual_seed(0)

    def noise(*shape: int) -> torch.Tensor:
        return torch.randn(shape, generator=generator).to(base.device, base.dtype)

    noisy, conditions = base.family.probe(noise)
    middle = torch.tensor([500], device=base.device)
    return base.family.predict(base.denoiser, noisy, middle, conditions)
