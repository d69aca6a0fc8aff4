"""Memory that runs out in a real image task names image settings."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from mmtune.config import TrainOptions
from mmtune.errors import OutOfMemory
from mmtune.image.image_row import ImageRow
from mmtune.image.sampling.predictor import ImagePredictor
from mmtune.predict import Request
from mmtune.training.loop import fit
from tests.image import tiny
from tests.image.diffusion.test_families import task_on


def full(*_: Any) -> None:
    raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")


def cures(raised: pytest.ExceptionInfo[OutOfMemory]) -> list[str]:
    return [each.split(" (")[0] for each in raised.value.cure.split("fits: ")[1].split("; --")]


def test_training_and_sampling_name_what_to_lower(tmp_path: Path) -> None:
    task = task_on(tmp_path, "sd")
    task.base.denoiser.register_forward_pre_hook(full)
    options = TrainOptions(batch_size=4, epochs=1)
    with pytest.raises(OutOfMemory, match=r"\(training\)") as raised:
        fit(task, list(task._brand), [], options, tmp_path / "run")
    assert cures(raised) == [
        "--micro_batch 2",
        "gradient_checkpointing true",
        "resolution 24",
        "quantize int8",
    ]
    predictor = ImagePredictor(task.base, {}, steps=1, guidance=1.0, batch=6)
    with pytest.raises(OutOfMemory, match=r"\(sampling\)") as raised:
        predictor.predict([Request(ImageRow(id="a", image="-", caption="a red ball"))])
    assert cures(raised) == ["--sample_batch 3", "quantize int8"]


def test_a_base_that_does_not_fit_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("diffusers.StableDiffusionPipeline.to", full)
    with pytest.raises(OutOfMemory, match=r"loading the base.*\n.*--quantize int8"):
        tiny.loaded("sd")


def test_samples_are_the_same_one_by_one(tmp_path: Path) -> None:
    base, images = tiny.loaded("sd"), []
    rows = [ImageRow(id=str(i), image="-", caption=f"thing {i}") for i in range(3)]
    for batch in (1, 2, 16):
        predictor = ImagePredictor(base, {}, steps=2, guidance=2.0, batch=batch)
        found = predictor.predict([Request(row, {}, 0) for row in rows])
        images.append(torch.stack([torch.tensor(list(p.value.tobytes())) for p in found]))
    for others in images[1:]:
        assert int((images[0] - others).abs().max()) <= 1  # of 255: one rounding
