"""Masks of rows: where they may lie, what is found in them, and what they leave of the loss."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch
from PIL import Image, ImageDraw

from mmtune.data.check import check
from mmtune.data.dataset import Dataset
from mmtune.data.manifest import write_manifest
from mmtune.errors import DataError
from mmtune.image import MODALITY
from mmtune.image.corpus.propose_captions import by_name, propose
from mmtune.image.image_task import ImageTask
from tests.image import tiny
from tests.image.test_task import losses

DATA = tiny.config(Path(), Path(), Path()).data


def mask(
    path: Path, box: tuple[int, int, int, int] | None, size: tuple[int, int] = (40, 40)
) -> Path:
    image = Image.new("L", size, 0)
    if box is not None:
        ImageDraw.Draw(image).rectangle(box, fill=255)
    image.save(path)
    return path


def looked_at(folder: Path, *, strict: bool = True) -> Dataset:
    return check(folder, MODALITY, DATA, strict=strict)


def test_a_mask_beside_an_image_belongs_to_it(tmp_path: Path) -> None:
    brand = tiny.brand(tmp_path / "brand")
    plain = looked_at(brand)
    mask(brand / "red ball.mask.png", (0, 0, 19, 39))
    mask(brand / "gas.mask.png", (0, 0, 19, 39))  # no "gas.png": a picture of a gas mask
    found = looked_at(brand)
    rows = {row.id: row for row in found.rows}
    assert len(rows) == 13
    assert "gas.mask" in rows
    assert {name for name, row in rows.items() if row.mask is not None} == {"red ball"}
    assert rows["red ball"].mask == str((brand / "red ball.mask.png").resolve())
    before = {row.id: row.content for row in plain.rows}
    changed = {name for name in before if rows[name].content != before[name]}
    assert changed == {"red ball"}  # no other is computed again
    proposed = {p.image.name for p in propose(brand, by_name, write=False)}
    assert "red ball.mask.png" not in proposed


def test_a_manifest_names_masks_relative_to_itself(tmp_path: Path) -> None:
    brand = tiny.brand(tmp_path / "brand")
    (brand / "masks").mkdir()
    mask(brand / "masks" / "a.png", (0, 0, 19, 39))
    rows = [{"id": p.stem, "image": p.name, "caption": p.stem} for p in sorted(brand.glob("*.png"))]
    rows[0]["mask"] = "masks/a.png"
    rows[1]["mask"] = "../away.png"
    write_manifest(brand / "manifest.jsonl", rows)
    found = looked_at(brand, strict=False)
    assert [(f.kind, f.row) for f in found.findings if f.severity == "error"] == [
        ("outside", rows[1]["id"])
    ]
    # Wherever they lie, the same data has the same fingerprint; and it is written back as it was.
    shutil.copytree(brand, tmp_path / "moved")
    assert looked_at(tmp_path / "moved", strict=False).fingerprint == found.fingerprint
    write_manifest(brand / "again.jsonl", found.rows)
    assert '"mask": "masks/a.png"' in (brand / "again.jsonl").read_text()
    mask(brand / "masks" / "a.png", (0, 0, 9, 39))
    assert looked_at(brand, strict=False).fingerprint != found.fingerprint


@pytest.mark.parametrize(
    ("box", "size", "kind"),
    [
        (None, (50, 40), "mask-black"),
        ((0, 0, 9, 9), (40, 40), "mask-size"),
        ((0, 0, 3, 39), (50, 40), "mask-cut"),
        ((0, 0, 6, 39), (50, 40), None),
    ],
)
def test_masks_of_no_use_are_found(
    tmp_path: Path, box: tuple[int, int, int, int] | None, size: tuple[int, int], kind: str | None
) -> None:
    brand = tiny.brand(tmp_path / "brand", size=(50, 40))
    mask(brand / "red ball.mask.png", box, size)
    kinds = {f.kind for f in looked_at(brand, strict=False).findings if "mask" in f.kind}
    assert kinds == ({kind} if kind else set())


def test_a_mask_that_is_no_image_is_found(tmp_path: Path) -> None:
    brand = tiny.brand(tmp_path / "brand")
    (brand / "red ball.mask.png").write_bytes(b"no image")
    [error] = [f for f in looked_at(brand, strict=False).findings if f.severity == "error"]
    assert error.kind == "undecodable"
    assert "red ball.mask.png" in error.message


def task_of(tmp_path: Path, kind: str, **over: str) -> ImageTask:
    brand = tmp_path / "brand"
    config = tiny.config(tiny.saved(kind), brand, tmp_path, **over)
    return ImageTask(config, check(brand, MODALITY, config.data), tiny.loaded(kind), None)


@pytest.mark.parametrize("kind", ["sdxl-one-encoder", "sdxl"])
@torch.no_grad()
def test_the_loss_is_that_of_what_is_white(tmp_path: Path, kind: str) -> None:
    brand = tiny.brand(tmp_path / "brand")
    plain = task_of(tmp_path, kind)
    names = [row.id for row in plain._brand[:3]]
    whole = losses(plain, list(plain._brand[:3]))
    # Of the first row all counts, of the second the left half, and the third has no mask.
    for name, box in zip(names, [(0, 0, 39, 39), (0, 0, 19, 39)], strict=False):
        mask(brand / f"{name}.mask.png", box)
    task = task_of(tmp_path, kind)
    rows = {row.id: row for row in task._brand}
    assert set(names) <= rows.keys()
    chosen = [rows[name] for name in names]
    found = losses(task, chosen)
    torch.testing.assert_close(found.total[[0, 2]], whole.total[[0, 2]])
    # Scaling smears the mask's edge a little, and rounds it to eight bits.
    near = {"rtol": 2e-3, "atol": 0.0}
    torch.testing.assert_close(found.units, whole.units * torch.tensor([1, 0.5, 1]), **near)
    assert 0 < found.total[1] < whole.total[1]
    # The other half gives the rest, and a row alone has the loss that it has among others.
    torch.testing.assert_close(losses(task, chosen[1:2]).total, found.total[1:2])
    mask(brand / f"{names[1]}.mask.png", (20, 0, 39, 39))
    other = task_of(tmp_path, kind)
    rest = losses(other, [row for row in other._brand if row.id == names[1]])
    torch.testing.assert_close(rest.total[0] + found.total[1], whole.total[1], **near)


def test_a_mask_is_cut_mirrored_and_reduced_as_its_image(tmp_path: Path) -> None:
    brand = tiny.brand(tmp_path / "brand", size=(60, 40))
    for path in sorted(brand.glob("*.png")):
        mask(path.with_suffix(".mask.png"), (0, 0, 24, 39), (60, 40))  # columns 10 to 50 are kept
    task = task_of(tmp_path, "sdxl-one-encoder", flip="true")
    upright, mirrored = (
        task.features.get([task._latent(task._brand[0], view)])[0]["mask"] for view in (0, 1)
    )
    size = next(iter(task.features.get([task._latent(task._brand[0], 0)])))["latent"]
    assert upright.shape == (1, *size.shape[-2:])
    assert torch.equal(upright.flip(-1), mirrored)
    width = upright.shape[-1]
    assert upright[0, 0, 0] == 1
    assert upright[0, 0, -1] == 0
    assert float(upright.mean()) == pytest.approx(15 / 40, abs=0.7 / width)


def test_nothing_white_after_the_cut_stops_before_training(tmp_path: Path) -> None:
    brand = tiny.brand(tmp_path / "brand", size=(80, 40))
    for path in sorted(brand.glob("*.png")):
        mask(path.with_suffix(".mask.png"), (0, 0, 9, 39), (80, 40))
    task = task_of(tmp_path, "sd")
    with pytest.raises(DataError, match="buckets"):
        task.features.get([task._latent(task._brand[0], 0)])
