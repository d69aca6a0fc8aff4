"""Folders that hold no adapter are refused by what they are."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from mmtune.adapters.adopt import find_foreign
from mmtune.adapters.card import adapter_folder
from mmtune.errors import AdapterError
from mmtune.runs.foreign_adapters import own_form
from mmtune.runs.push import push

CONFIG = json.dumps({"peft_type": "LORA", "base_model_name_or_path": "a/b"})


def with_files(*names: str) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        for name in names:
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            if name.endswith(".safetensors"):
                save_file({"model.decoder.layers.0.fc1.weight": torch.ones(2, 2)}, path)
            else:
                path.write_text(CONFIG if name == "adapter_config.json" else "{}")
        return folder

    return make


# How the folder is made; what is said of it.
REFUSED: dict[str, tuple[Callable[[Path], Path], str]] = {
    "empty": (with_files(), "neither mmtune's card.json nor PEFT's adapter_config.json with "),
    "data": (with_files("metadata.csv", "a.flac"), "neither mmtune's card.json nor PEFT's"),
    "no weights": (with_files("adapter_config.json"), "its weights, adapter_model.safetensors, "),
    "transformers": (with_files("config.json", "model.safetensors"), "is a whole model and no "),
    "sharded": (
        with_files("config.json", "model-00001-of-2.safetensors", "model-00002-of-2.safetensors"),
        "is a whole model and no adapter",
    ),
    "variant": (with_files("config.json", "model.fp16.safetensors"), "is a whole model and no "),
    "a model's file": (
        lambda folder: with_files("config.json", "model.safetensors")(folder) / "model.safetensors",
        "is a whole model and no adapter",
    ),
    "diffusers": (with_files("model_index.json"), "is a whole model and no adapter"),
    "a pipeline's part": (
        with_files("config.json", "diffusion_pytorch_model.safetensors"),
        "is a whole model and no adapter",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_it_is_said_what_it_is(case: str, tmp_path: Path) -> None:
    make, words = REFUSED[case]
    given = make(tmp_path)
    with pytest.raises(AdapterError) as refused:
        adapter_folder(own_form(given))
    assert words in refused.value.found
    assert str(given) in refused.value.found


@pytest.mark.parametrize(
    "names",
    [
        ("adapter_config.json", "adapter_model.safetensors"),
        ("adapter_config.json", "adapter_model.safetensors", "config.json"),
        ("config.json", "pytorch_lora_weights.safetensors"),
        ("my_model.safetensors", "config.json"),
        ("model.safetensors",),
    ],
)
def test_what_may_be_an_adapter_is_read(names: tuple[str, ...], tmp_path: Path) -> None:
    assert find_foreign(with_files(*names)(tmp_path)) is not None


def test_push_takes_mmtune_s_adapters_alone(tmp_path: Path) -> None:
    given = with_files("adapter_config.json", "adapter_model.safetensors")(tmp_path)
    with pytest.raises(AdapterError, match="push uploads mmtune's adapters alone") as refused:
        push(given, "my-team/words", base="a/b", dry=True)
    assert "hf upload" in refused.value.cure
