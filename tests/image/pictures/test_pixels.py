"""Pixels of files as cameras, printers and drawing programs write them, against known values."""

from __future__ import annotations

import io
import struct
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageCms

from mmtune.errors import ConfigError
from mmtune.image.diffusion.stages import LatentStage
from mmtune.image.image_options import ImageOptions
from mmtune.image.pictures.picture import Picture
from mmtune.image.pictures.pixels import open_image
from mmtune.prefix.stage import Part
from mmtune.runs.recipes import configure
from tests.data.pieces import picture
from tests.faults.files import png, png_chunk
from tests.image import tiny

# Primaries adapted to D50 (columns are red, green, blue), as Adobe RGB (1998) and sRGB state them.
ADOBE = ((0.60974, 0.20528, 0.14919), (0.31111, 0.62567, 0.06322), (0.01947, 0.06087, 0.74457))
SRGB = ((0.43607, 0.38515, 0.14307), (0.22249, 0.71687, 0.06061), (0.01392, 0.09708, 0.71410))
WHITE = (0.96420, 1.0, 0.82491)


def icc(kind: bytes, space: bytes, connection: bytes, tags: dict[bytes, bytes]) -> bytes:
    """An ICC profile (ICC.1:2001-04) of its parts."""
    name = b"desc\0\0\0\0" + struct.pack(">I", 5) + b"test\0" + bytes(78)
    tags = {b"desc": name, b"cprt": b"text\0\0\0\0none\0", b"wtpt": xyz(WHITE), **tags}
    table, body, place = struct.pack(">I", len(tags)), b"", 128 + 4 + 12 * len(tags)
    for key, data in tags.items():
        table += key + struct.pack(">II", place + len(body), len(data))
        body += data + bytes(-len(data) % 4)
    head = struct.pack(">I4sI4s4s4s", 0, b"", 0x02400000, kind, space, connection)
    head += struct.pack(">6H4s", 2026, 1, 1, 0, 0, 0, b"acsp") + bytes(28) + xyz(WHITE)[8:]
    head = head.ljust(128, b"\0")
    size = len(head) + len(table) + len(body)
    return struct.pack(">I", size) + head[4:] + table + body


def xyz(values: tuple[float, ...]) -> bytes:
    return b"XYZ \0\0\0\0" + b"".join(struct.pack(">i", round(v * 65_536)) for v in values)


def profile(gamma: float, primaries: tuple[tuple[float, ...], ...] | None = None) -> bytes:
    """A profile of one gamma: of RGB with primaries, of grey without."""
    curve = b"curv\0\0\0\0" + struct.pack(">IH", 1, round(gamma * 256)) + b"\0\0"
    if primaries is None:
        return icc(b"mntr", b"GRAY", b"XYZ ", {b"kTRC": curve})
    tags = {}
    for band, letter in enumerate(b"rgb"):
        tags[bytes([letter]) + b"XYZ"] = xyz(tuple(line[band] for line in primaries))
        tags[bytes([letter]) + b"TRC"] = curve
    return icc(b"mntr", b"RGB ", b"XYZ ", tags)


def press(inks: dict[tuple[int, ...], tuple[int, int, int]]) -> bytes:
    """A CMYK profile that is a table of 2x2x2x2 Lab colours; those not given are black."""
    even = bytes(range(256))
    unit = b"".join(struct.pack(">i", 65_536 * (i % 4 == 0)) for i in range(9))
    table = b""
    for corner in np.ndindex(2, 2, 2, 2):
        light, a, b = inks.get(corner, (0, 0, 0))
        table += bytes([round(light * 2.55), a + 128, b + 128])
    lut = b"mft1\0\0\0\0" + bytes([4, 3, 2, 0]) + unit + even * 4 + table + even * 3
    return icc(b"prtr", b"CMYK", b"Lab ", {b"A2B0": lut})


def lab_to_srgb(lab: tuple[int, int, int]) -> np.ndarray:
    """CIE 1976 L*a*b* of D50 in sRGB."""
    y = (lab[0] + 16) / 116
    f = np.array([y + lab[1] / 500, y, y - lab[2] / 200])
    light = np.where(f > 6 / 29, f**3, 3 * (6 / 29) ** 2 * (f - 4 / 29)) * np.array(WHITE)
    return encoded(np.linalg.solve(np.array(SRGB), light))


