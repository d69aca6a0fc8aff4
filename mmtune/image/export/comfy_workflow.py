"""What to do with an exported single file, and a ComfyUI workflow that uses it.

The workflow is in ComfyUI's API format (ComfyUI 0.3, nodes.py and comfy_extras/): nodes by number,
each with its class and inputs; an input `[node, output]` is another node's output.
"""

from __future__ import annotations

import json
from pathlib import Path, PurePosixPath
from typing import Any

from mmtune.adapters.exported import Export
from mmtune.image.export.use_notes import starter_note, strength_and_trigger
from mmtune.system.base_name import is_checkpoint, split_base
from mmtune.system.files import write_text

SUFFIX = ".comfyui.json"  # in place of the file's own
SEED = 0
# By the pipeline's class: the node of the empty latent, the width, and the schedule of its noise.
LATENTS = {
    "StableDiffusionPipeline": ("EmptyLatentImage", 512, "normal"),
    "StableDiffusionXLPipeline": ("EmptyLatentImage", 1024, "normal"),
    "StableDiffusion3Pipeline": ("EmptySD3LatentImage", 1024, "simple"),
    "FluxPipeline": ("EmptySD3LatentImage", 1024, "simple"),
}


def finish(request: Export, place: Path, pipeline: str) -> tuple[str, ...]:
    """Write the workflow beside an exported file, and say what to do with the file.

    Args:
        place: where the file is now.
        pipeline: the class of the base's pipeline.
    """
    starter = starter_note(request, "ComfyUI and A1111")
    if starter:
        return (starter,)
    notes = [
        f"copy {place.name} to ComfyUI/models/loras, or to models/Lora of A1111; "
        f"{strength_and_trigger(request)}",
    ]
    if pipeline not in LATENTS:
        return tuple(notes)
    path = place.with_suffix(SUFFIX)
    if path.exists():
        return (*notes, f"{path} exists and is kept; no workflow is written")
    write_text(path, json.dumps(workflow(request, place.name, pipeline), indent=2) + "\n")
    return (
        *notes,
        f"{path} is a workflow for ComfyUI (Workflow > Open): choose your file of the base in its "
        "first node",
    )


def workflow(request: Export, lora: str, pipeline: str) -> dict[str, dict[str, Any]]:
    """Make a workflow that draws one picture with a LoRA file.

    Args:
        lora: the file's name in ComfyUI's models/loras.
        pipeline: the class of the base's pipeline, one of `LATENTS`.
    """
    card = request.card
    task = card.settings.get("task") or {}
    latent, side, schedule = LATENTS[pipeline]
    side = int(task.get("resolution") or side)
    guidance, steps = float(task.get("guidance") or 5.0), int(task.get("steps") or 30)
    distilled = pipeline == "FluxPipeline"  # guidance is an input there, and cfg stays off
    prompt = f"{card.trigger}, a red apple" if card.trigger else "a red apple"
    positive = ["9", 0] if distilled else ["3", 0]
    nodes = {
        "1": _node("CheckpointLoaderSimple", ckpt_name=_checkpoint(request.base)),
        "2": _node(
            "LoraLoader",
            model=["1", 0],
            clip=["1", 1],
            lora_name=lora,
            strength_model=1.0,
            strength_clip=1.0,
        ),
        "3": _node("CLIPTextEncode", text=prompt, clip=["2", 1]),
        "4": _node("CLIPTextEncode", text="", clip=["2", 1]),
        "5": _node(latent, width=side, height=side, batch_size=1),
        "6": _node(
            "KSampler",
            model=["2", 0],
            seed=SEED,
            steps=steps,
            cfg=1.0 if distilled else guidance,
            sampler_name="euler",
            scheduler=schedule,
            positive=positive,
            negative=["4", 0],
            latent_image=["5", 0],
            denoise=1.0,
        ),
        "7": _node("VAEDecode", samples=["6", 0], vae=["1", 2]),
        "8": _node("SaveImage", images=["7", 0], filename_prefix=Path(lora).stem),
    }
    if distilled:
        nodes["9"] = _node("FluxGuidance", conditioning=["3", 0], guidance=guidance)
    return nodes


def _node(kind: str, **inputs: Any) -> dict[str, Any]:
    return {"class_type": kind, "inputs": inputs}


def _checkpoint(base: str) -> str:
    """The base's file, or a likely name of it: users choose theirs."""
    if is_checkpoint(base):
        return PurePosixPath(split_base(base)[0].replace(chr(92), "/")).name
    return f"{PurePosixPath(base.replace(chr(92), '/')).name}.safetensors"
