"""How other programs load an image adapter: the code in its README.md."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mmtune.adapters.model_card import HERE, Usage
from mmtune.system.base_name import found_from_anywhere

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
drawn = pipeline({prompt!r}, num_inference_steps={steps}, guidance_scale={guidance:g})
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
drawn = pipeline.to(device)({prompt!r}, num_inference_steps={steps}, guidance_scale={guidance:g})
drawn.images[0].save("apple.png")
"""
WITH_MMTUNE = """
import mmtune

print(mmtune.generate("a red apple", adapter={adapter!r}))
"""
FILE = "pytorch_lora_weights.safetensors"
STEPS, GUIDANCE = 30, 5.0  # of an adapter whose card doesn't say


def usage(card: Card, adapter: str = HERE) -> Usage:
    """Make the code that draws with an adapter: diffusers' own, for a starter mmtune's.

    Args:
        card: of the adapter.
        adapter: its folder or its id on the hub.
    """
    given = card.settings.get("task")
    task = given if isinstance(given, dict) else {}
    lora = card.method.peft_type == "LORA"
    # peft has no strength that holds for all methods, so mmtune's own code stands for it.
    own = card.base.startswith("starter:") or (not lora and card.default_scale != 1)
    code = (WITH_MMTUNE if own else WITH_DIFFUSERS if lora else WITH_PEFT).format(
        base=found_from_anywhere(card.base),
        adapter=adapter,
        file=FILE,
        scale=card.default_scale,
        prompt=f"{card.trigger}, a red apple" if card.trigger else "a red apple",
        steps=int(task.get("steps") or STEPS),
        guidance=float(task.get("guidance") or GUIDANCE),
    )
    return Usage(
        package="diffusers" if lora else "peft",
        task=TASK,
        code=code,
        tags=("diffusers", TASK),
        adapter=adapter,
    )