def encoded(linear: np.ndarray) -> np.ndarray:
    """Linear light to sRGB's 0 to 255 (IEC 61966-2-1)."""
    low = linear * 12.92
    high = 1.055 * np.clip(linear, 0, None) ** (1 / 2.4) - 0.055
    return 255 * np.clip(np.where(linear <= 0.0031308, low, high), 0, 1)


def adobe_to_srgb(pixel: tuple[int, ...]) -> np.ndarray:
    light = (np.array(pixel) / 255) ** (563 / 256)
    return encoded(np.linalg.solve(np.array(SRGB), np.array(ADOBE) @ light))


ADOBE_RGB = profile(563 / 256, ADOBE)
COLOURS = [(200, 60, 60), (90, 120, 200), (60, 160, 90), (128, 128, 128), (255, 255, 255)]


@pytest.mark.parametrize("suffix", ["png", "jpg", "webp", "tif"])
@pytest.mark.parametrize("colour", COLOURS)
def test_a_wide_gamut_becomes_srgb(tmp_path: Path, suffix: str, colour: tuple[int, ...]) -> None:
    options = {"jpg": {"quality": 100}, "webp": {"lossless": True}}.get(suffix, {})
    path = tmp_path / f"a.{suffix}"
    image = Image.new("RGB", (16, 16), colour)
    image.save(path, icc_profile=ADOBE_RGB, **options)
    found = np.asarray(open_image(path)).reshape(-1, 3)
    with Image.open(path) as stored:
        stored.load()
        theirs = ImageCms.profileToProfile(
            stored, io.BytesIO(ADOBE_RGB), ImageCms.createProfile("sRGB")
        )
    assert np.array_equal(found, np.asarray(theirs).reshape(-1, 3))
    assert found.mean(0) == pytest.approx(adobe_to_srgb(colour), abs=2)
    if colour[0] != colour[1]:
        assert np.abs(found.mean(0) - colour).max() > 5, "the numbers were taken as they are"


def test_a_profile_of_a_palette_and_of_transparent_pixels(tmp_path: Path) -> None:
    wanted = adobe_to_srgb((200, 60, 60))
    palette = Image.new("P", (4, 4), 1)
    palette.putpalette([0, 0, 0, 200, 60, 60])
    palette.save(tmp_path / "p.png", icc_profile=ADOBE_RGB)
    assert np.asarray(open_image(tmp_path / "p.png")).mean((0, 1)) == pytest.approx(wanted, abs=2)
    image = Image.new("RGBA", (4, 4), (200, 60, 60, 255))
    image.putpixel((0, 0), (200, 60, 60, 0))
    image.save(tmp_path / "a.png", icc_profile=ADOBE_RGB)
    found = open_image(tmp_path / "a.png", "#102030")
    assert found.getpixel((0, 0)) == (16, 32, 48), "the background is sRGB already"
    assert found.getpixel((1, 1)) == pytest.approx(tuple(wanted), abs=2)


def test_grey_profiles(tmp_path: Path) -> None:
    linear = profile(1.0)
    wanted = encoded(np.array([128 / 255]))[0]
    assert wanted > 180
    Image.new("L", (4, 4), 128).save(tmp_path / "l.png", icc_profile=linear)
    assert np.asarray(open_image(tmp_path / "l.png")) == pytest.approx(wanted, abs=1)
    half = Image.new("LA", (4, 4), (128, 255))
    half.putpixel((0, 0), (128, 0))
    half.save(tmp_path / "la.png", icc_profile=linear)
    found = open_image(tmp_path / "la.png", "black")
    assert found.getpixel((0, 0)) == (0, 0, 0)
    assert found.getpixel((1, 1)) == pytest.approx((wanted,) * 3, abs=1)
    Image.fromarray(np.full((4, 4), 32_896, np.uint16)).save(
        tmp_path / "deep.png", icc_profile=linear
    )
    assert np.asarray(open_image(tmp_path / "deep.png")) == pytest.approx(wanted, abs=1)
    # A grey picture that kept the profile of its camera's colours.
    Image.new("L", (4, 4), 128).save(tmp_path / "kept.jpg", icc_profile=ADOBE_RGB, quality=100)
    kept = adobe_to_srgb((128,) * 3)
    assert np.asarray(open_image(tmp_path / "kept.jpg")).mean((0, 1)) == pytest.approx(kept, abs=2)


