"""The code in an image adapter's README.md, by the kind of its base."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from mmtune.adapters.card import Card
from mmtune.image.usage import usage


def code(base: Path | str, guidance: float = 4.0) -> str:
    card = Card(
        name="a", recipe="style", modality="image", base=str(base), base_hash="0" * 64,
        dataset="1" * 64, rows={"train": 3}, settings={"task": {"guidance": guidance, "steps": 7}},
    )  # fmt: skip
    made = usage(card).code
    compile(made, "README.md", "exec")
    return made


@pytest.mark.parametrize("name", ["x.safetensors", "x.safetensors@config", "gone/y.SAFETENSORS"])
def test_a_base_that_is_one_file_is_loaded_by_mmtune(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "x.safetensors").touch()
    (tmp_path / "config").mkdir()
    made = code(name)
    assert "mmtune.generate" in made
    assert "from_pretrained" not in made


@pytest.mark.parametrize(
    ("pipeline", "denoiser", "call"),
    [
        ("StableDiffusionXLPipeline", {}, "steps=7, guidance_scale=4.0)"),
        ("QwenImagePipeline", {}, "steps=7, true_cfg_scale=4.0, negative_prompt='')"),
        (
            "QwenImagePipeline",
            {"guidance_embeds": True},
            "steps=7, true_cfg_scale=1.0, guidance_scale=4.0)",
        ),
        ("ZImagePipeline", {}, "steps=7, guidance_scale=3.0)"),
        ("UnknownPipeline", {}, "steps=7, guidance_scale=4.0)"),
        (None, {}, "steps=7, guidance_scale=4.0)"),
    ],
)
def test_the_guidance_has_the_pipeline_s_name(
    tmp_path: Path, pipeline: str | None, denoiser: dict[str, Any], call: str
) -> None:
    if pipeline is not None:
        (tmp_path / "model_index.json").write_text(json.dumps({"_class_name": pipeline}))
        for part in ("transformer", "unet"):
            (tmp_path / part).mkdir()
            (tmp_path / part / "config.json").write_text(json.dumps(denoiser))
    assert call in code(tmp_path)


def test_a_base_on_the_hub_is_looked_up_without_the_hub(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.hf_hub_download", lambda *a, **k: pytest.fail("asked"))
    assert "guidance_scale=4.0" in code("team/model")
