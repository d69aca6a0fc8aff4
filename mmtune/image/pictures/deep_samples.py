"""Transparency of PNG files with 16-bit samples, of which Pillow keeps 8."""

from __future__ import annotations

from typing import Any, BinaryIO

import numpy as np
from PIL import Image


def exact_alpha(file: BinaryIO) -> Image.Image:
    """The alpha of an RGB PNG of 16 bits whose tRNS chunk names one transparent colour.

    The colour is compared with whole samples, before they are reduced (PNG specification, third
    edition, section 13.16). FFmpeg's decoder does so, and gives the samples whole.

    Args:
        file: the PNG.

    Raises:
        ValueError: it can't be decoded so.
    """
    import av

    av.logging.set_level(av.logging.PANIC)
    file.seek(0)
    reader: Any = av.open(file, format="png_pipe")
    with reader:
        frame = next(reader.decode(video=0)).reformat(format="rgba64le")
    alpha = frame.to_ndarray()[..., 3]
    return Image.fromarray(np.where(alpha > 0, 255, 0).astype(np.uint8))