def test_a_profile_of_other_colours_changes_nothing(tmp_path: Path) -> None:
    for name, image, other in (
        ("a.tif", Image.new("CMYK", (4, 4), (0, 255, 255, 0)), ADOBE_RGB),
        ("a.png", Image.new("RGB", (4, 4), (200, 60, 60)), profile(1.0)),
    ):
        image.save(tmp_path / name, icc_profile=other)
        assert np.array_equal(np.asarray(open_image(tmp_path / name)), image.convert("RGB"))


@pytest.mark.parametrize("name", ["a.jpg", "a.tif"])
def test_ink_becomes_light(tmp_path: Path, name: str) -> None:
    inks = {(0, 0, 0, 0): (255, 255, 255), (0, 255, 255, 0): (255, 0, 0), (0, 0, 0, 255): (0, 0, 0)}
    for ink, light in inks.items():
        Image.new("CMYK", (16, 16), ink).save(tmp_path / name)
        assert open_image(tmp_path / name).getpixel((8, 8)) == pytest.approx(light, abs=2)


@pytest.mark.parametrize("name", ["a.jpg", "a.tif"])
def test_ink_of_a_press_becomes_what_its_profile_says(tmp_path: Path, name: str) -> None:
    inks = {(1, 1, 0, 0): (30, 20, -45), (0, 1, 1, 0): (50, 55, 40), (1, 0, 0, 0): (60, -30, -35)}
    paper = press(inks)
    for ink, lab in inks.items():
        image = Image.new("CMYK", (16, 16), tuple(255 * part for part in ink))
        image.save(tmp_path / name, icc_profile=paper)
        found = open_image(tmp_path / name).getpixel((8, 8))
        assert found == pytest.approx(tuple(lab_to_srgb(lab)), abs=3)
        assert np.abs(np.subtract(found, image.convert("RGB").getpixel((8, 8)))).max() > 8


def test_sixteen_bits_of_colour_and_a_grey_that_is_a_hole(tmp_path: Path) -> None:
    values = np.array([[0, 0x80FF, 0xFFFF]], dtype=">u2")
    (tmp_path / "rgb.png").write_bytes(png(1, 1, 16, 2, b"\0" + values.tobytes()))
    assert open_image(tmp_path / "rgb.png").getpixel((0, 0)) == pytest.approx((0, 129, 255), abs=1)
    rgba = np.array([[0xFFFF, 0, 0, 0x8000]], dtype=">u2")
    (tmp_path / "rgba.png").write_bytes(png(1, 1, 16, 6, b"\0" + rgba.tobytes()))
    found = open_image(tmp_path / "rgba.png", "#0000ff").getpixel((0, 0))
    assert found == pytest.approx((128, 0, 127), abs=1)
    hole = png_chunk(b"tRNS", struct.pack(">H", 0x8000))
    grey = np.array([[0x8000, 0x8001]], dtype=">u2")
    (tmp_path / "hole.png").write_bytes(png(2, 1, 16, 0, b"\0" + grey.tobytes(), hole))
    pixels = np.asarray(open_image(tmp_path / "hole.png", "red"))
    assert pixels.tolist() == [[[255, 0, 0], [128, 128, 128]]]


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P", "PA", "RGBa", "La", "L", "RGB"])
def test_what_is_transparent_shows_the_background(tmp_path: Path, mode: str) -> None:
    alpha = np.array([[0, 255, 51]], dtype=np.uint8)
    grey = np.full((1, 3), 100, np.uint8)
    if mode == "P":
        image = Image.fromarray(np.array([[0, 1, 2]], np.uint8), "P")
        image.putpalette([100] * 9)
        image.save(tmp_path / "a.png", transparency=bytes(alpha[0]))
        found = open_image(tmp_path / "a.png", "#00ff00")
    elif mode in ("L", "RGB"):  # one value that stands for nothing
        image = Image.fromarray(np.array([[7, 100, 80]], np.uint8)).convert(mode)
        image.save(tmp_path / "a.png", transparency=7 if mode == "L" else (7, 7, 7))
        found = open_image(tmp_path / "a.png", "#00ff00")
        assert np.asarray(found).tolist() == [[[0, 255, 0], [100] * 3, [80] * 3]]
        return
    else:
        rgba = Image.fromarray(np.dstack([grey, grey, grey, alpha]))
        whole = {"RGBa": "RGBA", "La": "LA"}.get(mode, mode)
        found = Picture(rgba.convert(whole).convert(mode)).flattened("#00ff00")
    wanted = [[0, 255, 0], [100, 100, 100], [20, 224, 20]]
    assert np.asarray(found)[0].tolist() == [pytest.approx(w, abs=3) for w in wanted]


