"""Which weights of a base's folder are loaded, and files that hold none."""

from __future__ import annotations

from pathlib import Path

import pytest

from mmtune.errors import BaseModelError
from mmtune.system.base_files import pickled_in, refuse_pointers, weight_variant

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


@pytest.mark.parametrize(
    ("text", "cure"),
    [
        (
            "version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 3438167540\n",
            "lfs pull",
        ),
        ("/annex/objects/SHA256E-s3438167540--00.safetensors\n", "annex get"),
        ("../.git/annex/objects/a/b/SHA256E-s1--00/SHA256E-s1--00\n", "annex get"),
    ],
)
def test_pointers_are_called_by_name(tmp_path: Path, text: str, cure: str) -> None:
    (tmp_path / "config.json").write_text("{}")
    refuse_pointers([tmp_path / "config.json", tmp_path, tmp_path / "absent"])
    (tmp_path / "model.safetensors").write_text(text)
    with pytest.raises(BaseModelError, match=cure) as caught:
        refuse_pointers(sorted(tmp_path.iterdir()))
    assert str(tmp_path / "model.safetensors") in str(caught.value)


def test_pickled_weights_are_found(tmp_path: Path) -> None:
    (tmp_path / "model.safetensors").touch()
    assert pickled_in(tmp_path) is None
    (tmp_path / "pytorch_model.bin").touch()
    assert pickled_in(tmp_path) == tmp_path / "pytorch_model.bin"
