"""Opening images: judged by their headers first, decoded within bounds."""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from PIL import ExifTags, Image, ImageCms, ImageOps, UnidentifiedImageError

from mmtune.errors import DataError

MAX_PIXELS = 64_000_000  # as RGB 183 MiB; a camera's 50 megapixels pass
# Only formats that are pictures by themselves: Pillow would hand an EPS to Ghostscript.
FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF", "AVIF")
CONVERT = "save it as PNG or JPEG"
COPY_AGAIN = "copy the file again from its source"


class ImageFault(DataError):
    """A file that can't be used as an image. `kind` is the short name that findings carry."""

    def __init__(self, kind: str, found: str, cure: str) -> None:
        self.kind = kind
        super().__init__(found, cure)


def open_image(path: Path, background: str = "white") -> Image.Image:
    """An image as a diffusion model wants it: RGB in sRGB, upright, without transparency.

    Of an animation, the first frame.

    Args:
        path: the file.
        background: colour behind what is transparent, as `PIL.ImageColor` reads it.

    Raises:
        DataError: missing, undecodable, truncated or too large; names the file.
    """
    with decoded(path) as image:
        return flatten(_upright(image), background)


def open_mask(path: Path) -> Image.Image:
    """A mask as mode L, upright: 255 counts whole, 0 not at all; what is transparent is 0.

    Raises:
        DataError: as `open_image`.
    """
    with decoded(path) as image:
        return flatten(_upright(image), "black").convert("L")


def flatten(image: Image.Image, background: str = "white") -> Image.Image:
    """`image` as RGB in sRGB, its transparent parts on `background`.

    Colours in an embedded ICC profile, be it of RGB, grey or CMYK, are converted as
    `ImageCms.profileToProfile` does by default.
    """
    profile = image.info.get("icc_profile")
    if image.mode == "F" or image.mode.startswith("I"):
        image = _to_eight_bits(image)
    if image.mode in ("RGBa", "La"):  # multiplied by their alpha: to be divided again first
        image = image.convert(image.mode.upper())
    alpha = image.convert("RGBA").getchannel("A") if image.has_transparency_data else None
    rgb = _to_srgb(_colours(image), profile).convert("RGB")
    if alpha is None:
        return rgb
    rgb.putalpha(alpha)
    under = Image.new("RGBA", rgb.size, background)
    return Image.alpha_composite(under, rgb).convert("RGB")


def thumbnail(image: Image.Image, side: int) -> Image.Image:
    """A decoded image as a square of `side` pixels, squeezed, RGB in sRGB, upright, on white."""
    if _turned(image):
        image = _upright(image)
    if image.mode not in ("L", "RGB", "RGBA", "CMYK") or "transparency" in image.info:
        image = flatten(image)  # its palette, or one value of many, must be looked up first
    return flatten(image.resize((side, side), Image.Resampling.BOX))


def probe(path: Path) -> tuple[int, int]:
    """Width and height in pixels as stored, from the header alone.

    Raises:
        ImageFault: missing, not a file, empty, undecodable or a size bomb.
    """
    with _opened(path) as image:
        return image.width, image.height


def upright_size(path: Path) -> tuple[int, int]:
    """Width and height in pixels as `open_image` gives them, from the header alone.

    Raises:
        ImageFault: as `probe`.
    """
    with _opened(path) as image:
        try:
            lying = image.getexif().get(ExifTags.Base.Orientation, 1) in (5, 6, 7, 8)
        except Exception:  # a damaged EXIF block says nothing of the pixels
            lying = False
        return (image.height, image.width) if lying else (image.width, image.height)