@pytest.mark.parametrize("suffix", ["png", "jpg", "webp", "tif"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_every_orientation_stands_up(tmp_path: Path, suffix: str, orientation: int) -> None:
    pixels = np.zeros((32, 64, 3), np.uint8)
    pixels[:16, :32], pixels[:16, 32:], pixels[16:, :32] = (250, 0, 0), (0, 250, 0), (0, 0, 250)
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = tmp_path / f"a.{suffix}"
    Image.fromarray(pixels).save(path, exif=exif)
    # What Exif 2.3 says of the 0th row and the 0th column, in numpy's words.
    turned = {
        1: pixels,
        2: pixels[:, ::-1],
        3: pixels[::-1, ::-1],
        4: pixels[::-1],
        5: pixels.transpose(1, 0, 2),
        6: np.rot90(pixels, -1),
        7: pixels[::-1, ::-1].transpose(1, 0, 2),
        8: np.rot90(pixels, 1),
    }[orientation]
    found = np.asarray(open_image(path)).astype(int)
    assert found.shape == turned.shape
    assert np.abs(found - turned).mean() < 12
    with Image.open(path) as image:
        small = np.asarray(Picture(image).thumbnail(2)).astype(int)
    height, width = turned.shape[:2]
    middles = turned[height // 4 :: height // 2, width // 4 :: width // 2]
    assert np.abs(small - middles).mean() < 12


@pytest.mark.parametrize("suffix", ["png", "jpg", "webp"])
def test_the_three_common_formats_agree(tmp_path: Path, suffix: str) -> None:
    image = picture(0, (64, 64)).resize((16, 16)).resize((64, 64))
    options = {"jpg": {"quality": 100, "subsampling": 0}, "webp": {"lossless": True}}
    image.save(tmp_path / f"a.{suffix}", **options.get(suffix, {}))
    found = np.asarray(open_image(tmp_path / f"a.{suffix}")).astype(int)
    assert np.abs(found - np.asarray(image)).max() <= (6 if suffix == "jpg" else 0)


def test_the_background_is_a_setting_and_in_the_cache_s_key(tmp_path: Path) -> None:
    assert ImageOptions().background == ImageOptions(background="white").background == "#ffffff"
    assert ImageOptions(background="rgb(0, 0, 255)").background == "#0000ff"
    base = tiny.loaded("sd")
    white, blue = LatentStage(base, 32), LatentStage(base, 32, background="#0000ff")
    usual = LatentStage(base, 32, background=ImageOptions().background)
    assert white.fingerprint == usual.fingerprint
    assert white.fingerprint != blue.fingerprint
    Image.new("RGBA", (32, 32), (255, 0, 0, 0)).save(tmp_path / "a.png")
    from mmtune.image.image_row import ImageRow

    row = ImageRow(id="a", image=str(tmp_path / "a.png"), caption="nothing")
    on_white, on_blue = (s.encode([Part("latent", "x", origin=row)])[0] for s in (white, blue))
    assert not torch.equal(on_white["mean"], on_blue["mean"])
    Image.new("RGB", (32, 32), "blue").save(tmp_path / "a.png")
    assert torch.equal(white.encode([Part("latent", "y", origin=row)])[0]["mean"], on_blue["mean"])


@pytest.mark.parametrize("colour", ["octarine", "#ffffff00", "12", ""])
def test_a_background_that_is_no_colour(colour: str) -> None:
    values = {"recipe": "r", "modality": "image", "base": "starter:icons"}
    with pytest.raises(ConfigError, match="background"):
        configure(values | {"task": {"background": colour}}, "r.yaml", {})
