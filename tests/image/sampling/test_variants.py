"""rsLoRA and DoRA on a UNet: trained, saved, and read by diffusers alone."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from diffusers import DiffusionPipeline
from peft.tuners.lora import LoraLayer
from PIL import Image
from safetensors.torch import load_file

from mmtune.image.diffusion.base import DiffusionBase
from mmtune.image.diffusion.denoiser_lora import WEIGHTS
from mmtune.image.image_row import ImageRow
from mmtune.image.sampling.generate import generate
from mmtune.image.sampling.predictor import ImagePredictor
from mmtune.image.sampling.sampler import generator_of
from mmtune.predict import Request
from mmtune.runs.pipeline import train
from tests.image import tiny

PROMPTS = ["red ball", "blue box"]
STEPS, GUIDANCE = 3, 2.0
# Attention, a linear layer beside it, and convolutions of two shapes.
TARGETS = "[to_q, ff.net.0.proj, conv1, conv_in]"


@pytest.fixture(scope="module", params=["rslora", "dora"])
def trained(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp(request.param)
    settings = {"cache": "false", "targets": TARGETS, request.param: "true"}
    data = tiny.brand(folder / "brand")
    result = train(tiny.config(tiny.saved("sdxl-one-encoder"), data, folder / "runs", **settings))
    return result.folder / "adapter"


def drawn(base: DiffusionBase, adapters: dict[str, Path], weights: dict[str, float]) -> list[bytes]:
    predictor = ImagePredictor(base, adapters, steps=STEPS, guidance=GUIDANCE)
    requests = [Request(ImageRow(id=p, image="-", caption=p), weights, 0) for p in PROMPTS]
    return [p.value.tobytes() for p in predictor.predict(requests)]


def test_diffusers_alone_draws_the_same_pictures(trained: Path) -> None:
    pipeline = DiffusionPipeline.from_pretrained(tiny.saved("sdxl-one-encoder"))
    pipeline.set_progress_bar_config(disable=True)
    pipeline.load_lora_weights(trained)
    theirs = pipeline(
        PROMPTS,
        height=64,
        width=64,
        num_inference_steps=STEPS,
        guidance_scale=GUIDANCE,
        generator=[generator_of(prompt, 0) for prompt in PROMPTS],
    ).images
    ours = drawn(tiny.loaded("sdxl-one-encoder"), {"brand": trained}, {"brand": 1.0})
    assert ours == [image.tobytes() for image in theirs]


def test_what_was_trained_is_what_the_setting_says(trained: Path) -> None:
    """alpha / sqrt(rank) for rsLoRA (arXiv 2312.03732); DoRA has magnitudes, and they moved."""
    base = tiny.loaded("sdxl-one-encoder")
    ImagePredictor(base, {"brand": trained}, steps=STEPS, guidance=GUIDANCE)
    layers = [m for m in base.pipeline.unet.modules() if isinstance(m, LoraLayer)]
    dora = "dora" in trained.parts[-4]
    weights = load_file(trained / WEIGHTS)
    up = [w for name, w in weights.items() if "lora_B" in name]
    assert layers
    assert len(up) == len(layers)
    assert all(bool(w.any()) for w in up)
    assert all(layer.use_dora["brand"] == dora for layer in layers)
    scaling = 4 / 2 if dora else 4 / 2**0.5  # alpha 4, rank 2
    assert all(layer.scaling["brand"] == pytest.approx(scaling) for layer in layers)
    magnitudes = {name: w for name, w in weights.items() if "magnitude" in name}
    assert len(magnitudes) == (len(layers) if dora else 0)
    frozen = base.pipeline.unet.conv_in.base_layer.weight
    for name, magnitude in magnitudes.items():
        if "conv_in" in name:
            assert not torch.allclose(magnitude.flatten(), frozen.flatten(1).norm(dim=1))


def test_off_and_weight_0_are_the_base_bit_by_bit(trained: Path) -> None:
    base = drawn(tiny.loaded("sdxl-one-encoder"), {}, {})
    tuned, adapters = tiny.loaded("sdxl-one-encoder"), {"brand": trained}
    on = drawn(tuned, adapters, {"brand": 1.0})
    again = ImagePredictor(
        tiny.loaded("sdxl-one-encoder"), adapters, steps=STEPS, guidance=GUIDANCE
    )
    rows = [ImageRow(id=p, image="-", caption=p) for p in PROMPTS]
    assert on != base
    for weights in ({"brand": 1.0}, {}, {"brand": 0.0}, {"brand": 0.5}, {"brand": 0.0}):
        found = [p.value.tobytes() for p in again.predict([Request(r, weights, 0) for r in rows])]
        if weights.get("brand") == 1.0:
            assert found == on
        else:
            assert (found == base) == (not any(weights.values()))


def test_scale_0_of_generate_is_the_base(trained: Path, tmp_path: Path) -> None:
    settings = {"base": str(tiny.saved("sdxl-one-encoder")), "steps": 2, "guidance": 1.0}
    [off] = generate(["red ball"], tmp_path / "off", adapter=trained, weight=0.0, **settings)
    [base] = generate(["red ball"], tmp_path / "base", **settings)
    [on] = generate(["red ball"], tmp_path / "on", adapter=trained, **settings)

    def pixels(path: Path) -> bytes:
        with Image.open(path) as image:
            return image.tobytes()

    assert pixels(off) == pixels(base) != pixels(on)
