"""Files of other tools beside a brand's pictures, and folders as people have them."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from PIL import Image

from mmtune.config import DataOptions
from mmtune.data.check import check
from mmtune.data.dataset import remarks
from mmtune.errors import DataError
from mmtune.system.inside import inside
from tests.data.pieces import IMAGE, write_image


def grey(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.linear_gradient("L").resize((48, 32)).save(path)


# Files beside "apple.png" and "pear.jpg", and the kind of their finding; "" for a mask.
BESIDE: dict[str, str] = {
    "apple.mask.png": "",
    "apple-masklabel.png": "",
    "apple_mask.png": "",
    "apple-mask.png": "",
    "masks/apple.png": "",
    "apple-maskLabel.PNG": "",
    "apple_MASK.png": "",
    "conditioning/apple.png": "side-file",
    "gone-masklabel.png": "unused-mask",
    "apple-condlabel.png": "side-file",
    "reg/1_fruit/a.png": "side-file",
    "sub/reg/b.png": "side-file",
    "model/sample/acme.png": "side-file",
    "sample/c.png": "side-file",
    "thumbs/apple.png": "side-file",
    "apple.thumb.png": "side-file",
    "apple_thumb.jpg": "side-file",
    "apple.preview.png": "side-file",
    "apple-150x150.png": "side-file",
    "acme_e000004_02_20240501123000_42.png": "side-file",
    "acme_000100_00_20240501123000.png": "side-file",
    "apple.npz": "side-file",
    "apple_0512x0768_sd.npz": "side-file",
    "acme.safetensors": "side-file",
    ".DS_Store": "hidden",
    "Thumbs.db": "hidden",
    "scan.psd": "unused-image",
    "brief.pdf": "unused-image",
    "photo.cr3": "unused-image",
}


@pytest.mark.parametrize("name", BESIDE)
def test_files_of_other_tools_are_not_trained_on(tmp_path: Path, name: str) -> None:
    write_image(tmp_path / "apple.png", 1)
    write_image(tmp_path / "pear.jpg", 2)
    place = tmp_path / name
    if not BESIDE[name] or BESIDE[name] == "unused-mask":
        grey(place)
    elif place.suffix in (".png", ".jpg"):
        write_image(place, 3)
    else:
        place.write_bytes(b"x")
    data = check(tmp_path, IMAGE, strict=False, divide=False)
    assert sorted(row.id for row in data.rows) == ["apple", "pear"]
    named = [each.kind for each in data.findings if each.file == name]
    assert named == ([BESIDE[name]] if BESIDE[name] else [])
    has_mask = next(row for row in data.rows if row.id == "apple").mask is not None
    assert has_mask is (not BESIDE[name])
    assert data.files["used"] + data.files["left_out"] == data.files["found"]


# Pictures that only look like such files.
OWN = {
    "apple_mask.png": "a coloured picture of a mask",
    "gas.mask.png": "there is no gas.png",
    "thumb.png": "a thumb",
    "samples/red.png": "no weights lie beside it",
    "banner-300x600.png": "there is no banner.png",
    "my model/red.png": "another name",
}


@pytest.mark.parametrize("name", OWN)
def test_what_only_looks_like_one_is_trained_on(tmp_path: Path, name: str) -> None:
    write_image(tmp_path / "apple.png", 1)
    write_image(tmp_path / name, 3)
    data = check(tmp_path, IMAGE, strict=False, divide=False)
    assert len(data.rows) == 2, OWN[name]


def test_folders_that_a_training_wrote(tmp_path: Path) -> None:
    write_image(tmp_path / "img/red apple.png", 1)
    write_image(tmp_path / "output/acme/samples/0001.png", 2)
    (tmp_path / "output/acme/acme.safetensors").write_bytes(b"x")
    data = check(tmp_path, IMAGE, strict=False, divide=False)
    assert [row.id for row in data.rows] == ["img/red apple"]
    # The folder alone is what the user asks for.
    alone = check(tmp_path / "output", IMAGE, strict=False, divide=False)
    assert [each.row for each in alone.findings if each.kind == "missing-text"] == [
        "acme/samples/0001"
    ]


def test_a_folder_as_it_lies_trains(tmp_path: Path) -> None:
    for i in range(12):
        write_image(tmp_path / f"{['red', 'blue'][i % 2]} thing {chr(97 + i)}.png", i)
    shutil.copy(tmp_path / "red thing a.png", tmp_path / "red thing a copy.png")
    shutil.copy(tmp_path / "blue thing b.png", tmp_path / "final.png")
    (tmp_path / "brief.pdf").write_bytes(b"%PDF-1.7")
    (tmp_path / "logo.ai").write_bytes(b"%PDF-1.7")
    data = check(tmp_path, IMAGE)
    assert len(data.rows) == 12
    assert data.quarantined == ()
    assert set(data.withheld) == {"final", "red thing a copy"} or len(data.withheld) == 2
    kinds = {each.kind: each.severity for each in data.findings}
    assert kinds["duplicate-content"] == kinds["unused-image"] == "warning"


def test_without_a_picture_that_can_be_read_the_error_says_why(tmp_path: Path) -> None:
    (tmp_path / "a.psd").write_bytes(b"8BPS")
    with pytest.raises(DataError, match=r"no file could become a row \(unused-image 1\)"):
        check(tmp_path, IMAGE)


def test_a_snapshot_of_the_hub_is_read(tmp_path: Path) -> None:
    blobs, snapshot = tmp_path / "hub/blobs", tmp_path / "hub/snapshots/0a1b"
    snapshot.mkdir(parents=True)
    blobs.mkdir()
    names = {"red apple.png": 1, "pear.png": 2}
    for name, seed in names.items():
        write_image(tmp_path / name, seed).rename(blobs / f"{seed:064x}")
        (snapshot / name).symlink_to(Path("../../blobs") / f"{seed:064x}")
    (blobs / "f").write_text('{"file_name": "pear.png", "text": "a green pear"}\n')
    (snapshot / "metadata.jsonl").symlink_to("../../blobs/f")
    secret = write_image(tmp_path / "secret.png", 3)
    (snapshot / "secret.png").symlink_to(secret)
    data = check(snapshot, IMAGE, strict=False, divide=False)
    assert {row.id: row.reference for row in data.rows} == {
        "red apple": "red apple",
        "pear": "a green pear",
    }
    assert [each.row for each in data.findings if each.severity == "error"] == ["secret"]


def test_a_link_that_is_called_blobs_opens_no_other_folder(tmp_path: Path) -> None:
    snapshot, private = tmp_path / "data/snapshots/0a1b", tmp_path / "private"
    snapshot.mkdir(parents=True)
    private.mkdir()
    secret = write_image(private / "secret.png", 3)
    (tmp_path / "data/blobs").symlink_to(private)
    write_image(snapshot / "apple.png", 1)
    (snapshot / "secret.png").symlink_to(secret)
    data = check(snapshot, IMAGE, strict=False, divide=False)
    assert [row.id for row in data.rows] == ["apple"]
    assert inside(snapshot, snapshot / "secret.png") is None


def test_copies_count_as_rows_for_the_share_that_may_be_bad(tmp_path: Path) -> None:
    """Training accepts 1 bad one of 20, so the splits of these rows are kept."""
    names = "apple pear plum fig lime kiwi date bean leek corn".split()  # noqa: SIM905
    for i, name in enumerate(names):
        write_image(tmp_path / f"{name}.png", i)
        shutil.copy(tmp_path / f"{name}.png", tmp_path / f"{name[::-1]}.png")
    (tmp_path / "apple.png").write_bytes(b"\x89PNG")
    data = check(tmp_path, IMAGE, DataOptions(max_bad=0.06), record=True)
    assert (len(data.quarantined), len(data.withheld)) == (1, 9)
    assert data.bad <= 0.06
    assert (tmp_path / "mmtune-splits.jsonl").is_file()
    assert any(line.startswith("9 rows are left out") for line in remarks(data))