@contextmanager
def decoded(path: Path, *, reduced: bool = False) -> Iterator[Image.Image]:
    """All pixels of a file, in its own mode, after its header was judged.

    Args:
        path: the file.
        reduced: enough to judge it: a JPEG is read whole but opened at an eighth of its size (64
            pixels at least), in a third of the time.

    Raises:
        ImageFault: as `probe`, or truncated or damaged.
    """
    with _opened(path) as image:
        try:
            if reduced:
                image.draft(None, (max(64, image.width // 8), max(64, image.height // 8)))
            image.load()
        except MemoryError:
            raise ImageFault("size-bomb", f"{path} exhausts the memory", CONVERT) from None
        except Exception as error:  # each format's decoder raises what it trips over
            kind = "truncated" if "truncated" in str(error) else "undecodable"
            found = f"{path} is damaged or breaks off: {error}"
            raise ImageFault(kind, found, COPY_AGAIN) from None
        yield image


@contextmanager
def _opened(path: Path) -> Iterator[Image.Image]:
    _require_file(path)
    try:
        image = Image.open(path, formats=FORMATS)
    except Image.DecompressionBombError as error:
        raise ImageFault("size-bomb", f"{path}: {error}", _smaller(path)) from None
    except UnidentifiedImageError:
        raise ImageFault("undecodable", f"{path} is no image that can be read", CONVERT) from None
    except Exception as error:  # header parsers raise what they trip over
        raise ImageFault("undecodable", f"{path} is no image: {error}", CONVERT) from None
    with image:
        if image.width * image.height > MAX_PIXELS:
            raise ImageFault(
                "size-bomb",
                f"{path} opens to {image.width}x{image.height} pixels from "
                f"{path.stat().st_size:,} bytes; the limit is {MAX_PIXELS:,} pixels",
                _smaller(path),
            )
        if not image.width * image.height:
            raise ImageFault("empty", f"{path} has no pixels", COPY_AGAIN)
        yield image


def _smaller(path: Path) -> str:
    return f"reduce it: ffmpeg -i {path.name} -vf scale=2048:-1 smaller.png; or remove it"


def _require_file(path: Path) -> None:
    try:
        if not path.is_file():  # a pipe would block for ever
            if path.exists():
                raise ImageFault("not-a-file", f"{path} is not a file", "correct the path")
            raise ImageFault(
                "missing", f"no such file: {path}", "correct the path, or remove the row"
            )
        size = path.stat().st_size
    except (OSError, ValueError) as error:
        raise ImageFault("missing", f"{path}: {error}", "correct the path") from None
    if not size:
        raise ImageFault("empty", f"{path} has 0 bytes", COPY_AGAIN)


def _upright(image: Image.Image) -> Image.Image:
    try:
        # Phones store portraits lying, with a note in EXIF which way is up.
        return ImageOps.exif_transpose(image)
    except Exception:  # a damaged EXIF block says nothing of the pixels
        return image


def _turned(image: Image.Image) -> bool:
    try:
        return bool(image.getexif().get(ExifTags.Base.Orientation, 1) != 1)
    except Exception:  # as above
        return False


def _colours(image: Image.Image) -> Image.Image:
    # Without alpha, in a mode that a profile can speak of.
    if image.mode in ("L", "RGB", "CMYK", "LAB"):
        return image
    return image.convert("L" if image.mode in ("1", "LA") else "RGB")


def _to_srgb(image: Image.Image, profile: bytes | None) -> Image.Image:
    # A brand's colours: in a wide-gamut file the same numbers mean another colour.
    if not profile:
        return image
    try:
        source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        if image.mode == "L" and source.profile.xcolor_space.strip() == "RGB":
            image = image.convert("RGB")  # a grey picture that kept its camera's profile
        converted = ImageCms.profileToProfile(
            image, source, ImageCms.createProfile("sRGB"), outputMode="RGB"
        )
    except (ImageCms.PyCMSError, OSError, ValueError, TypeError):
        return image  # a damaged profile, or one of other colours: the numbers as they are
    return image if converted is None else converted


def _to_eight_bits(image: Image.Image) -> Image.Image:
    # Pillow's convert() clips these: a 16-bit grey would become white.
    values = np.asarray(image, dtype=np.float32)
    scale = 255.0 if image.mode == "F" else 1 / 257.0
    grey = Image.fromarray(np.clip(np.rint(values * scale), 0, 255).astype(np.uint8))
    if isinstance(hole := image.info.get("transparency"), int):  # one value stands for nothing
        grey.putalpha(Image.fromarray(np.where(values == hole, 0, 255).astype(np.uint8)))
    return grey
