"""Bases that were distilled to few steps: told by their small files and names."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from mmtune.image.diffusion.distilled import distilled_note

SD, XL = "StableDiffusionPipeline", "StableDiffusionXLPipeline"
EULER = {"_class_name": "EulerDiscreteScheduler", "prediction_type": "epsilon"}
ANCESTRAL = {"_class_name": "EulerAncestralDiscreteScheduler"}
TRAILING = {"timestep_spacing": "trailing"}
FLOW = {"_class_name": "FlowMatchEulerDiscreteScheduler"}
KLEIN = "black-forest-labs/FLUX.2-klein-base"


def folder(
    place: Path,
    kind: str,
    denoiser: dict[str, Any] | None = None,
    scheduler: dict[str, Any] | None = None,
    **index: Any,
) -> Path:
    """The small files of a pipeline."""
    part = "unet" if kind in (SD, XL) else "transformer"
    files = {
        "model_index.json": {"_class_name": kind, part: ["diffusers", "X"], **index},
        f"{part}/config.json": denoiser or {},
        "scheduler/scheduler_config.json": scheduler or EULER,
    }
    for name, value in files.items():
        (place / name).parent.mkdir(parents=True, exist_ok=True)
        (place / name).write_text(json.dumps(value))
    return place


@pytest.mark.parametrize(
    ("name", "kind", "denoiser", "scheduler", "instead"),
    [
        # As the published models' own files say it.
        ("sdxl-turbo", XL, {}, ANCESTRAL | TRAILING, "stable-diffusion-xl-base-1.0"),
        ("renamed", XL, {}, ANCESTRAL | TRAILING, "stable-diffusion-xl-base-1.0"),
        ("renamed", SD, {"cross_attention_dim": 1024}, EULER | TRAILING, "stable-diffusion-2-1"),
        ("renamed", SD, {"time_cond_proj_dim": 256}, EULER, "stable-diffusion-v1-5"),
        ("renamed", XL, {}, {"_class_name": "LCMScheduler"}, "stable-diffusion-xl-base-1.0"),
        ("renamed", "FluxPipeline", {"guidance_embeds": False}, FLOW, "FLUX.1-dev"),
        # By their names alone.
        ("Z-Image-Turbo", "ZImagePipeline", {}, FLOW, "Tongyi-MAI/Z-Image"),
        ("stable-diffusion-3.5-large-turbo", "StableDiffusion3Pipeline", {}, FLOW, "3.5-large"),
        ("Chroma1-Flash", "ChromaPipeline", {}, FLOW, "lodestones/Chroma1-HD"),
        ("SDXL-Lightning", XL, {}, EULER, "stable-diffusion-xl-base-1.0"),
        ("Hyper-SD", XL, {}, EULER, "stable-diffusion-xl-base-1.0"),
        ("LCM_Dreamshaper_v7", SD, {}, EULER, "stable-diffusion-v1-5"),
        ("realvisxlV40_v40LightningBakedvae", XL, {}, EULER, "stable-diffusion-xl-base-1.0"),
        ("dreamshaperXL_turboDPMSDE", XL, {}, EULER, "stable-diffusion-xl-base-1.0"),
    ],
)
def test_a_distilled_base_names_the_one_to_train(
    tmp_path: Path,
    name: str,
    kind: str,
    denoiser: dict[str, Any],
    scheduler: dict[str, Any],
    instead: str,
) -> None:
    note = distilled_note(str(folder(tmp_path / name, kind, denoiser, scheduler)))
    assert note is not None
    assert "distilled to few steps" in note
    assert instead in note.partition("such as --base")[2]


@pytest.mark.parametrize(("width", "size"), [(7680, "4B"), (12_288, "9B")])
def test_klein_says_it_in_its_index(tmp_path: Path, width: int, size: str) -> None:
    given = ("Flux2KleinPipeline", {"joint_attention_dim": width}, FLOW)
    note = distilled_note(str(folder(tmp_path / "a", *given, is_distilled=True)))
    assert note is not None
    assert f"{KLEIN}-{size}" in note
    assert distilled_note(str(folder(tmp_path / "b", *given, is_distilled=False))) is None


@pytest.mark.parametrize(
    ("name", "kind", "denoiser", "scheduler"),
    [
        ("stable-diffusion-xl-base-1.0", XL, {}, EULER | {"timestep_spacing": "leading"}),
        ("hyperrealistic", XL, {}, EULER),
        ("lightningbolts", XL, {}, EULER),
        # Velocities with zero terminal SNR are also spaced so.
        ("noob-vpred", XL, {}, EULER | TRAILING | {"prediction_type": "v_prediction"}),
        ("FLUX.1-dev", "FluxPipeline", {"guidance_embeds": True}, FLOW),
        (
            "de-distilled",
            "FluxPipeline",
            {"guidance_embeds": False},
            FLOW | {"use_dynamic_shifting": True},
        ),
        ("FLUX.2-dev", "Flux2Pipeline", {"guidance_embeds": True}, FLOW),
        ("Z-Image", "ZImagePipeline", {}, FLOW),
        ("Qwen-Image", "QwenImagePipeline", {}, FLOW),
    ],
)
def test_other_bases_get_no_note(
    tmp_path: Path, name: str, kind: str, denoiser: dict[str, Any], scheduler: dict[str, Any]
) -> None:
    place = folder(tmp_path / "turbo" / name, kind, denoiser, scheduler)  # folders don't count
    assert distilled_note(str(place)) is None
    assert distilled_note(f"{place}/") is None


def test_bases_that_cannot_be_read_get_no_note(tmp_path: Path) -> None:
    assert distilled_note(str(tmp_path / "absent-turbo")) is None
    assert distilled_note("starter:icons") is None


def test_a_file_says_it_in_its_name_or_title(tmp_path: Path) -> None:
    tensors, config = {"a": torch.zeros(1)}, folder(tmp_path / "config", SD)
    for name, title, noted in (
        ("sd_turbo", "", True),
        ("renamed", "SDXL Turbo", True),
        ("renamed", "SDXL 1.0", False),
    ):
        file = tmp_path / f"{name}.safetensors"
        save_file(tensors, file, {"modelspec.title": title})
        assert (distilled_note(f"{file}@{config}") is not None) is noted
