"""Safe decoding of image files: header checks, size limit, colours, transparency, orientation."""

from __future__ import annotations

import functools
import importlib
import io
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import numpy as np
from PIL import ExifTags, Image, ImageCms, ImageOps, UnidentifiedImageError

from mmtune.errors import DataError
from mmtune.image.pictures.colour_profiles import box_profile, exif_profile
from mmtune.image.pictures.drawn import draw_svg
from mmtune.image.pictures.misnamed import name_content
from mmtune.image.pictures.png_chunks import exif_in_text, read_png
from mmtune.image.pictures.suffixes import SVG_SUFFIXES, has_module
from mmtune.image.pictures.tiff_tags import grey_range, with_known_polarity
from mmtune.system.pictures import FORMATS, MAX_PIXELS, MAX_SIDE
from mmtune.system.stored import opened

CONVERT = "save it as PNG or JPEG"
COPY_AGAIN = "copy the file again from its source"
EXPORT_SRGB = "export it as sRGB"
BOXES = 65_536  # bytes at the beginning of an AVIF or HEIF file that hold its colour box
# What `_opened` finds out and the decoded image keeps: the values of black and white, and why an
# embedded colour profile isn't used.
GREY, PROFILE_FAULT = "mmtune grey", "mmtune profile fault"
# Set where the image is read in another way than before `READING_VERSION`; what was computed of the
# others stays valid.
READ_ANEW = "mmtune read anew"
READING_VERSION = 1  # bump it when images that this version reads get other pixels


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

    The ICC profile, which may be made of what the file states otherwise (`_opened`), is applied by
    `ImageCms.profileToProfile` with its default settings.
    """
    rgb, alpha = without_alpha(image)
    if alpha is None:
        return rgb
    rgb.putalpha(alpha)
    under = Image.new("RGBA", rgb.size, background)
    return Image.alpha_composite(under, rgb).convert("RGB")


def without_alpha(image: Image.Image) -> tuple[Image.Image, Image.Image | None]:
    """The colours of an image as RGB in sRGB, and its alpha; None: all of it is opaque."""
    profile = image.info.get("icc_profile")
    if image.mode == "F" or image.mode.startswith("I"):
        image = _to_eight_bits(image)
    if image.mode in ("RGBa", "La"):  # premultiplied alpha must be divided out first
        image = image.convert(image.mode.upper())
    alpha = image.convert("RGBA").getchannel("A") if image.has_transparency_data else None
    return _to_srgb(_colours(image), profile).convert("RGB"), alpha


def visible_range(image: Image.Image) -> tuple[bytes, bytes] | None:
    """The least and the greatest red, green and blue of the parts that aren't transparent.

    Args:
        image: decoded, of any mode.

    Returns:
        Three bytes each; None: nothing of the image is visible.
    """
    if image.mode not in ("L", "RGB", "CMYK") or "transparency" in image.info:
        rgb, alpha = without_alpha(image)
    else:
        rgb, alpha = image.convert("RGB"), None
    counts = np.array(rgb.histogram(alpha)).reshape(3, 256)
    if not counts.any():
        return None
    seen = [np.flatnonzero(band) for band in counts]
    return bytes(band[0] for band in seen), bytes(band[-1] for band in seen)


def colour_fault(image: Image.Image) -> str:
    """Why the colours of an image aren't known; empty if they are."""
    if fault := image.info.get(PROFILE_FAULT):
        return str(fault)
    profile = image.info.get("icc_profile")
    if not profile:
        return "its inks have no colour profile" if image.mode == "CMYK" else ""
    try:
        space = ImageCms.ImageCmsProfile(io.BytesIO(profile)).profile.xcolor_space.strip()
    except (ImageCms.PyCMSError, OSError, ValueError, TypeError):
        return "its colour profile is damaged"
    wanted = {"CMYK": "CMYK", "LAB": "Lab"}.get(image.mode, "RGB")
    if space == wanted or (space == "GRAY" and image.mode in ("1", "L", "LA", "I", "F", "I;16")):
        return ""
    return f"its colour profile is for {space}, not for {wanted}"


def thumbnail(image: Image.Image, side: int, background: str = "white") -> Image.Image:
    """Scale an image to a square of `side` pixels: RGB in sRGB, upright, without transparency.

    The aspect ratio is not kept.

    Args:
        image: decoded, of any mode.
        side: pixels.
        background: colour behind transparent parts.
    """
    if _is_rotated(image):
        image = _upright(image)
    if image.mode not in ("L", "RGB", "RGBA", "CMYK") or "transparency" in image.info:
        # Pixel values that are indices or have a transparent value can't be averaged.
        image = flatten(image, background)
    return flatten(image.resize((side, side), Image.Resampling.BOX), background)


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
        # Pillow states the size of a TIFF upright already.
        lying = image.format != "TIFF" and is_lying(image)
        return (image.height, image.width) if lying else (image.width, image.height)


