"""Bases: what loads, and what an error says."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from mmtune.errors import BaseModelError
from mmtune.image.diffusion.base import load_base
from mmtune.image.diffusion.denoiser_lora import probe_output
from mmtune.image.diffusion.families import FAMILIES
from mmtune.image.image_row import ImageRow
from mmtune.image.sampling.predictor import ImagePredictor
from mmtune.image.source import resolve_base
from mmtune.predict import Request
from tests.image import tiny

CPU = torch.device("cpu")


@pytest.mark.parametrize("kind", tiny.KINDS)
def test_loads_frozen_and_hashes_weights(kind: str, tmp_path: Path) -> None:
    base = tiny.loaded(kind)
    assert (base.family.name == "SDXL") == kind.startswith("sdxl")
    assert base.resolution == (64 if kind == "sdxl-one-encoder" else 32)
    assert not any(p.requires_grad for p in base.pipeline.unet.parameters())
    assert base.hashes == tiny.loaded(kind).hashes

    copy = tmp_path / "copy"
    pipeline = tiny.pipeline(kind)
    with torch.no_grad():
        pipeline.unet.conv_in.bias[0] += 1
    pipeline.save_pretrained(copy)
    other = load_base(str(copy), CPU, torch.float32)
    assert other.hashes["unet"] != base.hashes["unet"]
    assert {k: v for k, v in other.hashes.items() if k != "unet"} == {
        k: v for k, v in base.hashes.items() if k != "unet"
    }


@pytest.mark.parametrize("kind", ["sdxl", "sd3"])
def test_the_same_base_in_every_number_format_and_in_shards(kind: str, tmp_path: Path) -> None:
    base = tiny.loaded(kind)
    for dtype in (torch.bfloat16, torch.float16):
        assert load_base(str(tiny.saved(kind)), CPU, dtype).hashes == base.hashes
    shards = tmp_path / "shards"
    tiny.pipeline(kind).save_pretrained(shards, max_shard_size="100KB")
    assert len(list((shards / base.family.denoiser_name).glob("*.safetensors"))) > 1
    # A variant beside them isn't loaded.
    other = shards / "vae" / "diffusion_pytorch_model.fp16.safetensors"
    other.write_bytes(b"other weights")
    assert load_base(str(shards), CPU, torch.float32).hashes == base.hashes


def test_a_base_from_the_hub_is_the_one_in_a_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As the hub's client stores it, once it is fetched."""
    repo = tmp_path / "models--someone--icons"
    shutil.copytree(tiny.saved("sd"), repo / "snapshots" / "1")
    (repo / "refs").mkdir()
    (repo / "refs" / "main").write_text("1")
    for module in ("huggingface_hub.constants", "diffusers.utils.constants"):
        monkeypatch.setattr(f"{module}.HF_HUB_CACHE", str(tmp_path), raising=False)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    base = load_base("someone/icons", CPU, torch.float32)
    assert base.hashes == tiny.loaded("sd").hashes


def refusal(base: str) -> str:
    with pytest.raises(BaseModelError) as error:
        load_base(base, CPU, torch.float32)
    return str(error.value)


def test_unreachable_hub_names_the_file_and_the_starter(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    text = refusal("nobody/no-such-model")
    assert "nobody/no-such-model: model_index.json" in text
    assert "starter:icons" in text


def test_missing_files_are_named(tmp_path: Path) -> None:
    assert "no such folder: ./nothing" in refusal("./nothing")
    assert "starter:icons" in refusal("starter:pictures")
    (tmp_path / "empty").mkdir()
    assert "model_index.json" in refusal(str(tmp_path / "empty"))
    copy = shutil.copytree(tiny.saved("sd"), tmp_path / "sd")
    for weights in (copy / "unet").glob("*.safetensors"):
        weights.unlink()
    assert f"{copy / 'unet'} holds no .safetensors" in refusal(str(copy))
    (copy / "unet" / "config.json").unlink()
    assert str(copy / "unet" / "config.json") in refusal(str(copy))


@pytest.mark.parametrize("shards", ["10GB", "20KB"])
def test_a_folder_with_one_variant_alone_is_that_base(tmp_path: Path, shards: str) -> None:
    """`*.fp16.safetensors` and nothing else, whole or in shards: as if they had plain names."""
    made = tiny.pipeline("sdxl").to(dtype=torch.float16)
    made.save_pretrained(tmp_path / "plain")
    made.save_pretrained(tmp_path / "fp16", variant="fp16", max_shard_size=shards)
    assert not list((tmp_path / "fp16").rglob("*model.safetensors"))
    plain, variant = (
        load_base(str(tmp_path / name), CPU, torch.float32) for name in ("plain", "fp16")
    )
    assert variant.hashes == plain.hashes
    assert torch.equal(probe_output(variant), probe_output(plain))


def test_pointers_and_pickled_weights_are_called_by_name(tmp_path: Path) -> None:
    copy = shutil.copytree(tiny.saved("sd"), tmp_path / "sd")
    [weights] = (copy / "vae").glob("*.safetensors")
    weights.rename(copy / "vae" / "diffusion_pytorch_model.bin")
    text = refusal(str(copy))
    assert f"{copy / 'vae' / 'diffusion_pytorch_model.bin'} is pickled" in text
    assert "save_pretrained" in text
    weights.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 9\n")
    text = refusal(str(copy))
    assert f"{weights} is a pointer of Git LFS" in text
    assert "git lfs pull" in text


def test_damaged_and_foreign_pipelines_are_refused(tmp_path: Path) -> None:
    copy = shutil.copytree(tiny.saved("sd"), tmp_path / "sd")
    [weights] = (copy / "vae").glob("*.safetensors")
    weights.write_bytes(weights.read_bytes()[:100])
    assert "can't be loaded" in refusal(str(copy))
    index = json.loads((copy / "model_index.json").read_text())
    (copy / "model_index.json").write_text(json.dumps(index | {"_class_name": "KolorsPipeline"}))
    text = refusal(str(copy))
    assert "is a KolorsPipeline" in text
    assert all(family.pipeline_class in text for family in FAMILIES)
    (copy / "model_index.json").write_text("{")
    assert "model_index.json can't be read" in refusal(str(copy))


def test_hub_ids_pass_through() -> None:
    name = "stabilityai/stable-diffusion-xl-base-1.0"
    assert resolve_base(name) == name


def test_the_starter_draws_in_colour() -> None:
    """The real one of assets/, with the settings of the recipe."""
    base = load_base("starter:icons", CPU, torch.float32)
    assert (base.family.name, base.resolution) == ("SDXL", 64)
    predictor = ImagePredictor(base, {}, steps=8, guidance=3.0)
    requests = [
        Request(ImageRow(id=c, image="-", caption=c))
        for c in ("strawberry", "banana", "evergreen tree")
    ]
    red, yellow, green = (
        np.asarray(p.value, dtype=float).mean((0, 1)) for p in predictor.predict(requests)
    )
    assert red[0] > red[1]
    assert yellow[1] > yellow[2]
    assert green[1] > green[0]
