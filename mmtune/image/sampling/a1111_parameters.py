"""The text `parameters` of a PNG, as A1111 writes it and as ComfyUI and others read it.

The form is that of `create_infotext` and `parse_generation_parameters` in
AUTOMATIC1111/stable-diffusion-webui 1.10 (modules/processing.py, modules/infotext_utils.py).
"""

from __future__ import annotations

import json
from collections.abc import Mapping

KEY = "parameters"  # the PNG keyword
# diffusers' schedulers by the name of the same method in A1111.
SAMPLERS = {
    "DDIMScheduler": "DDIM",
    "DPMSolverMultistepScheduler": "DPM++ 2M",
    "EulerAncestralDiscreteScheduler": "Euler a",
    "EulerDiscreteScheduler": "Euler",
    "FlowMatchEulerDiscreteScheduler": "Euler",
    "HeunDiscreteScheduler": "Heun",
    "LMSDiscreteScheduler": "LMS",
    "PNDMScheduler": "PLMS",
    "UniPCMultistepScheduler": "UniPC",
}


def parameters(
    prompt: str,
    *,
    steps: int,
    guidance: float,
    seed: int,
    size: tuple[int, int],
    base: str,
    scheduler: str,
    adapters: Mapping[str, float],
    version: str,
) -> str:
    """Write how a picture was made, in A1111's form.

    The seed is mmtune's: its noise also depends on the prompt, so A1111 draws another picture of
    the same seed.

    Args:
        size: width and height in pixels.
        base: name of the base model.
        scheduler: name of the scheduler's class in diffusers; one without a name in A1111 is left
            out.
        adapters: strengths by name, written as `<lora:NAME:STRENGTH>` after the prompt.
    """
    tags = "".join(f" <lora:{name}:{strength:g}>" for name, strength in adapters.items())
    sampler = SAMPLERS.get(scheduler)
    facts = {
        "Steps": str(steps),
        **({"Sampler": sampler} if sampler else {}),
        "CFG scale": f"{guidance:g}",
        "Seed": str(seed),
        "Size": f"{size[0]}x{size[1]}",
        "Model": base,
        "Version": f"mmtune {version}",
    }
    line = ", ".join(f"{name}: {_quoted(value)}" for name, value in facts.items())
    return f"{' '.join(prompt.split())}{tags}\n{line}"


def _quoted(value: str) -> str:
    return json.dumps(value, ensure_ascii=False) if set(value) & set(',\n:"') else value
