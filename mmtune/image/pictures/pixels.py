"""Safe decoding of image files: header checks, size limit, colours, transparency, orientation."""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from PIL import ExifTags, Image, ImageCms, ImageOps, UnidentifiedImageError

from mmtune.errors import DataError
from mmtune.system.pictures import FORMATS, MAX_PIXELS, MAX_SIDE

CONVERT = "save it as PNG or JPEG"
COPY_AGAIN = "copy the file again from its source"


class ImageFault(DataError):
    """A file that can't be used as an image.

    Args:
        kind: kind of the finding, such as "truncated".
        found: what is wrong, with the file's path.
        cure: what to do about it.
    """

    def __init__(self, kind: str, found: str, cure: str) -> None:
        self.kind = kind
        super().__init__(found, cure)


def open_image(path: Path, background: str = "white") -> Image.Image:
    """Open an image as training needs it: RGB in sRGB, upright, without transparency.

    An animation gives its first frame.

    Args:
        path: the file.
        background: colour behind transparent parts, as `PIL.ImageColor` reads it.

    Raises:
        DataError: the file is missing, undecodable, truncated or too large.
    """
    with decoded(path) as image:
        return flatten(_upright(image), background)


def open_mask(path: Path) -> Image.Image:
    """Open a mask as mode L, upright: 255 is trained on fully, 0 not at all.

    Transparent parts become 0.

    Raises:
        DataError: as `open_image`.
    """
    with decoded(path) as image:
        return flatten(_upright(image), "black").convert("L")


def flatten(image: Image.Image, background: str = "white") -> Image.Image:
    """Convert an image to RGB in sRGB, with its transparent parts on `background`.

    An embedded ICC profile of RGB, grey or CMYK is applied by `ImageCms.profileToProfile` with
    its default settings.
    """
    profile = image.info.get("icc_profile")
    if image.mode == "F" or image.mode.startswith("I"):
        image = _to_eight_bits(image)
    if image.mode in ("RGBa", "La"):  # premultiplied alpha must be divided out first
        image = image.convert(image.mode.upper())
    alpha = image.convert("RGBA").getchannel("A") if image.has_transparency_data else None
    rgb = _to_srgb(_colours(image), profile).convert("RGB")
    if alpha is None:
        return rgb
    rgb.putalpha(alpha)
    under = Image.new("RGBA", rgb.size, background)
    return Image.alpha_composite(under, rgb).convert("RGB")


def thumbnail(image: Image.Image, side: int) -> Image.Image:
    """Scale an image to a square of `side` pixels: RGB in sRGB, upright, on white.

    The aspect ratio is not kept.

    Args:
        image: decoded, of any mode.
        side: pixels.
    """
    if _is_rotated(image):
        image = _upright(image)
    if image.mode not in ("L", "RGB", "RGBA", "CMYK") or "transparency" in image.info:
        image = flatten(
            image
        )  # pixel values that are indices or have a transparent value can't be averaged
    return flatten(image.resize((side, side), Image.Resampling.BOX))


def stored_size(path: Path) -> tuple[int, int]:
    """Read width and height in pixels as stored, from the header alone.

    Raises:
        ImageFault: the file is missing, not a file, empty, undecodable or a size bomb.
    """
    with _opened(path) as image:
        return image.width, image.height


def upright_size(path: Path) -> tuple[int, int]:
    """Read width and height in pixels as `open_image` gives them, from the header alone.

    Raises:
        ImageFault: as `stored_size`.
    """
    with _opened(path) as image:
        try:
            lying = image.getexif().get(ExifTags.Base.Orientation, 1) in (5, 6, 7, 8)
        except Exception:  # a damaged EXIF block says nothing of the pixels
            lying = False
        return (image.height, image.width) if lying else (image.width, image.height)


