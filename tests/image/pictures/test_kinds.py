"""Kinds of picture files: grey TIFFs by TIFF 6.0, orientation, pages, SVG, and what isn't one."""

from __future__ import annotations

import resource
import struct
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mmtune.image.corpus.check_picture import check_rows, inspect
from mmtune.image.diffusion.stages import scale_and_crop
from mmtune.image.image_row import ImageRow
from mmtune.image.pictures.pixels import ImageFault, open_image, upright_size
from mmtune.system.hashing import hash_file
from tests.data.pieces import picture


def tiff(order: str, bits: int, photometric: int, values: list[float], kind: int = 1) -> bytes:
    """A TIFF of one line of grey, without compression."""
    codes = {(8, 1): "B", (16, 1): "H", (16, 2): "h", (32, 1): "I", (32, 2): "i", (32, 3): "f"}
    if (code := codes.get((bits, kind))) is not None:
        data = struct.pack(f"{order}{len(values)}{code}", *values)
    else:
        digits = "".join(f"{int(value):0{bits}b}" for value in values)
        digits += "0" * (-len(digits) % 8)
        data = bytes(int(digits[i : i + 8], 2) for i in range(0, len(digits), 8))
    tags = [(256, 3, len(values)), (257, 3, 1), (258, 3, bits), (259, 3, 1), (262, 3, photometric),
            (273, 4, 8 + 2 + 12 * 10 + 4), (277, 3, 1), (278, 3, 1), (279, 4, len(data)),
            (339, 3, kind)]  # fmt: skip
    head = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(order + "I", 8)
    table = struct.pack(order + "H", len(tags))
    for tag, form, value in tags:
        field = struct.pack(order + ("Hxx" if form == 3 else "I"), value)
        table += struct.pack(order + "HHI", tag, form, 1) + field
    return head + table + struct.pack(order + "I", 0) + data


DEPTHS = [(1, 1), (2, 1), (4, 1), (8, 1), (12, 1), (16, 1), (32, 1), (16, 2), (32, 2), (32, 3)]
# Pillow knows no 12 bits and no 32 unsigned ones of the other byte order.
UNKNOWN = {(">", 12, 1), (">", 32, 1)}


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("photometric", [0, 1], ids=["white is zero", "black is zero"])
@pytest.mark.parametrize(("bits", "kind"), DEPTHS)
def test_grey_of_any_depth(
    tmp_path: Path, order: str, photometric: int, bits: int, kind: int
) -> None:
    low, high = (0.0, 1.0) if kind == 3 else (0, 2**bits - 1)
    if kind == 2:
        low, high = -(2 ** (bits - 1)), 2 ** (bits - 1) - 1
    path = tmp_path / "a.tif"
    path.write_bytes(tiff(order, bits, photometric, [low, high, low, high], kind))
    if (order, bits, kind) in UNKNOWN:
        with pytest.raises(ImageFault, match="TIFF in a layout of pixels that can't be read"):
            open_image(path)
        return
    wanted = [0, 255, 0, 255] if photometric else [255, 0, 255, 0]
    assert np.asarray(open_image(path))[0, :, 0].tolist() == wanted


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize(
    ("suffix", "options"),
    [
        ("tif", {}),
        ("tif", {"compression": "tiff_lzw"}),
        ("tif", {"compression": "jpeg"}),
        ("jpg", {}),
        ("png", {}),
        ("webp", {}),
        ("avif", {}),
    ],
)
def test_the_size_of_the_header_is_the_upright_one(
    tmp_path: Path, suffix: str, options: dict[str, str], orientation: int
) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = tmp_path / f"a.{suffix}"
    Image.new("RGB", (96, 48), "red").save(path, exif=exif, **options)
    wanted = (48, 96) if orientation >= 5 else (96, 48)
    assert upright_size(path) == open_image(path).size == wanted


def found(path: Path, background: str = "#ffffff") -> list[str]:
    row = ImageRow(id="r", image=str(path), caption="words")
    seen = inspect(row)
    later = check_rows([row], [seen], background=background) if seen.content else []
    return [each.kind for each in [*seen.findings, *later]]


MANY = {
    "tif": ({"save_all": True}, "pages"),
    "png": ({"save_all": True}, "animated"),
    "gif": ({"save_all": True}, "animated"),
    "webp": ({"save_all": True}, "animated"),
    "avif": ({"save_all": True}, "animated"),
}


@pytest.mark.parametrize("suffix", MANY)
def test_the_first_of_many_images_is_named(tmp_path: Path, suffix: str) -> None:
    options, kind = MANY[suffix]
    first, *more = (picture(seed, (32, 32)).quantize(8).convert("RGB") for seed in range(3))
    first.save(tmp_path / f"a.{suffix}", append_images=more, **options)
    assert found(tmp_path / f"a.{suffix}") == [kind]
    near = np.asarray(open_image(tmp_path / f"a.{suffix}")).astype(int) - np.asarray(first)
    assert np.abs(near).mean() < 40


NAMED = {
    "pointer of Git LFS": (b"version https://git-lfs.github.com/spec/v1\noid sha256:00\n", "lfs"),
    "pointer of git-annex": (b"/annex/objects/SHA256E-s1--00.png\n", "lfs"),
    "web page": (b"<!DOCTYPE html><html></html>", "undecodable"),
    "PDF document": (b"%PDF-1.7\n", "undecodable"),
    "Photoshop document": (b"8BPS\0\1", "undecodable"),
    "HEIC image": (b"\0\0\0\x18ftypheic\0\0\0\0", "undecodable"),
    "JPEG XL image": (b"\xff\x0a\0\0", "undecodable"),
    "SVG drawing": (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "undecodable"),
    "archive": (b"PK\x03\x04", "undecodable"),
    "JSON": (b'{"error": "not found"}', "undecodable"),
}


