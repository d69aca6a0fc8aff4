"""Open picture files with a list of formats and a limit on their size."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from PIL.Image import Image

MAX_PIXELS = 64_000_000  # 183 MiB as RGB; enough for cameras of 50 megapixels
MAX_SIDE = 65_535  # pixels, the limit of JPEG: a longer side is a damaged header's
# Only formats that Pillow decodes itself: it would start Ghostscript for an EPS.
FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF", "AVIF")


@contextmanager
def opened_picture(path: Path) -> Iterator[Image]:
    """Open a picture and read its header; the caller decodes it.

    The content decides the format, not the file's name.

    Raises:
        OSError: the file is missing, or no picture in one of `FORMATS`.
        ValueError: it has more than `MAX_PIXELS` pixels, or a side above `MAX_SIDE`.
    """
    from PIL import Image

    try:
        with warnings.catch_warnings():  # the limit below is lower than the one it warns of
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            image = Image.open(path, formats=FORMATS)
    except Image.DecompressionBombError as error:
        raise ValueError(str(error)) from None
    with image:
        if image.width * image.height > MAX_PIXELS or max(image.size) > MAX_SIDE:
            raise ValueError(
                f"{image.width}x{image.height} pixels; the limits are {MAX_PIXELS:,} pixels and "
                f"{MAX_SIDE:,} for a side"
            )
        yield image