@contextmanager
def decoded(path: Path, *, reduced: bool = False) -> Iterator[Image.Image]:
    """Decode all pixels of a file, in its own mode, after a check of its header.

    Args:
        path: the file.
        reduced: for checks only: a JPEG is read whole but decoded at an eighth of its size (at
            least 64 pixels), in a third of the time.

    Raises:
        ImageFault: as `stored_size`, or the file is truncated or damaged.
    """
    with _opened(path) as image:
        try:
            if reduced:
                image.draft(None, (max(64, image.width // 8), max(64, image.height // 8)))
            image.load()
        except MemoryError:
            raise ImageFault(
                "size-bomb", f"{path} needs more memory than there is", CONVERT
            ) from None
        except Exception as error:  # each format's decoder raises its own kinds
            kind = "truncated" if "truncated" in str(error) else "undecodable"
            found = f"{path} is damaged or truncated: {error}"
            raise ImageFault(kind, found, COPY_AGAIN) from None
        if image.mode in ("P", "PA") and image.palette is None:
            found = f"{path} is damaged: its pixels are indices, but it has no palette"
            raise ImageFault("undecodable", found, COPY_AGAIN)
        yield image


@contextmanager
def _opened(path: Path) -> Iterator[Image.Image]:
    _require_file(path)
    try:
        image = Image.open(path, formats=FORMATS)
    except Image.DecompressionBombError as error:
        raise ImageFault("size-bomb", f"{path}: {error}", _reduce_cure(path)) from None
    except UnidentifiedImageError:
        raise ImageFault("undecodable", f"{path} is no image in a known format", CONVERT) from None
    except Exception as error:  # header parsers raise many kinds
        raise ImageFault("undecodable", f"{path} can't be decoded: {error}", CONVERT) from None
    with image:
        if image.width * image.height > MAX_PIXELS or max(image.size) > MAX_SIDE:
            raise ImageFault(
                "size-bomb",
                f"{path} ({path.stat().st_size:,} bytes) decodes to {image.width}x{image.height} "
                f"pixels; the limits are {MAX_PIXELS:,} pixels and {MAX_SIDE:,} for a side",
                _reduce_cure(path),
            )
        if not image.width * image.height:
            raise ImageFault("empty", f"{path} has no pixels", COPY_AGAIN)
        yield image


def _reduce_cure(path: Path) -> str:
    # Under its old name, because the name may be its caption.
    small = f"smaller{path.suffix}"
    reduce = f"ffmpeg -i {path.name} -vf scale=2048:-1 {small} && mv {small} {path.name}"
    return f"reduce it: {reduce}; or remove it"


def _require_file(path: Path) -> None:
    try:
        if not path.is_file():  # reading a pipe could block for ever
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
        # Phones store portraits sideways, with the orientation in EXIF.
        return ImageOps.exif_transpose(image)
    except Exception:  # a damaged EXIF block says nothing of the pixels
        return image


def _is_rotated(image: Image.Image) -> bool:
    try:
        return bool(image.getexif().get(ExifTags.Base.Orientation, 1) != 1)
    except Exception:  # as above
        return False


def _colours(image: Image.Image) -> Image.Image:
    # Without alpha, in a mode that an ICC profile can describe.
    if image.mode in ("L", "RGB", "CMYK", "LAB"):
        return image
    return image.convert("L" if image.mode in ("1", "LA") else "RGB")


def _to_srgb(image: Image.Image, profile: bytes | None) -> Image.Image:
    # In a wide-gamut file the same numbers mean other colours, and a brand's colours matter.
    if not profile:
        return image
    try:
        source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        if image.mode == "L" and source.profile.xcolor_space.strip() == "RGB":
            image = image.convert("RGB")  # a grey image that kept its camera's RGB profile
        converted = ImageCms.profileToProfile(
            image, source, ImageCms.createProfile("sRGB"), outputMode="RGB"
        )
    except (ImageCms.PyCMSError, OSError, ValueError, TypeError):
        return image  # the profile is damaged or of another colour space: ignore it
    return image if converted is None else converted


def _to_eight_bits(image: Image.Image) -> Image.Image:
    # Pillow's convert() clips these: a 16-bit grey would become white.
    values = np.asarray(image, dtype=np.float32)
    scale = 255.0 if image.mode == "F" else 1 / 257.0
    grey = Image.fromarray(np.clip(np.rint(values * scale), 0, 255).astype(np.uint8))
    if isinstance(hole := image.info.get("transparency"), int):  # this value is transparent
        grey.putalpha(Image.fromarray(np.where(values == hole, 0, 255).astype(np.uint8)))
    return grey
