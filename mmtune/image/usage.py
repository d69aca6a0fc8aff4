"""How other programs load an image adapter: the code in its README.md."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from mmtune.adapters.model_card import HERE, Usage
from mmtune.errors import MmtuneError
from mmtune.image.source import INDEX_FILE, read_index, read_json, resolve_base
from mmtune.system.base_name import found_from_anywhere, is_checkpoint

if TYPE_CHECKING:
    from mmtune.adapters.card import Card

TASK = "text-to-image"
WITH_DIFFUSERS = """
import torch
from diffusers import DiffusionPipeline

device, dtype = ("cuda", torch.float16) if torch.cuda.is_available() else ("cpu", torch.float32)
pipeline = DiffusionPipeline.from_pretrained({base!r}, torch_dtype=dtype).to(device)
pipeline.load_lora_weights({adapter!r}, weight_name={file!r}, adapter_name="adapter")
pipeline.set_adapters("adapter", {scale:g})
drawn = pipeline({prompt!r}, num_inference_steps={steps}, {guidance})
drawn.images[0].save("apple.png")
"""
WITH_PEFT = """
import torch
from diffusers import DiffusionPipeline
from peft import PeftModel

device, dtype = ("cuda", torch.float16) if torch.cuda.is_available() else ("cpu", torch.float32)
pipeline = DiffusionPipeline.from_pretrained({base!r}, torch_dtype=dtype)
denoiser = pipeline.unet if hasattr(pipeline, "unet") else pipeline.transformer
PeftModel.from_pretrained(denoiser, {adapter!r})  # its layers are put into the denoiser
drawn = pipeline.to(device)({prompt!r}, num_inference_steps={steps}, {guidance})
drawn.images[0].save("apple.png")
"""
WITH_MMTUNE = """
import mmtune

print(mmtune.generate("a red apple", adapter={adapter!r}))
"""
FILE = "pytorch_lora_weights.safetensors"
STEPS, GUIDANCE = 30, 5.0  # of an adapter whose card doesn't say


def usage(card: Card, adapter: str = HERE) -> Usage:
    """Make the code that draws with an adapter: diffusers' own, or mmtune's.

    mmtune's stands for bases that diffusers can't load by their name alone: starters, and single
    files, whose configuration mmtune chooses.

    Args:
        card: of the adapter.
        adapter: its folder or its id on the hub.
    """
    given = card.settings.get("task")
    task = given if isinstance(given, dict) else {}
    lora = card.method.peft_type == "LORA"
    # peft has no strength that holds for all methods, so mmtune's own code stands for it.
    no_pipeline = card.base.startswith("starter:") or is_checkpoint(card.base)
    own = no_pipeline or (not lora and card.default_scale != 1)
    guidance = float(task.get("guidance") or GUIDANCE)
    inputs = {} if own else _guidance_inputs(card.base, guidance)
    code = (WITH_MMTUNE if own else WITH_DIFFUSERS if lora else WITH_PEFT).format(
        base=found_from_anywhere(card.base),
        adapter=adapter,
        file=FILE,
        scale=card.default_scale,
        prompt=f"{card.trigger}, a red apple" if card.trigger else "a red apple",
        steps=int(task.get("steps") or STEPS),
        guidance=", ".join(f"{name}={value!r}" for name, value in inputs.items()),
    )
    return Usage(
        package="diffusers" if lora else "peft",
        task=TASK,
        code=code,
        tags=("diffusers", TASK),
        adapter=adapter,
    )


def _guidance_inputs(base: str, guidance: float) -> dict[str, Any]:
    """How a call of the base's pipeline names the guidance; it asks no hub."""
    from mmtune.image.diffusion.families import family_class

    plain = {"guidance_scale": guidance}
    try:
        source = resolve_base(base)
        if isinstance(source, str):
            source = _cached(source)
        family = family_class(str(read_index(source).get("_class_name")))
        if family is None:
            return plain
        denoiser = read_json(source, f"{family.denoiser_name}/config.json")
    except (MmtuneError, OSError):  # the base is gone; most pipelines have this name
        return plain
    inputs = family.guidance_inputs(guidance, denoiser)
    if "guidance_scale" not in inputs:  # diffusers' true guidance is off without a negative prompt
        inputs["negative_prompt"] = ""
    return inputs


def _cached(repo: str) -> Path:
    """The folder of a repository of the hub on this machine."""
    from huggingface_hub import try_to_load_from_cache

    index = try_to_load_from_cache(repo, INDEX_FILE)
    return Path(index).parent if isinstance(index, str) else Path(repo)
