"""Which weights of a base's folder are loaded, and pickled ones."""

from __future__ import annotations

from pathlib import Path

import pytest

from mmtune.system.base_files import pickled_in, weight_variant

NAMES = ("diffusion_pytorch_model", "model")


@pytest.mark.parametrize(
    ("folders", "variant"),
    [
        ([["model.safetensors"]], None),
        ([["model.safetensors", "model.fp16.safetensors"]], None),
        ([["model.fp16.safetensors"]], "fp16"),
        ([["model.fp16.safetensors", "model.bf16.safetensors"]], "bf16"),
        ([["model.fp16.safetensors", "model.ema.safetensors"]], "fp16"),
        ([["diffusion_pytorch_model.fp16.safetensors"], ["model.safetensors"]], "fp16"),
        ([["model.safetensors.index.json", "model-00001-of-00002.safetensors"]], None),
        # Shards as diffusers and transformers number them today, and as diffusers did before.
        ([["model.fp16-00001-of-00002.safetensors", "model.safetensors.index.fp16.json"]], "fp16"),
        ([["diffusion_pytorch_model-00001-of-00002.fp16.safetensors"]], "fp16"),
        # Parts that have no variant in common can't be loaded together.
        ([["model.fp16.safetensors"], ["model.ema.safetensors"]], None),
        ([["other.fp16.safetensors"]], None),
        ([[]], None),
    ],
)
def test_a_variant_is_chosen_where_there_are_no_plain_weights(
    tmp_path: Path, folders: list[list[str]], variant: str | None
) -> None:
    places = [tmp_path / str(i) for i in range(len(folders))]
    for place, files in zip(places, folders, strict=True):
        place.mkdir()
        for file in files:
            (place / file).touch()
    assert weight_variant(places, NAMES) == variant


def test_pickled_weights_are_found(tmp_path: Path) -> None:
    (tmp_path / "model.safetensors").touch()
    assert pickled_in(tmp_path) is None
    (tmp_path / "pytorch_model.bin").touch()
    assert pickled_in(tmp_path) == tmp_path / "pytorch_model.bin"