@pytest.mark.parametrize("what", NAMED)
def test_what_is_no_picture_is_called_by_name(tmp_path: Path, what: str) -> None:
    data, kind = NAMED[what]
    (tmp_path / "a.png").write_bytes(data)
    with pytest.raises(ImageFault, match=what) as caught:
        open_image(tmp_path / "a.png")
    assert caught.value.kind.startswith(kind)


@pytest.mark.parametrize("suffix", ["jfif", "jpe", "apng", "dib"])
def test_other_suffixes_of_known_formats(tmp_path: Path, suffix: str) -> None:
    from mmtune.image.corpus.folders import image_files

    format_ = {"jfif": "JPEG", "jpe": "JPEG", "apng": "PNG", "dib": "BMP"}[suffix]
    picture(0).save(tmp_path / f"red apple.{suffix}", format_)
    assert [name for name, _ in image_files(tmp_path).rows] == ["red apple"]
    assert open_image(tmp_path / f"red apple.{suffix}").size == (48, 32)


def test_a_drawing(tmp_path: Path) -> None:
    pytest.importorskip("resvg_py")
    path = tmp_path / "a.svg"
    shape = "<rect width='20' height='40' fill='#c83c3c'/>"
    head = "<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 20 40'"
    path.write_text(f"{head}>{shape}</svg>")
    assert upright_size(path) == (512, 1024)
    assert open_image(path).getpixel((100, 100)) == (200, 60, 60)
    for bad in (
        "<svg/>",
        "<html/>",
        "",
        f"{head}><image href='/etc/passwd'/></svg>",
        f"{head} width='1' height='9999'>{shape}</svg>",
    ):
        for encoding in ("utf-8", "utf-8-sig", "utf-16"):
            path.write_text(bad, encoding=encoding)
            with pytest.raises(ImageFault):
                open_image(path)
    path.write_text(f"{head}>{shape}</svg>", encoding="utf-16")
    assert open_image(path).getpixel((100, 100)) == (200, 60, 60)


GREY_ICONS = [
    ("white", "#ffffff", True),
    ("white", "#000000", False),
    ("#fdfdfd", "#ffffff", True),
    ("black", "#000000", True),
    ("black", "#ffffff", False),
]


@pytest.mark.parametrize(
    ("colour", "background", "is_blank", "mode"),
    [
        *((*icon, mode) for icon in GREY_ICONS for mode in ("RGBA", "LA", "P")),
        *(("#102030", "#102030", True, mode) for mode in ("RGBA", "P")),
    ],
)
def test_blank_is_judged_on_what_is_trained(
    tmp_path: Path, colour: str, background: str, is_blank: bool, mode: str
) -> None:
    icon = Image.new("RGBA", (32, 32), (90, 0, 0, 0))
    icon.paste(Image.new("RGBA", (12, 20), colour), (4, 6))
    icon.convert(mode).save(tmp_path / "a.png")
    assert ("blank" in found(tmp_path / "a.png", background)) is is_blank


@pytest.mark.parametrize(
    ("name", "is_anew"),
    [("plain.png", False), ("grey.tif", True), ("lying.tif", True), ("lying.jpg", False),
     ("adobe.jpg", True), ("plain.tif", False)],
)  # fmt: skip
def test_only_what_is_read_anew_has_another_hash(tmp_path: Path, name: str, is_anew: bool) -> None:
    path, exif = tmp_path / name, Image.Exif()
    if name.startswith("lying"):
        exif[0x0112] = 6
    if name.startswith("adobe"):
        exif.get_ifd(0x8769)[0xA001] = 2
    picture(0).save(path, exif=exif)
    if name == "grey.tif":
        path.write_bytes(tiff("<", 16, 0, [0, 3, 65_535]))
    content = inspect(ImageRow(id="r", image=str(path), caption="words")).content
    assert (content != hash_file(path)) is is_anew


def test_a_picture_of_transparency_alone_is_blank(tmp_path: Path) -> None:
    noise = picture(0)
    noise.putalpha(0)
    noise.save(tmp_path / "a.png")
    assert found(tmp_path / "a.png") == ["blank"]


def test_a_strip_costs_what_its_crop_costs() -> None:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for size in ((12, 12_000), (12_000, 12)):
        cut, ids = scale_and_crop(picture(0, size), 512)
        assert cut.size == (512, 512)
        assert ids[4:] == [512, 512]
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 60_000  # KiB


@pytest.mark.parametrize("size", [(300, 200), (200, 300), (64, 64), (31, 190), (500, 80)])
def test_a_crop_is_that_of_the_whole_image(size: tuple[int, int]) -> None:
    image = picture(1, (12, 9)).resize(size, Image.Resampling.BICUBIC)
    scale = max(96 / size[0], 64 / size[1])
    width, height = (max(n, round(s * scale)) for n, s in zip((96, 64), size, strict=True))
    left, top = (width - 96) // 2, (height - 64) // 2
    whole = image.resize((width, height), Image.Resampling.LANCZOS)
    wanted = np.asarray(whole.crop((left, top, left + 96, top + 64))).astype(int)
    assert np.abs(np.asarray(scale_and_crop(image, (64, 96))[0]) - wanted).max() <= 2
