"""Safe opening of image files: header checks, size limit, what they state of their colours."""

from __future__ import annotations

import functools
import importlib
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from PIL import Image, UnidentifiedImageError

from mmtune.errors import DataError
from mmtune.image.pictures.colour_profiles import box_profile, exif_profile
from mmtune.image.pictures.deep_samples import exact_alpha
from mmtune.image.pictures.drawn import draw_svg
from mmtune.image.pictures.misnamed import name_content
from mmtune.image.pictures.picture import Picture, is_finite, is_lying
from mmtune.image.pictures.png_chunks import Png, exif_in_text, read_png
from mmtune.image.pictures.stated_profiles import stated_profile
from mmtune.image.pictures.suffixes import SVG_SUFFIXES, has_module
from mmtune.image.pictures.tiff_tags import grey_range, with_known_polarity
from mmtune.system.pictures import FORMATS, MAX_PIXELS, MAX_SIDE
from mmtune.system.stored import opened

CONVERT = "save it as PNG or JPEG"
COPY_AGAIN = "copy the file again from its source"
EXPORT_SRGB = "export it as sRGB"
BOXES = 65_536  # bytes at the beginning of an AVIF or HEIF file that hold its colour box
# Pictures that are read in another way than in earlier versions have the number of the version
# that changed them (`Picture.reading`); what was computed of the others stays valid.
READING_VERSION = 2  # bump it when images that this version reads get other pixels


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
    with decoded(path) as picture:
        return picture.upright().flattened(background)


def open_mask(path: Path) -> Image.Image:
    """Open a mask as mode L, upright: 255 is trained on fully, 0 not at all.

    Transparent parts become 0.

    Raises:
        DataError: as `open_image`.
    """
    with decoded(path) as picture:
        return picture.upright().flattened("black").convert("L")


def stored_size(path: Path) -> tuple[int, int]:
    """Read width and height in pixels as stored, from the header alone.

    Raises:
        ImageFault: the file is missing, not a file, empty, undecodable or a size bomb.
    """
    with _opened(path) as file:
        image = file.picture.image
        return image.width, image.height


def upright_size(path: Path) -> tuple[int, int]:
    """Read width and height in pixels as `open_image` gives them, from the header alone.

    Raises:
        ImageFault: as `stored_size`.
    """
    with _opened(path) as file:
        image = file.picture.image
        # Pillow states the size of a TIFF upright already.
        lying = image.format != "TIFF" and is_lying(image)
        return (image.height, image.width) if lying else (image.width, image.height)


@dataclass
class _Opened:
    """An image whose header was read.

    Attributes:
        picture: the image, not yet decoded.
        deep: the PNG, if only its 16-bit samples tell which pixels are transparent.
    """

    picture: Picture
    deep: BinaryIO | None = None


@contextmanager
def decoded(path: Path, *, reduced: bool = False) -> Iterator[Picture]:
    """Decode all pixels of a file, in its own mode, after a check of its header.

    Args:
        path: the file.
        reduced: for checks only: a JPEG is read whole but decoded at an eighth of its size (at
            least 64 pixels), in a third of the time.

    Raises:
        ImageFault: as `stored_size`, or the file is truncated or damaged, or a pixel is no number.
    """
    with _opened(path) as file:
        image = file.picture.image
        try:
            if reduced:
                image.draft(None, (max(64, image.width // 8), max(64, image.height // 8)))
            image.load()
            if file.deep is not None:
                image.putalpha(exact_alpha(file.deep))
                del image.info["transparency"]
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
        if image.mode == "F" and not is_finite(image):
            found = f"{path} has pixels with infinite or undefined values (inf, NaN)"
            raise ImageFault("not-finite", found, "give these pixels a value, or remove it")
        yield file.picture


@contextmanager
def _opened(path: Path) -> Iterator[_Opened]:
    _require_file(path)
    with ExitStack() as stack:
        try:
            file = _identified(path, stack)
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
        image = file.picture.image
        if image.width * image.height > MAX_PIXELS or max(image.size) > MAX_SIDE:
            raise ImageFault(
                "size-bomb",
                f"{path} ({path.stat().st_size:,} bytes) decodes to {image.width}x{image.height} "
                f"pixels; the limits are {MAX_PIXELS:,} pixels and {MAX_SIDE:,} for a side",
                _reduce_cure(path),
            )
        if not image.width * image.height:
            raise ImageFault("empty", f"{path} has no pixels", COPY_AGAIN)
        yield file


def _identified(path: Path, stack: ExitStack) -> _Opened:
    """Open an image, and read what the file states of its colours."""
    if path.suffix.lower() in SVG_SUFFIXES and has_module("resvg_py"):
        return _Opened(Picture(stack.enter_context(draw_svg(path))))
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
        return _of_png(png, stack)
    stated, fault = stated_profile(file)
    file.seek(0)
    readable, is_inverted = with_known_polarity(file, head)
    image = stack.enter_context(Image.open(readable, formats=_formats()))
    picture = Picture(image, image.info.get("icc_profile") or b"")
    if image.format == "TIFF":
        picture.grey = grey_range(image, is_inverted)
        usual = (0.0, 1.0) if image.mode == "F" else (0.0, 65_535.0)
        changed = image.mode.startswith(("F", "I")) and picture.grey != usual
        picture.reading = int(changed or is_lying(image))
    if boxes and not picture.profile:
        picture.profile, picture.reading = boxes, 1
    if stated or fault:
        picture.profile, picture.profile_fault = stated, fault
        picture.reading = 2 if stated else picture.reading
    return _Opened(_with_exif_profile(picture))


def _of_png(png: Png, stack: ExitStack) -> _Opened:
    image = stack.enter_context(Image.open(png.file, formats=FORMATS))
    picture = Picture(image, png.profile, png.profile_fault)
    # Pillow decodes all pixels to look for Exif behind them, where none is left.
    image.info.setdefault("exif", exif_in_text(image.info))
    picture.reading = int(bool(png.profile) and not png.is_embedded)
    deep = None
    if isinstance(hole := image.info.get("transparency"), int) and image.mode == "L":
        # Pillow scales the samples to 8 bits, but not the one that is transparent.
        image.info["transparency"] = hole * 255 // (2**png.depth - 1)
        picture.reading = max(picture.reading, int(png.depth < 8))
    elif isinstance(hole, tuple) and png.depth == 16:
        deep, picture.reading = png.file, 2
    if not png.profile and not png.profile_fault:
        picture = _with_exif_profile(picture)
    return _Opened(picture, deep)


def _with_exif_profile(picture: Picture) -> Picture:
    if not picture.profile and (profile := exif_profile(picture.image)):
        picture.profile, picture.reading = profile, max(1, picture.reading)
    return picture


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
