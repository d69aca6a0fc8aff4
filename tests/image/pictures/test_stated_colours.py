"""Colours that a file states without an ICC profile, against Chromium; PNG files with bad metadata.

The expected pixels are those of a canvas in Chromium 156.0.8078.108 (`--force-color-profile=srgb`)
with the same files; those of Adobe RGB by Exif are ImageCms' with the profile applied.
"""

from __future__ import annotations

import io
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageCms

from mmtune.image.corpus.check_picture import inspect
from mmtune.image.image_row import ImageRow
from mmtune.image.pictures.pixels import ImageFault, open_image, upright_size
from tests.faults.files import png, png_chunk
from tests.image.pictures.test_pixels import ADOBE_RGB

COLOURS = [(200, 60, 60), (90, 120, 200), (60, 160, 90), (128, 128, 128), (10, 20, 30), (255,) * 3]
SRGB_XY = (31270, 32900, 64000, 33000, 30000, 60000, 15000, 6000)
ADOBE_XY = (31270, 32900, 64000, 33000, 21000, 71000, 15000, 6000)
P3_XY = (31270, 32900, 68000, 32000, 26500, 69000, 15000, 6000)
PIXELS = b"\0" + bytes(value for colour in COLOURS for value in colour)


def gama(value: int) -> bytes:
    return png_chunk(b"gAMA", struct.pack(">I", value))


def chrm(places: tuple[int, ...]) -> bytes:
    return png_chunk(b"cHRM", struct.pack(">8I", *places))


def cicp(*numbers: int) -> bytes:
    return png_chunk(b"cICP", bytes((*numbers, 0, 1)[:4]))


P3 = [(217, 42, 52), (81, 121, 206), (0, 163, 82), (128, 128, 128), (7, 20, 31), (255,) * 3]
LINEAR = [(229, 133, 133), (160, 183, 229), (133, 208, 160), (188,) * 3, (56, 79, 96), (255,) * 3]
POWER = [(201, 57, 57), (90, 121, 201), (57, 161, 90), (129,) * 3, (3, 12, 24), (255,) * 3]
CHROMIUM: dict[str, tuple[bytes, list[tuple[int, ...]]]] = {
    "nothing": (b"", COLOURS),
    "gAMA of sRGB": (gama(45_455), COLOURS),
    "gAMA and cHRM of sRGB": (gama(45_455) + chrm(SRGB_XY), POWER),
    "gAMA 1": (gama(100_000), LINEAR),
    "gAMA 1/1.8": (
        gama(55_556),
        [(210, 77, 77), (109, 139, 210), (77, 176, 109), (146,) * 3, (10, 26, 40), (255,) * 3],
    ),
    "gAMA and cHRM of Adobe RGB": (
        gama(45_455) + chrm(ADOBE_XY),
        [(231, 57, 57), (72, 121, 204), (0, 161, 85), (129,) * 3, (0, 12, 24), (255,) * 3],
    ),
    "cHRM alone": (chrm(P3_XY), COLOURS),
    "gAMA 1/1.8 and cHRM of P3": (
        gama(55_556) + chrm(P3_XY),
        [(228, 63, 71), (101, 140, 216), (0, 178, 102), (146,) * 3, (4, 26, 41), (255,) * 3],
    ),
    "sRGB before gAMA": (png_chunk(b"sRGB", b"\0") + gama(100_000) + chrm(P3_XY), COLOURS),
    "cICP of sRGB": (cicp(1, 13), COLOURS),
    "cICP of P3": (cicp(12, 13), P3),
    "cICP before gAMA": (gama(100_000) + cicp(12, 13), P3),
    "cICP of BT.2020": (
        cicp(9, 14),
        [(244, 0, 40), (0, 115, 204), (0, 163, 68), (121,) * 3, (0, 8, 19), (255,) * 3],
    ),
    "cICP of BT.709": (
        cicp(1, 1),
        [(197, 49, 49), (81, 113, 197), (49, 155, 81), (121,) * 3, (1, 7, 18), (255,) * 3],
    ),
    "cICP of BT.2020 and sRGB": (
        cicp(9, 13),
        [(247, 0, 53), (36, 122, 207), (0, 168, 79), (128,) * 3, (0, 21, 31), (255,) * 3],
    ),
    "cICP of light": (cicp(1, 8), LINEAR),
    "cICP of gamma 2.2": (cicp(1, 4), POWER),
    "cICP of gamma 2.8": (
        cicp(1, 5),
        [(189, 36, 36), (66, 98, 189), (36, 142, 66), (106,) * 3, (0, 3, 8), (255,) * 3],
    ),
    "cICP of DCI-P3": (
        cicp(11, 13),
        [(212, 42, 53), (84, 121, 206), (0, 163, 82), (128,) * 3, (8, 20, 31), (255,) * 3],
    ),
    "cICP unspecified": (cicp(2, 2), COLOURS),
    "cICP of video's range": (cicp(12, 13, 0, 0), COLOURS),
}


