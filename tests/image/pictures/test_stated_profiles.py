"""Colour profiles in GIF and BMP, exact transparency of 16-bit PNG, and pixels that aren't numbers.

Profiles are compared with ImageCms, applied to the same colours. GIF: ICC.1:2022, annex B.3; BMP:
BITMAPV4HEADER and BITMAPV5HEADER of wingdi.h; PNG: the specification, section 13.16.
"""

from __future__ import annotations

import io
import struct
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageCms

from mmtune.image.corpus.check_picture import inspect
from mmtune.image.image_row import ImageRow
from mmtune.image.pictures.colour_profiles import ADOBE_PLACES, D65, matrix_profile
from mmtune.image.pictures.pixels import ImageFault, open_image
from mmtune.system.hashing import hash_file
from tests.faults.files import png, png_chunk
from tests.image.pictures.test_pixels import ADOBE_RGB

COLOURS = [(200, 60, 60), (90, 120, 200), (60, 160, 90), (255, 255, 255)]


def applied(profile: bytes) -> list[tuple[int, ...]]:
    line = Image.fromarray(np.array([COLOURS], np.uint8))
    source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
    found = ImageCms.profileToProfile(line, source, ImageCms.createProfile("sRGB"))
    assert found is not None
    return [tuple(map(int, pixel)) for pixel in np.asarray(found)[0]]


def gif(*blocks: bytes, before: bool = True) -> bytes:
    image = Image.fromarray(np.array([COLOURS], np.uint8)).quantize(4)
    buffer = io.BytesIO()
    image.save(buffer, "GIF")
    data = buffer.getvalue()
    table = 13 + 3 * 2 ** ((data[10] & 7) + 1)
    place = table if before else data.rindex(b";")
    return data[:place] + b"".join(blocks) + data[place:]


def application(name: bytes, data: bytes) -> bytes:
    pieces = [data[i : i + 255] for i in range(0, len(data), 255)]
    body = b"".join(bytes([len(piece)]) + piece for piece in pieces)
    return b"!\xff" + bytes([len(name)]) + name + body + b"\0"


COMMENT = b"!\xfe\x02hi\0"
LOOP = application(b"NETSCAPE2.0", b"\x01\0\0")
ICC = b"ICCRGBG1012"
GIFS = {
    "no profile": (gif(COMMENT), COLOURS, ""),
    "a profile": (gif(LOOP, application(ICC, ADOBE_RGB)), applied(ADOBE_RGB), ""),
    "a profile after others": (
        gif(COMMENT, application(b"XMP DataXMP", b"x" * 600), application(ICC, ADOBE_RGB)),
        applied(ADOBE_RGB),
        "",
    ),
    "a profile behind the image": (
        gif(application(ICC, ADOBE_RGB), before=False),
        COLOURS,
        "",
    ),
    "damaged": (gif(application(ICC, b"nothing")), COLOURS, "damaged"),
}


def bmp(
    size: int,
    space: int = 0,
    ends: bytes = bytes(36),
    gamma: float = 0.0,
    profile: bytes = b"",
    place: int | None = None,
) -> bytes:
    pixels = b"".join(bytes(colour[::-1]) for colour in COLOURS)
    head = struct.pack("<IiiHHIIiiII", size, len(COLOURS), 1, 1, 24, 0, len(pixels), 0, 0, 0, 0)
    head += bytes(16) + struct.pack("<I", space) + ends
    head += struct.pack("<3I", *(round(gamma * 2**16),) * 3)
    if size == 124:
        at = size + len(pixels) if place is None else place
        head += struct.pack("<4I", 4, at, len(profile), 0)
    start = 14 + size
    whole = start + len(pixels) + len(profile)
    return b"BM" + struct.pack("<IHHI", whole, 0, 0, start) + head[:size] + pixels + profile


def end_points(places: tuple[float, ...]) -> bytes:
    found = b""
    for x, y in zip(places[2::2], places[3::2], strict=True):
        found += struct.pack("<3i", *(round(v * 2**30) for v in (x, y, 1 - x - y)))
    return found


