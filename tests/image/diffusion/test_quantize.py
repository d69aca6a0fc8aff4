"""A denoiser in int8: what trains on it is an ordinary LoRA."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import DiffusionPipeline
from safetensors.torch import load_file
from torch import nn

from mmtune.adapters.card import read_card
from mmtune.data.check import check
from mmtune.errors import ConfigError, MissingExtra
from mmtune.image import MODALITY
from mmtune.image.diffusion.base import DiffusionBase, load_base
from mmtune.image.diffusion.denoiser_lora import WEIGHTS, probe_output
from mmtune.image.diffusion.quantize import require_quantizer
from mmtune.image.image_task import ImageTask
from mmtune.image.sampling.generate import generate
from mmtune.image.sampling.predictor import ImagePredictor
from mmtune.image.sampling.sampler import generator_of
from mmtune.runs.pipeline import train
from mmtune.training.log import read_log
from tests.image import tiny
from tests.image.diffusion.test_families import batch_of
from tests.image.transformers import SIDE

pytest.importorskip("torchao")
CPU = torch.device("cpu")
SLOW = pytest.mark.slow


def int8(kind: str) -> DiffusionBase:
    return load_base(str(tiny.saved(kind)), CPU, torch.float32, "int8")


def linears(base: DiffusionBase) -> dict[str, nn.Linear]:
    return {n: m for n, m in base.denoiser.named_modules() if isinstance(m, nn.Linear)}


def size(weight: Any) -> int:
    parts = [weight.qdata, weight.scale] if hasattr(weight, "qdata") else [weight]
    return sum(part.numel() * part.element_size() for part in parts)


@pytest.mark.parametrize(
    "kind", ["sd", "sd3", *(pytest.param(k, marks=SLOW) for k in ("flux2-klein", "z-image"))]
)
def test_the_base_is_the_same_in_a_quarter_of_the_bytes(kind: str) -> None:
    plain, small = tiny.loaded(kind), int8(kind)
    assert small.hashes == plain.hashes  # so that latents, captions and adapters are shared
    expected, found = probe_output(plain), probe_output(small)
    gap = float((found - expected).norm() / expected.norm())
    assert 0 < gap < 0.1
    layers = linears(small)
    assert layers.keys() == linears(plain).keys()
    assert all(hasattr(layer.weight, "qdata") for layer in layers.values())
    bytes_of = [sum(size(m.weight) for m in linears(base).values()) for base in (small, plain)]
    assert bytes_of[0] < 0.35 * bytes_of[1]
    asked: dict[str, Any] = {"steps": 1, "guidance": 1.0}
    # Its pictures aren't those of the base in full, and must not be taken for them.
    names = {ImagePredictor(base, {}, **asked).fingerprint for base in (small, plain)}
    assert len(names) == 2


@pytest.mark.parametrize(
    ("kind", "dora"),
    [
        *(("sd", "false"), ("sd3", "true")),
        *(pytest.param(*each, marks=SLOW) for each in (("sd", "true"), ("sd3", "false"))),
    ],
)
def test_gradients_are_those_on_the_widened_weights(tmp_path: Path, kind: str, dora: str) -> None:
    """Against an ordinary base with the weights that int8 stands for."""
    small, wide = int8(kind), tiny.loaded(kind)
    for name, layer in linears(wide).items():
        layer.weight = nn.Parameter(linears(small)[name].weight.dequantize(), requires_grad=False)
    side = str(SIDE if kind == "sd3" else wide.resolution)
    data = tiny.brand(tmp_path / "brand")
    config = tiny.config(tiny.saved(kind), data, tmp_path, resolution=side, dora=dora)
    dataset = check(MODALITY.prepare(config), MODALITY, config.data)
    losses, moved = [], []
    for base in (small, wide):
        task = ImageTask(config, dataset, base, None)
        [group] = task.param_groups()
        with torch.no_grad():
            for i, p in enumerate(group["params"]):
                p += 0.1 * torch.randn(p.shape, generator=torch.Generator().manual_seed(i))
        loss = task.module(batch_of(task, list(task._brand)[:2])).total.sum()
        loss.backward()
        losses.append(loss.detach())
        named = task.module.named_parameters()
        moved.append({n: p.grad for n, p in named if p.requires_grad})
    torch.testing.assert_close(*losses, rtol=1e-5, atol=0)
    assert moved[0].keys() == moved[1].keys()
    for name, found in moved[0].items():
        expected = moved[1][name]
        scale = float(expected.abs().max()) or 1.0
        torch.testing.assert_close(found / scale, expected / scale, rtol=0, atol=1e-4)


@pytest.mark.parametrize("kind", ["sd", "sd3"])
def test_a_step_keeps_less_than_on_the_base_in_full(tmp_path: Path, kind: str) -> None:
    """Neither wide weights nor what lies between stay for the backward pass."""
    kept = {}
    for name, base in (("small", int8(kind)), ("plain", tiny.loaded(kind))):
        side = str(SIDE if kind == "sd3" else base.resolution)
        data = tiny.brand(tmp_path / name)
        config = tiny.config(tiny.saved(kind), data, tmp_path, resolution=side)
        dataset = check(MODALITY.prepare(config), MODALITY, config.data)
        task = ImageTask(config, dataset, base, None)
        sizes: list[int] = []

        def count(tensor: torch.Tensor, sizes: list[int] = sizes) -> torch.Tensor:
            sizes.append(tensor.numel() * tensor.element_size())
            return tensor

        batch = batch_of(task, list(task._brand)[:2])
        with torch.autograd.graph.saved_tensors_hooks(count, lambda tensor: tensor):
            task.module(batch).total.sum()
        kept[name] = sum(sizes)
    assert kept["small"] < kept["plain"]


def test_an_adapter_trained_in_int8_is_a_plain_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MMTUNE_CACHE", str(tmp_path / "cache"))
    data = tiny.brand(tmp_path / "brand")
    over = {"resolution": str(SIDE), "epochs": "3", "quantize": "int8", "copy_seeds": "0"}
    result = train(tiny.config(tiny.saved("sd3"), data, tmp_path / "runs", **over))
    adapter = result.folder / "adapter"
    card, log = read_card(adapter), read_log(result.folder / "log.jsonl")
    assert card.settings["task"]["quantize"] == "int8"
    assert card.base_hash == tiny.loaded("sd3").fingerprint
    checked = [entry["validation"]["loss"] for entry in log if "validation" in entry]
    assert min(checked[1:]) < checked[0]
    tensors = load_file(adapter / WEIGHTS)
    assert {t.dtype for t in tensors.values()} == {torch.float32}
    assert all(".lora_A." in name or ".lora_B." in name for name in tensors)

    plain = DiffusionPipeline.from_pretrained(tiny.saved("sd3"))
    plain.set_progress_bar_config(disable=True)
    asked = {"height": SIDE, "width": SIDE, "num_inference_steps": 2, "guidance_scale": 2.0}

    def theirs() -> np.ndarray:
        noise = generator_of("red ball", 0)
        return np.asarray(plain(prompt="red ball", generator=noise, **asked).images[0], int)

    before = theirs()
    plain.load_lora_weights(adapter)
    after = theirs()
    assert (before != after).any()
    drawn = {}
    for kind in ("none", "int8"):
        [path] = generate(
            ["red ball"],
            tmp_path / kind,
            base=str(tiny.saved("sd3")),
            adapter=adapter,
            steps=2,
            guidance=2.0,
            precision="fp32",
            quantize=kind,  # type: ignore[arg-type]
        )
        from PIL import Image

        drawn[kind] = Image.open(path)
    assert drawn["none"].size == drawn["int8"].size
    assert drawn["none"].tobytes() != drawn["int8"].tobytes()
    assert drawn["int8"].info["quantize"] == "int8"


@pytest.mark.skipif(not torch.cuda.is_available(), reason="4-bit layers need an NVIDIA GPU")
@pytest.mark.parametrize("kind", ["sd", "sd3"])
def test_four_bits_hold_the_base_and_train(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    pytest.importorskip("bitsandbytes")
    import bitsandbytes as bnb

    monkeypatch.setenv("MMTUNE_CACHE", str(tmp_path / "cache"))
    gpu = torch.device("cuda", 0)
    plain = load_base(str(tiny.saved(kind)), gpu, torch.bfloat16)
    small = load_base(str(tiny.saved(kind)), gpu, torch.bfloat16, "nf4")
    assert small.hashes == plain.hashes
    layers = linears(small)
    assert layers.keys() == linears(plain).keys()
    assert all(isinstance(layer.weight, bnb.nn.Params4bit) for layer in layers.values())
    expected, found = probe_output(plain).float(), probe_output(small).float()
    assert 0 < float((found - expected).norm() / expected.norm()) < 0.5

    data = tiny.brand(tmp_path / "brand")
    side = str(SIDE if kind == "sd3" else plain.resolution)
    over = {"resolution": side, "epochs": "3", "quantize": "nf4", "copy_seeds": "0"}
    result = train(tiny.config(tiny.saved(kind), data, tmp_path / "runs", **over))
    adapter = result.folder / "adapter"
    assert read_card(adapter).base_hash == tiny.loaded(kind).fingerprint
    tensors = load_file(adapter / WEIGHTS)
    assert {t.dtype for t in tensors.values()} == {torch.float32}
    assert all(bool(t.isfinite().all()) for t in tensors.values())
    assert any(t.abs().max() > 0 for name, t in tensors.items() if ".lora_B." in name)
    log = read_log(result.folder / "log.jsonl")
    checked = [entry["validation"]["loss"] for entry in log if "validation" in entry]
    assert min(checked[1:]) < checked[0]
    [path] = generate(
        ["red ball"],
        tmp_path / "drawn",
        base=str(tiny.saved(kind)),
        adapter=adapter,
        steps=2,
        guidance=2.0,
        quantize="nf4",
    )
    assert path.is_file()


def test_what_this_machine_cannot_do_is_said_first(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigError, match=r"nf4: .* need an NVIDIA GPU.*\n.*use int8"):
        load_base(str(tiny.saved("sd")), CPU, torch.float32, "nf4")
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(MissingExtra, match=r"'torchao'.*\n.*mmtune\[quantize\]"):
        require_quantizer("int8", CPU)
    with pytest.raises(MissingExtra, match=r"'bitsandbytes'.*\n.*mmtune\[quantize\]"):
        require_quantizer("nf4", torch.device("cuda"))
    require_quantizer("none", CPU)