@pytest.mark.parametrize("name", CHROMIUM)
def test_a_png_has_chromium_s_colours(tmp_path: Path, name: str) -> None:
    chunks, wanted = CHROMIUM[name]
    (tmp_path / "a.png").write_bytes(png(6, 1, 8, 2, PIXELS, chunks))
    found = np.asarray(open_image(tmp_path / "a.png"))[0].astype(int)
    assert np.abs(found - np.array(wanted)).max() <= 1


GREYS: dict[str, tuple[bytes, list[int]]] = {
    "grey, gAMA 1": (png(4, 1, 8, 0, b"\0\0\x40\x80\xff", gama(100_000)), [0, 137, 188, 255]),
    "grey of 16 bits, gAMA 1": (
        png(4, 1, 16, 0, b"\0" + struct.pack(">4H", 0, 16448, 32896, 65535), gama(100_000)),
        [0, 137, 188, 255],
    ),
    "grey of 2 bits with a hole": (
        png(4, 1, 2, 0, b"\0\x1b", png_chunk(b"tRNS", b"\0\1")),
        [0, 9, 170, 255],
    ),
    "grey of 4 bits with a hole": (
        png(4, 1, 4, 0, b"\0\x03\x8f", png_chunk(b"tRNS", b"\0\3")),
        [0, 9, 136, 255],
    ),
    "black and white with a hole": (
        png(4, 1, 1, 0, b"\0\x50", png_chunk(b"tRNS", b"\0\0")),
        [9, 255, 9, 255],
    ),
}


@pytest.mark.parametrize("name", GREYS)
def test_a_grey_png_has_chromium_s_values(tmp_path: Path, name: str) -> None:
    data, wanted = GREYS[name]
    (tmp_path / "a.png").write_bytes(data)
    found = np.asarray(open_image(tmp_path / "a.png", "#090909"))[0, :, 1]
    assert found.tolist() == pytest.approx(wanted, abs=1)


BOXES: dict[tuple[int, int], list[tuple[int, ...]]] = {
    (1, 13): COLOURS,
    (12, 13): P3,
    (1, 1): COLOURS,
    (12, 1): P3,
    (1, 8): LINEAR,
    (2, 2): COLOURS,
    (9, 14): [(247, 0, 53), (31, 122, 206), (0, 169, 76), (128,) * 3, (0, 21, 30), (255,) * 3],
}


@pytest.mark.parametrize("points", BOXES)
def test_an_avif_has_chromium_s_colours(tmp_path: Path, points: tuple[int, int]) -> None:
    stripes = np.repeat(np.array(COLOURS, np.uint8), 16, axis=0)[None].repeat(16, axis=0)
    path = tmp_path / "a.avif"
    Image.fromarray(stripes).save(path, quality=100, subsampling="4:4:4")
    data = bytearray(path.read_bytes())
    place = data.index(b"colrnclx") + 8
    data[place : place + 4] = struct.pack(">HH", *points)
    path.write_bytes(data)
    found = np.asarray(open_image(path))[8, 8::16].astype(int)
    assert np.abs(found - np.array(BOXES[points])).max() <= 8  # of lossy pixels


@pytest.mark.parametrize("transfer", [16, 18])
def test_hdr_is_refused_by_name(tmp_path: Path, transfer: int) -> None:
    (tmp_path / "a.png").write_bytes(png(6, 1, 8, 2, PIXELS, cicp(9, transfer)))
    with pytest.raises(ImageFault, match=r"HDR \((PQ|HLG)\)") as caught:
        open_image(tmp_path / "a.png")
    assert caught.value.kind == "hdr"


def exif_of(space: int | None, interop: str = "", **more: object) -> Image.Exif:
    exif = Image.Exif()
    own = exif.get_ifd(0x8769)
    if space is not None:
        own[0xA001] = space
    if interop:
        own[0xA005] = {1: interop}
    if more:
        own[0xA500] = 2.2
        exif[0x13E] = (0.3127, 0.329)
        exif[0x13F] = (0.64, 0.33, 0.21, 0.71, 0.15, 0.06)
    return exif


EXIF = [
    (exif_of(2), True),
    (exif_of(65_535, "R03"), True),
    (exif_of(None, "R03"), True),
    (exif_of(65_535, primaries=True), True),
    (exif_of(1, "R98"), False),
    (exif_of(1, "R03"), False),
    (exif_of(65_535), False),
]