def is_lying(image: Image.Image) -> bool:
    """Whether the orientation of an image exchanges its width and height."""
    try:
        return image.getexif().get(ExifTags.Base.Orientation, 1) in (5, 6, 7, 8)
    except Exception:  # a damaged EXIF block says nothing of the pixels
        return False


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
    with ExitStack() as stack:
        try:
            image = _identified(path, stack)
        except Image.DecompressionBombError as error:
            raise ImageFault("size-bomb", f"{path}: {error}", _reduce_cure(path)) from None
        except UnidentifiedImageError:
            kind, found, cure = name_content(path) or (
                *("undecodable", "is no image in a known format"),
                CONVERT,
            )
            raise ImageFault(kind, f"{path} {found}", cure) from None
        except DataError:
            raise
        except Exception as error:  # header parsers raise many kinds
            raise ImageFault("undecodable", f"{path} can't be decoded: {error}", CONVERT) from None
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


def _identified(path: Path, stack: ExitStack) -> Image.Image:
    """Open an image, and set its `icc_profile` to what the file states of its colours."""
    if path.suffix.lower() in SVG_SUFFIXES and has_module("resvg_py"):
        return stack.enter_context(draw_svg(path))
    file = stack.enter_context(opened(path))
    try:
        png = read_png(file)
        file.seek(0)
        head = file.read(BOXES)
        boxes = box_profile(head) if head[4:8] == b"ftyp" else None
    except ValueError as error:
        raise ImageFault("hdr", f"{path}: {error}, which mmtune can't show", EXPORT_SRGB) from None
    file.seek(0)
    if png is not None:
        image = stack.enter_context(Image.open(png.file, formats=FORMATS))
        image.info["icc_profile"] = png.profile or None
        # Pillow decodes all pixels to look for Exif behind them, where none is left.
        image.info.setdefault("exif", exif_in_text(image.info))
        if png.profile_fault:
            image.info[PROFILE_FAULT] = png.profile_fault
        image.info[READ_ANEW] = bool(png.profile) and not png.is_embedded
        if isinstance(hole := image.info.get("transparency"), int) and image.mode == "L":
            # Pillow scales the samples to 8 bits, but not the one that is transparent.
            image.info["transparency"] = hole * 255 // (2**png.depth - 1)
            image.info[READ_ANEW] |= png.depth < 8
        elif isinstance(hole, tuple) and png.depth == 16:
            image.info["transparency"] = tuple(value >> 8 for value in hole)
            image.info[READ_ANEW] = True
        return image if png.profile or png.profile_fault else _with_exif_profile(image)
    turned, is_inverted = with_known_polarity(file, head)
    image = stack.enter_context(Image.open(turned, formats=_formats()))
    if image.format == "TIFF":
        image.info[GREY] = grey_range(image, is_inverted)
        usual = (0.0, 1.0) if image.mode == "F" else (0.0, 65_535.0)
        changed = image.mode.startswith(("F", "I")) and image.info[GREY] != usual
        image.info[READ_ANEW] = changed or is_lying(image)
    if boxes and not image.info.get("icc_profile"):
        image.info |= {"icc_profile": boxes, READ_ANEW: True}
    return _with_exif_profile(image)


def _with_exif_profile(image: Image.Image) -> Image.Image:
    if not image.info.get("icc_profile") and (profile := exif_profile(image)):
        image.info |= {"icc_profile": profile, READ_ANEW: True}
    return image


@functools.cache
def _formats() -> tuple[str, ...]:
    """The formats to try, with those of installed plugins of Pillow."""
    found = list(FORMATS)
    for name, format_ in (("pillow_heif", "HEIF"), ("pillow_jxl", "JXL")):
        if has_module(name):
            module = importlib.import_module(name)
            if format_ == "HEIF":
                module.register_heif_opener(thumbnails=False)
            found.append(format_)
    return tuple(found)


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
    values = np.asarray(image, dtype=np.float64)
    black, white = image.info.get(GREY) or ((0.0, 1.0) if image.mode == "F" else (0.0, 65_535.0))
    if max(black, white) > 2.0**31:
        values = values % 2**32  # Pillow reads unsigned numbers as signed ones
    shares = (values - black) / (white - black)
    grey = Image.fromarray(np.clip(np.rint(shares * 255), 0, 255).astype(np.uint8))
    if isinstance(hole := image.info.get("transparency"), int):  # this value is transparent
        grey.putalpha(Image.fromarray(np.where(values == hole, 0, 255).astype(np.uint8)))
    return grey
