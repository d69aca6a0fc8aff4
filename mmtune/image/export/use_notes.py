"""What to do with an exported image adapter: its base, its strength and its trigger."""

from __future__ import annotations

from pathlib import Path

from mmtune.adapters.exported import Export
from mmtune.image.source import STARTERS


def starter_note(request: Export, programs: str) -> str:
    """Say that a LoRA of a starter is of no use in other programs; empty for another base."""
    if request.base not in STARTERS:
        return ""
    return (
        f"this LoRA fits {request.base} alone, which {programs} don't load: it is of no use there, "
        "and shows how an export works. Train on a base that they have, such as "
        "stabilityai/stable-diffusion-xl-base-1.0"
    )


def strength_and_trigger(request: Export) -> str:
    """Name the base, the strength that is in the file, and the trigger."""
    card = request.card
    trigger = f'; begin prompts with "{card.trigger}"' if card.trigger else ""
    judged = (
        "the strength at which it was judged"
        if request.scale == card.default_scale
        else "the strength that you gave"
    )
    return (
        f"its base is {request.base}; use it at strength 1, which is {judged} "
        f"({request.of_trained:g} of the trained adapter){trigger}"
    )


def use_folder(request: Export, place: Path, pipeline: str) -> tuple[str, ...]:
    """Say what to do with a LoRA folder of diffusers.

    Args:
        place: where the folder is now.
        pipeline: the class of the base's pipeline.
    """
    starter = starter_note(request, "other programs")
    load = f"load it with pipeline.load_lora_weights({str(place)!r})"
    return (starter,) if starter else (f"{load}; {strength_and_trigger(request)}",)


def use_pipeline(request: Export, place: Path, pipeline: str) -> tuple[str, ...]:
    """Say what to do with a whole pipeline; see `use_folder`."""
    trigger = f'; begin prompts with "{request.card.trigger}"' if request.card.trigger else ""
    return (
        f"load it with DiffusionPipeline.from_pretrained({str(place)!r}): base {request.base} and "
        f"the adapter at {request.of_trained:g} of its trained strength are both in its weights"
        f"{trigger}",
    )
