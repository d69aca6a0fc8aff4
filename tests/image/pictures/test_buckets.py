"""Tall and wide images in their own shape: what is cut, what SDXL is told, and whole runs."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from PIL import Image

from mmtune.data.check import check
from mmtune.image import MODALITY
from mmtune.image.diffusion.stages import scale_and_crop
from mmtune.image.image_task import ImageTask
from mmtune.image.pictures.buckets import Buckets
from mmtune.image.pictures.pixels import open_image, upright_size
from mmtune.runs.pipeline import train
from mmtune.training.batches import Plan
from mmtune.training.randomness import Draw
from tests.image import tiny


def test_sizes_have_one_area_and_follow_from_the_image(tmp_path: Path) -> None:
    buckets = Buckets(1024, 64, many=True)
    assert (1024, 1024) in buckets.sizes
    assert all(h % 64 == w % 64 == 0 for h, w in buckets.sizes)
    assert all(0.9 < h * w / 1024**2 < 1.1 for h, w in buckets.sizes)
    assert buckets.longest == 1472
    for size, shape in (((300, 300), 1.0), ((400, 200), 2.0), ((200, 300), 2 / 3)):
        path = tmp_path / f"{size[0]}x{size[1]}.png"
        Image.new("RGB", size).save(path)
        height, width = buckets.of(path)
        assert width / height == pytest.approx(shape, rel=0.07)
        assert Buckets(64, 8, many=False).of(path) == (64, 64)


@pytest.mark.parametrize("suffix", ["jpg", "tif"])
def test_a_photograph_that_lies_counts_as_it_stands(tmp_path: Path, suffix: str) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    path, other = tmp_path / f"a.{suffix}", tmp_path / f"b.{suffix}"
    Image.new("RGB", (80, 40)).save(path, exif=exif)
    assert upright_size(path) == open_image(path).size == (40, 80)
    assert Buckets(64, 8, many=True).of(path) == (88, 48)
    Image.new("RGB", (80, 40)).save(other)
    assert upright_size(other) == (80, 40)


@pytest.mark.parametrize(
    ("size", "ids"),
    [
        ((200, 100), [64, 128, 0, 0, 64, 128]),  # the same shape: nothing is cut
        ((300, 100), [64, 128, 0, 32, 64, 128]),
        ((128, 128), [64, 128, 32, 0, 64, 128]),
        ((64, 32), [32, 64, 0, 0, 64, 128]),  # enlarged: it says so
    ],
)
def test_the_time_ids_are_those_of_the_cut(size: tuple[int, int], ids: list[int]) -> None:
    cut, found = scale_and_crop(Image.new("RGB", size, "white"), (64, 128))
    assert cut.size == (128, 64)
    assert found == ids


@pytest.mark.parametrize(
    "kind", ["sdxl", "flux-dev", pytest.param("flux2-klein", marks=pytest.mark.slow)]
)
def test_batches_hold_one_shape_and_every_row_keeps_its_loss(tmp_path: Path, kind: str) -> None:
    data = tiny.brand(tmp_path / "brand", count=6, size=(60, 30))
    for i, path in enumerate(sorted(tiny.brand(tmp_path / "tall", size=(30, 60)).glob("*box*"))):
        path.rename(data / f"tall {i} {path.name}")
    config = tiny.config(
        tiny.saved(kind), data, tmp_path, resolution="32", buckets="true", caption_dropout="0"
    )
    dataset = check(data, MODALITY, config.data)
    task = ImageTask(config, dataset, tiny.loaded(kind), None)
    rows = list(task._brand)
    assert {task.bucket(row) for row in rows} == {"24x44", "44x24"}
    for slots in Plan(rows, task.bucket, 4, 0).epoch(0):
        batch = [slot.row for slot in slots]
        draws = [Draw(0, 0, row.id) for row in batch]
        examples = [task.choose(row, draw) for row, draw in zip(batch, draws, strict=True)]
        stored = [
            {p.stage: v for p, v in zip(e.parts, task.features.get(e.parts), strict=True)}
            for e in examples
        ]
        with torch.no_grad():
            together = task.module(task.collate(examples, stored, draws)).total
            alone = [
                task.module(task.collate([e], [s], [d])).total
                for e, s, d in zip(examples, stored, draws, strict=True)
            ]
        torch.testing.assert_close(together, torch.cat(alone), rtol=1e-4, atol=1e-4)
    values = task._loss(rows)
    assert values == pytest.approx(task._loss(rows[::-1]), rel=1e-5)


@pytest.mark.slow
def test_a_run_with_many_shapes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MMTUNE_CACHE", str(tmp_path / "cache"))
    data = tiny.brand(tmp_path / "brand", count=6, size=(60, 30))
    tiny.brand(data, count=12, size=(40, 40))
    for i, path in enumerate(sorted(tiny.brand(tmp_path / "tall", size=(30, 60)).glob("*box*"))):
        path.rename(data / f"tall {i} {path.name}")
    config = tiny.config(tiny.saved("sdxl"), data, tmp_path / "runs", buckets="true", flip="true")
    result = train(config)
    assert (result.folder / "adapter").is_dir()
