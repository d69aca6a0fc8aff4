"""Small videos, written by PyAV."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from numpy.typing import NDArray
from PIL import Image

Picture = NDArray[np.uint8]
RED, WHITE = (200, 30, 40), (255, 255, 255)


def marked(width: int = 64, height: int = 48) -> Picture:
    """Red, with white in the corner at the top left."""
    picture = np.empty((height, width, 3), np.uint8)
    picture[:] = RED
    picture[: height // 2, : width // 2] = WHITE
    return picture


def scene(seed: int, frames: int, width: int = 96, height: int = 64) -> list[Picture]:
    """A camera that stands before something that has no like."""
    rough = np.random.default_rng(seed).integers(0, 255, (5, 7, 3), np.uint8)
    still = np.asarray(Image.fromarray(rough).resize((width, height), Image.Resampling.BICUBIC))
    return [still] * frames


def save_video(
    path: Path,
    frames: Sequence[Picture],
    codec: str = "libx264",
    pixels: str = "yuv444p",
    *,
    rate: int = 10,
    options: Mapping[str, str] | None = None,
    turned: int | None = None,
    aspect: Fraction | None = None,
    stated: Mapping[str, int] | None = None,
    matrix: int | None = None,
    times: Sequence[int] | None = None,
) -> Path:
    """Write a video.

    Args:
        turned: degrees counterclockwise by which a player turns it.
        aspect: of a pixel.
        stated: attributes of the codec, such as `color_primaries`.
        matrix: the matrix by which the pixels are made from RGB (H.273).
        times: of the frames, in units of 1 / rate.
    """
    usual = {"crf": "1"} if codec == "libx264" else {}
    with av.open(str(path), "w") as container:
        stream: Any = container.add_stream(codec, rate=rate, options={**usual, **(options or {})})
        stream.height, stream.width = frames[0].shape[:2]
        stream.pix_fmt = pixels
        if aspect is not None:
            stream.codec_context.sample_aspect_ratio = aspect
        for name, value in (stated or {}).items():
            setattr(stream.codec_context, name, value)
        if turned is not None:
            stream.set_display_rotation(turned)
        for number, picture in enumerate(frames):
            kind = "rgba" if picture.shape[2] == 4 else "rgb24"
            frame = av.VideoFrame.from_ndarray(picture, format=kind)
            frame = frame.reformat(format=pixels, dst_colorspace=matrix)
            frame.pts = number if times is None else times[number]
            frame.time_base = Fraction(1, rate)
            for packet in stream.encode(frame):
                container.mux(packet)
        for packet in stream.encode(None):
            container.mux(packet)
    return path
