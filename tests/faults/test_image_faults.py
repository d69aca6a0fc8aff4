import io
import resource
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image, ImageCms

from mmtune.errors import DataError
from mmtune.image.corpus.check_picture import inspect
from mmtune.image.image_row import ImageRow
from mmtune.image.pictures.pixels import MAX_PIXELS, ImageFault, open_image, stored_size
from tests.data.pieces import picture, write_image
from tests.faults.files import png, png_bomb, png_chunk

FORMATS: dict[str, dict[str, Any]] = {
    "png": {},
    "jpg": {"quality": 90},
    "progressive.jpg": {"progressive": True},
    "webp": {"lossless": True},
    "gif": {},
    "bmp": {},
    "tif": {"compression": "tiff_lzw"},
    "plain.tif": {},
    "avif": {},
}


def found(path: Path, caption: str = "words") -> list[str]:
    return [f.kind for f in inspect(ImageRow(id="r", image=str(path), caption=caption)).findings]


@pytest.mark.parametrize("name", FORMATS)
def test_a_whole_file_passes(tmp_path: Path, name: str) -> None:
    path = write_image(tmp_path / f"a.{name}", **FORMATS[name])
    inspection = inspect(ImageRow(id="r", image=str(path), caption="words"))
    assert inspection.findings == []
    assert inspection.facts == {"width": 48, "height": 32}
    assert inspection.content


@pytest.mark.parametrize("name", FORMATS)
def test_a_cut_anywhere_is_found(tmp_path: Path, name: str) -> None:
    path = tmp_path / f"a.{name}"
    picture(0, (400, 300)).save(path, **FORMATS[name])
    whole = path.read_bytes()
    cut = tmp_path / f"cut.{name}"
    for share in (0.001, 0.01, 0.1, 0.5, 0.9, 0.99):
        cut.write_bytes(whole[: max(1, int(share * len(whole)))])
        assert found(cut)[0] in ("truncated", "undecodable"), share
        with pytest.raises(DataError, match="cut"):
            open_image(cut)


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
def test_the_png_bomb_is_judged_by_its_header(tmp_path: Path) -> None:
    path = tmp_path / "bomb.png"
    png_bomb(path)
    assert path.stat().st_size < 20_000
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    (finding,) = inspect(ImageRow(id="r", image=str(path), caption="x")).findings
    assert finding.kind == "size-bomb"
    assert "12000x12000 pixels" in finding.message
    with pytest.raises(DataError, match="12000x12000"):
        open_image(path)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 20_000  # KiB


@pytest.mark.parametrize("side", [50_000, 2**31 - 1])
def test_larger_bombs_too(tmp_path: Path, side: int) -> None:
    (tmp_path / "a.png").write_bytes(png(side, side, 8, 2, bytes(1000)))
    assert found(tmp_path / "a.png")[0] in ("size-bomb", "undecodable")
    Image.new("P", (1, 1)).save(tmp_path / "a.gif")
    data = bytearray((tmp_path / "a.gif").read_bytes())
    data[6:10] = b"\xff\xff\xff\xff"
    (tmp_path / "a.gif").write_bytes(data)
    assert found(tmp_path / "a.gif") == ["size-bomb"]


@pytest.mark.parametrize(("size", "good"), [((65_535, 2), True), ((2, 65_536), False)])
def test_a_side_has_a_limit(tmp_path: Path, size: tuple[int, int], good: bool) -> None:
    Image.linear_gradient("L").resize(size).save(tmp_path / "a.tif")
    assert ("size-bomb" in found(tmp_path / "a.tif")) is not good


def test_bombs_beside_the_pixels(tmp_path: Path) -> None:
    text = png_chunk(b"zTXt", b"k\0\0" + zlib.compress(bytes(200_000_000), 9))
    profile = png_chunk(b"iCCP", b"k\0\0" + zlib.compress(bytes(200_000_000), 9))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for extra in (text, profile):
        (tmp_path / "a.png").write_bytes(png(2, 2, 8, 0, b"\0\1\2\0\3\4", extra))
        found(tmp_path / "a.png")
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 50_000  # KiB


def test_a_large_photograph_passes(tmp_path: Path) -> None:
    path = tmp_path / "a.jpg"
    Image.new("RGB", (8_200, 6_100), "red").save(path)  # 50 megapixels
    assert MAX_PIXELS > 8_200 * 6_100
    assert found(path) == ["blank"]