SRGB, WINDOWS = 0x73524742, 0x57696E20
EMBEDDED, LINKED = 0x4D424544, 0x4C494E4B
ADOBE_22 = matrix_profile(tuple(ADOBE_PLACES), (2.2,))
assert tuple(ADOBE_PLACES[:2]) == D65
BMPS = {
    "V4, sRGB": (bmp(108, SRGB), COLOURS, ""),
    "V4, the system's": (bmp(108, WINDOWS), COLOURS, ""),
    "V4, calibrated without values": (bmp(108), COLOURS, ""),
    "V4, calibrated": (bmp(108, 0, end_points(ADOBE_PLACES), 2.2), applied(ADOBE_22), ""),
    "V4, the inverse gamma": (
        bmp(108, 0, end_points(ADOBE_PLACES), 1 / 2.2),
        applied(ADOBE_22),
        "",
    ),
    "V4, on a line": (bmp(108, 0, struct.pack("<9i", *(1, 1, 1) * 3), 2.2), COLOURS, ""),
    "V5, sRGB": (bmp(124, SRGB), COLOURS, ""),
    "V5, calibrated": (bmp(124, 0, end_points(ADOBE_PLACES), 2.2), applied(ADOBE_22), ""),
    "V5, embedded": (bmp(124, EMBEDDED, profile=ADOBE_RGB), applied(ADOBE_RGB), ""),
    "V5, embedded and cut off": (
        bmp(124, EMBEDDED, profile=ADOBE_RGB, place=300),
        COLOURS,
        "damaged",
    ),
    "V5, linked": (bmp(124, LINKED, profile=b"C:\\a.icc\0"), COLOURS, "another file"),
}


@pytest.mark.parametrize("name", GIFS | BMPS)
def test_profiles_of_gif_and_bmp(tmp_path: Path, name: str) -> None:
    data, wanted, fault = (GIFS | BMPS)[name]
    path = tmp_path / ("a.gif" if name in GIFS else "a.bmp")
    path.write_bytes(data)
    found = [open_image(path).getpixel((x, 0)) for x in range(len(COLOURS))]
    assert np.abs(np.array(found) - np.array(wanted)).max() <= 1
    seen = inspect(ImageRow(id="a", image=str(path), caption="a"))
    told = [fault in f.message for f in seen.findings if f.kind == "colours"]
    assert told == [True] * bool(fault)
    # What was cached of pictures whose pixels are read as before stays valid.
    assert (seen.content == hash_file(path)) == (wanted == COLOURS)


HOLE = (0x1234, 0x5678, 0x9ABC)
NEAR = [(0x1235, 0x5678, 0x9ABC), (0x1234, 0x5600, 0x9ABC), (0x12FF, 0x56FF, 0x9AFF)]


def test_transparency_of_16_bits_is_compared_whole(tmp_path: Path) -> None:
    path, samples = tmp_path / "a.png", [HOLE, *NEAR]
    pixels = b"\0" + b"".join(struct.pack(">3H", *each) for each in samples)
    hole = png_chunk(b"tRNS", struct.pack(">3H", *HOLE))
    path.write_bytes(png(len(samples), 1, 16, 2, pixels, hole))
    found = np.asarray(open_image(path, "#00ff00"))[0]
    assert found[0].tolist() == [0, 255, 0]
    assert found[1:].tolist() == [[value >> 8 for value in each] for each in NEAR]


LATE = {
    "gAMA behind the pixels": ("after", b"gAMA", struct.pack(">I", 100_000)),
    "a short acTL": ("before", b"acTL", b"\0\0\0\2"),
    "tRNS behind the pixels": ("after", b"tRNS", struct.pack(">3H", *COLOURS[0])),
}


@pytest.mark.parametrize("name", LATE)
def test_chunks_without_a_meaning_change_nothing(tmp_path: Path, name: str) -> None:
    where, kind, data = LATE[name]
    pixels = b"\0" + bytes(value for colour in COLOURS for value in colour)
    extra = png_chunk(kind, data)
    whole = png(len(COLOURS), 1, 8, 2, pixels, extra if where == "before" else b"")
    end = png_chunk(b"IEND", b"")
    if where == "after":
        whole = whole.removesuffix(end) + extra + end
    (tmp_path / "a.png").write_bytes(whole)
    found = open_image(tmp_path / "a.png", "#00ff00")
    assert [found.getpixel((x, 0)) for x in range(len(COLOURS))] == COLOURS


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_pixels_that_are_no_numbers_are_refused(tmp_path: Path, value: float) -> None:
    pixels = np.linspace(0, 1, 60, dtype=np.float32).reshape(6, 10)
    Image.fromarray(pixels).save(tmp_path / "good.tif")
    assert open_image(tmp_path / "good.tif").size == (10, 6)
    pixels[3, 4] = value
    Image.fromarray(pixels).save(tmp_path / "a.tif")
    with pytest.raises(ImageFault, match="infinite or undefined values") as caught:
        open_image(tmp_path / "a.tif")
    assert caught.value.kind == "not-finite"
    seen = inspect(ImageRow(id="a", image=str(tmp_path / "a.tif"), caption="a"))
    assert [f.kind for f in seen.findings] == ["not-finite"]


def test_deep_grey_needs_little_memory_beside_itself(tmp_path: Path) -> None:
    import tracemalloc

    from mmtune.image.pictures.pixels import decoded

    side = 1500
    Image.fromarray(np.zeros((side, side), np.uint16)).save(tmp_path / "a.png")
    with decoded(tmp_path / "a.png") as picture:
        tracemalloc.start()
        picture.flattened()
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert peak < 2 * side * side * 8  # less than two copies of float64
