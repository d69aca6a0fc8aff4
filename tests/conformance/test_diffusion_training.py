"""The objective against diffusers' own training recipe, and the adapter in diffusers' own hands."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from diffusers import DDPMScheduler, StableDiffusionXLPipeline
from diffusers.training_utils import compute_snr
from safetensors import safe_open

from mmtune.data.check import check
from mmtune.image import MODALITY
from mmtune.image.diffusion.denoiser_lora import WEIGHTS, probe_output
from mmtune.image.image_row import ImageRow
from mmtune.image.image_task import ImageTask
from mmtune.image.sampling.predictor import ImagePredictor
from mmtune.image.sampling.sampler import generator_of
from mmtune.predict import Request
from mmtune.training.randomness import Draw
from tests.image import tiny


def task_on(
    tmp_path: Path, kind: str, prediction: str, zero: bool = False, **over: str
) -> ImageTask:
    config = tiny.config(tiny.saved(kind), tiny.brand(tmp_path / "brand"), tmp_path, **over)
    dataset = check(MODALITY.prepare(config), MODALITY, config.data)
    return ImageTask(config, dataset, tiny.loaded(kind, prediction, zero), None)


def batch_of(task: ImageTask, count: int = 4) -> dict[str, torch.Tensor]:
    rows = task._brand[:count]
    draws = [Draw(1, 0, row.id) for row in rows]
    examples = [task.choose(row, draw) for row, draw in zip(rows, draws, strict=True)]
    stored = [
        {p.stage: v for p, v in zip(e.parts, task.features.get(e.parts), strict=True)}
        for e in examples
    ]
    return task.collate(examples, stored, draws)


@pytest.mark.parametrize(
    ("kind", "prediction", "zero"),
    [
        ("sd", "epsilon", False),
        ("sd", "v_prediction", True),
        ("sd", "sample", False),
        ("sdxl", "epsilon", False),
        ("sdxl", "v_prediction", False),
        ("sdxl-one-encoder", "v_prediction", True),
    ],
)
@pytest.mark.parametrize("gamma", [None, 5.0])
@torch.no_grad()
def test_loss_is_that_of_the_published_recipes(
    tmp_path: Path, kind: str, prediction: str, zero: bool, gamma: float | None
) -> None:
    """As examples/text_to_image/train_text_to_image_lora{,_sdxl}.py write it."""
    task = task_on(tmp_path, kind, prediction, zero, min_snr=str(gamma) if gamma else "null")
    batch = batch_of(task)
    batch["timesteps"] = torch.tensor([3, 250, 700, 999])
    loss = task.module(batch)

    folder = tiny.saved(kind, prediction, zero)
    schedule = DDPMScheduler.from_pretrained(folder, subfolder="scheduler")
    assert schedule.config.prediction_type == prediction
    x, noise, t = batch["latents"], batch["noise"], batch["timesteps"]
    added = (
        {"text_embeds": batch["pooled"], "time_ids": batch["time_ids"]}
        if "pooled" in batch
        else None
    )
    noisy = schedule.add_noise(x, noise, t)
    unet = task.base.pipeline.unet
    predicted = unet(noisy, t, batch["embeds"], added_cond_kwargs=added).sample
    target = {
        "epsilon": noise,
        "v_prediction": schedule.get_velocity(x, noise, t),
        "sample": x,
    }[prediction]
    expected = (predicted - target).square().mean(dim=(1, 2, 3))
    if gamma is not None:
        snr = compute_snr(schedule, t)
        weight = torch.stack([snr, gamma * torch.ones_like(t)], dim=1).min(dim=1)[0]
        weight = weight / {"epsilon": snr, "v_prediction": snr + 1, "sample": 1}[prediction]
        expected = expected * weight
    torch.testing.assert_close(loss.total / loss.units, expected)
    assert loss.units.tolist() == [4 * 16 * 16] * 4
    if zero:
        assert float(compute_snr(schedule, t)[-1]) == pytest.approx(0, abs=1e-9)


@pytest.mark.parametrize("targets", ["[]", "[conv1, to_q, ff.net.0.proj]"])
@pytest.mark.parametrize("kind", tiny.KINDS)
def test_saved_adapter_loads_in_plain_diffusers(tmp_path: Path, kind: str, targets: str) -> None:
    task = task_on(tmp_path, kind, "epsilon", targets=targets)
    with torch.no_grad():
        for group in task.param_groups():
            for i, p in enumerate(group["params"]):
                p.copy_(0.3 * torch.randn(p.shape, generator=torch.Generator().manual_seed(i)))
    task.save(tmp_path / "adapter")
    trained = probe_output(task.base)
    with safe_open(tmp_path / "adapter" / WEIGHTS, "pt") as file:
        metadata = json.loads(file.metadata()["lora_adapter_metadata"])
    # rank 2, alpha 4: without them diffusers would halve the adapter's strength.
    assert (metadata["unet.r"], metadata["unet.lora_alpha"]) == (2, 4)

    plain = tiny.loaded(kind)
    before = probe_output(plain)
    plain.pipeline.load_lora_weights(tmp_path / "adapter")
    assert torch.equal(probe_output(plain), trained)
    assert not torch.equal(before, trained)

    # The same prompt and seed give the same picture here and in the plain pipeline.
    predictor = ImagePredictor(
        tiny.loaded(kind), {"a": tmp_path / "adapter"}, steps=3, guidance=2.0
    )
    row = ImageRow(id="r", image="-", caption="red ball")
    [ours] = predictor.predict([Request(row, {"a": 1.0}, seed=7)])
    [theirs] = plain.pipeline(
        "red ball", num_inference_steps=3, guidance_scale=2.0, generator=generator_of("red ball", 7)
    ).images
    assert ours.value.tobytes() == theirs.tobytes()
    [half] = predictor.predict([Request(row, {"a": 0.5}, seed=7)])
    plain.pipeline.set_adapters(plain.pipeline.get_list_adapters()["unet"], 0.5)
    [theirs] = plain.pipeline(
        "red ball", num_inference_steps=3, guidance_scale=2.0, generator=generator_of("red ball", 7)
    ).images
    assert half.value.tobytes() == theirs.tobytes() != ours.value.tobytes()
    assert isinstance(plain.pipeline, StableDiffusionXLPipeline) == (plain.family.name == "SDXL")