@pytest.mark.parametrize("name", ["a.png", "a.jpg", "a.webp", "a.gif", "a.tif", "a.avif"])
def test_what_only_calls_itself_an_image(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.write_bytes(b"")
    assert found(path) == ["empty"]
    for junk in (b"\0" * 5000, b"<html>not found</html>", bytes(range(256)) * 20):
        path.write_bytes(junk)
        assert found(path) == ["undecodable"]
    path.unlink()
    assert found(path) == ["missing"]
    path.mkdir()
    assert found(path) == ["not-a-file"]


def test_nothing_is_handed_to_an_interpreter(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n")
    assert found(path) == ["undecodable"]


def test_warnings(tmp_path: Path) -> None:
    Image.new("RGB", (20, 20), "red").save(tmp_path / "blank.png")
    frames = [picture(i) for i in range(3)]
    frames[0].save(tmp_path / "moving.gif", save_all=True, append_images=frames[1:])
    frames[0].save(tmp_path / "moving.webp", save_all=True, append_images=frames[1:])
    assert found(tmp_path / "blank.png") == ["blank"]
    assert found(tmp_path / "moving.gif") == ["animated"]
    assert found(tmp_path / "moving.webp") == ["animated"]
    frames[0].save(tmp_path / "views.jpg", format="MPO", save_all=True, append_images=frames[1:])
    assert found(tmp_path / "views.jpg") == []
    assert found(write_image(tmp_path / "a.png"), caption=" ") == ["empty-text"]
    (tmp_path / "a.heic").write_bytes(b"\0\0\0\x18ftypheic")
    assert found(tmp_path / "a.heic") == ["undecodable"]


@pytest.mark.parametrize("name", ["png", "jpg", "progressive.jpg", "webp", "gif", "tif", "avif"])
@given(st.data())
@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
def test_no_damage_raises_anything_else(tmp_path: Path, name: str, data: st.DataObject) -> None:
    whole = tmp_path / f"whole.{name}"
    if not whole.exists():
        write_image(whole, **FORMATS[name])
    damaged = bytearray(whole.read_bytes())
    for _ in range(data.draw(st.integers(1, 8))):
        place = data.draw(
            st.integers(0, min(200, len(damaged) - 1)) | st.integers(0, len(damaged) - 1)
        )
        damaged[place] = data.draw(st.integers(0, 255))
    path = tmp_path / f"damaged.{name}"
    path.write_bytes(damaged)
    inspection = inspect(ImageRow(id="r", image=str(path), caption="x"))
    assert inspection.content or inspection.findings
    try:
        image = open_image(path)
    except ImageFault:
        return
    assert image.mode == "RGB"


MODES = ["1", "L", "LA", "P", "PA", "RGB", "RGBA", "RGBa", "RGBX", "CMYK", "YCbCr", "LAB",
         "HSV", "I", "F", "I;16"]  # fmt: skip


@pytest.mark.parametrize("mode", MODES)
def test_every_mode_becomes_rgb(mode: str) -> None:
    from mmtune.image.pictures.picture import Picture

    image = Picture(Image.new(mode, (4, 3))).flattened()
    assert (image.mode, image.size) == ("RGB", (4, 3))


def test_transparency_lies_on_white(tmp_path: Path) -> None:
    rgba = np.zeros((2, 2, 4), np.uint8)
    rgba[0, 0] = (255, 0, 0, 255)
    rgba[0, 1] = (0, 0, 255, 128)
    Image.fromarray(rgba).save(tmp_path / "a.png")
    pixels = np.asarray(open_image(tmp_path / "a.png"))
    assert pixels[0, 0].tolist() == [255, 0, 0]
    assert pixels[0, 1] == pytest.approx([127, 127, 255], abs=1)
    assert pixels[1].tolist() == [[255, 255, 255]] * 2
    palette = Image.new("P", (2, 1))
    palette.putpalette([0, 0, 0, 10, 20, 30])
    palette.putpixel((1, 0), 1)
    palette.save(tmp_path / "p.png", transparency=0)
    assert np.asarray(open_image(tmp_path / "p.png")).tolist() == [[[255] * 3, [10, 20, 30]]]


def test_a_lying_photograph_stands_up(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # turn by 90 degrees clockwise
    picture(0, (40, 20)).save(tmp_path / "a.png", exif=exif)
    assert open_image(tmp_path / "a.png").size == (20, 40)
    assert np.array_equal(
        np.asarray(open_image(tmp_path / "a.png")), np.rot90(np.asarray(picture(0, (40, 20))), -1)
    )


def test_sixteen_bits_keep_their_greys(tmp_path: Path) -> None:
    grey = np.array([[0, 32_896, 65_535]], dtype=np.uint16)
    Image.fromarray(grey).save(tmp_path / "a.png")
    assert np.asarray(open_image(tmp_path / "a.png"))[0, :, 0].tolist() == [0, 128, 255]


def test_colours_of_another_profile_are_converted(tmp_path: Path) -> None:
    # With sRGB's red and blue primaries exchanged the same colour has exchanged numbers.
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    red, blue = srgb.find(b"rXYZ"), srgb.find(b"bXYZ")
    exchanged = bytearray(srgb)
    exchanged[red : red + 4], exchanged[blue : blue + 4] = b"bXYZ", b"rXYZ"
    image = Image.new("RGB", (2, 2), (200, 30, 60))
    image.save(tmp_path / "same.png", icc_profile=srgb)
    image.save(tmp_path / "other.png", icc_profile=bytes(exchanged))
    image.save(tmp_path / "broken.png", icc_profile=b"nonsense" * 20)
    pixel = (0, 0)
    assert open_image(tmp_path / "same.png").getpixel(pixel) == pytest.approx((200, 30, 60), abs=1)
    other = open_image(tmp_path / "other.png").getpixel(pixel)
    assert other == pytest.approx((60, 30, 200), abs=2)
    assert open_image(tmp_path / "broken.png").getpixel(pixel) == (200, 30, 60)


def test_probe_reads_the_header_alone(tmp_path: Path) -> None:
    buffer = io.BytesIO()
    picture(0, (400, 300)).save(buffer, "PNG")
    (tmp_path / "a.png").write_bytes(buffer.getvalue()[:200])
    assert stored_size(tmp_path / "a.png") == (400, 300)