@pytest.mark.parametrize(
    ("exif", "is_adobe", "suffix"),
    [
        (exif, is_adobe, suffix)
        for exif, is_adobe in EXIF
        for suffix in ("jpg", "png", "webp", "tif")
        # Pillow writes no interoperability index into a TIFF.
        if suffix != "tif" or 0xA005 not in exif.get_ifd(0x8769)
    ],
)
def test_adobe_rgb_by_exif(tmp_path: Path, exif: Image.Exif, is_adobe: bool, suffix: str) -> None:
    image = Image.new("RGB", (16, 16), COLOURS[0])
    options = {"jpg": {"quality": 100, "subsampling": 0}, "webp": {"lossless": True}}
    image.save(tmp_path / f"a.{suffix}", exif=exif.tobytes(), **options.get(suffix, {}))
    wanted = COLOURS[0]
    if is_adobe:
        profile = ImageCms.ImageCmsProfile(io.BytesIO(ADOBE_RGB))
        wanted = ImageCms.profileToProfile(
            image, profile, ImageCms.createProfile("sRGB")
        ).getpixel((0, 0))  # fmt: skip
    assert open_image(tmp_path / f"a.{suffix}").getpixel((8, 8)) == pytest.approx(wanted, abs=2)


WORDS = b"{" + b'"id": "KSampler", ' * 90_000 + b"}"
PACKED = zlib.compress(WORDS)
ICC = zlib.compress(ADOBE_RGB)


def spoiled(chunk: bytes) -> bytes:
    return chunk[:-4] + b"abcd"


# Chunks before and after the pixels, and whether a finding names the colours.
METADATA: dict[str, tuple[bytes, bytes, bool]] = {
    "zTXt": (png_chunk(b"zTXt", b"workflow\0\0" + PACKED), b"", False),
    "iTXt": (png_chunk(b"iTXt", b"workflow\0\1\0\0\0" + PACKED), b"", False),
    "tEXt": (png_chunk(b"tEXt", b"workflow\0" + WORDS), b"", False),
    "iTXt behind": (b"", png_chunk(b"iTXt", b"workflow\0\1\0\0\0" + PACKED), False),
    "zTXt of another method": (png_chunk(b"zTXt", b"a\0\7" + PACKED), b"", False),
    "text with a wrong sum": (spoiled(png_chunk(b"tEXt", b"a\0b")), b"", False),
    "profile with a wrong sum": (spoiled(png_chunk(b"iCCP", b"a\0\0" + ICC)), b"", True),
    "profile of another method": (png_chunk(b"iCCP", b"a\0\1" + ICC), b"", True),
    "profile cut off": (png_chunk(b"iCCP", b"a\0\0" + ICC[:40]), b"", True),
    "profile of nothing": (png_chunk(b"iCCP", b"a\0\0" + b"garbage" * 9), b"", True),
    "profile without a name": (png_chunk(b"iCCP", b""), b"", True),
    "Exif of nothing": (png_chunk(b"eXIf", b"MM\0*\0\0\0\x08\xff\xff"), b"", False),
    "gAMA cut off": (png_chunk(b"gAMA", b"\0"), b"", False),
    "gAMA 0": (png_chunk(b"gAMA", bytes(4)), b"", False),
    "cHRM of nothing": (gama(45_455) + png_chunk(b"cHRM", bytes(32)), b"", False),
    "an unknown chunk with a wrong sum": (spoiled(png_chunk(b"prVt", b"x")), b"", False),
    "frames out of order": (
        png_chunk(b"acTL", struct.pack(">II", 2, 0)) + png_chunk(b"fcTL", bytes(26)),
        png_chunk(b"fdAT", b"\0\0\0\x09x"),
        False,
    ),
}


@pytest.mark.parametrize("name", METADATA)
def test_metadata_refuses_no_pixels(tmp_path: Path, name: str) -> None:
    before, after, is_named = METADATA[name]
    data = png(6, 1, 8, 2, PIXELS, before)
    end = png_chunk(b"IEND", b"")
    (tmp_path / "a.png").write_bytes(data.removesuffix(end) + after + end)
    found = np.asarray(open_image(tmp_path / "a.png"))[0]
    assert np.abs(found - np.array(COLOURS)).max() <= (10 if "cHRM" in name else 0)
    row = ImageRow(id="a", image=str(tmp_path / "a.png"), caption="words")
    kinds = [each.kind for each in inspect(row).findings]
    assert ("colours" in kinds) is is_named


def test_a_large_profile_is_applied(tmp_path: Path) -> None:
    grown = ADOBE_RGB + bytes(1_300_000)
    grown = struct.pack(">I", len(grown)) + grown[4:]
    chunk = png_chunk(b"iCCP", b"a\0\0" + zlib.compress(grown))
    (tmp_path / "a.png").write_bytes(png(6, 1, 8, 2, PIXELS, chunk))
    found = open_image(tmp_path / "a.png").getpixel((0, 0))
    assert found == pytest.approx((231, 57, 57), abs=2)


def test_orientation_behind_the_pixels(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    chunk = png_chunk(b"eXIf", exif.tobytes().removeprefix(b"Exif\0\0"))
    data, end = png(6, 1, 8, 2, PIXELS), png_chunk(b"IEND", b"")
    (tmp_path / "a.png").write_bytes(data.removesuffix(end) + chunk + end)
    assert upright_size(tmp_path / "a.png") == open_image(tmp_path / "a.png").size == (1, 6)
