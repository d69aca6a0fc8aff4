"""Small files of the formats that only FFmpeg reads, encoded by FFmpeg itself."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import av
import numpy as np

# Suffix, codec, rate; the container follows from the suffix.
CODECS: dict[str, tuple[str, int]] = {
    "m4a": ("aac", 44_100),
    "mp4": ("aac", 48_000),
    "webm": ("libopus", 48_000),
    "mkv": ("flac", 16_000),
    "aac": ("aac", 22_050),
    "amr": ("libopencore_amrnb", 8_000),
    "3gp": ("libopencore_amrnb", 8_000),
    "wma": ("wmav2", 44_100),
}


def tones(seconds: float, rate: int, channels: int = 1) -> np.ndarray:
    """A tone a channel, [samples, channels], which take turns like syllables."""
    t = np.arange(int(seconds * rate)) / rate
    beats = [0.3 * (1 + (-1) ** i * np.sin(2 * np.pi * 3 * t)) for i in range(channels)]
    sides = [beat * np.sin(2 * np.pi * 300 * (i + 1) * t) for i, beat in enumerate(beats)]
    return np.stack(sides, 1).astype(np.float32)


def encode(
    path: Path, samples: np.ndarray, rate: int, codec: str, *, video: bool = False, **options: Any
) -> Path:
    """Write [samples, channels] with a codec; the container is the suffix's."""
    path.parent.mkdir(parents=True, exist_ok=True)
    layout = {1: "mono", 2: "stereo"}[samples.shape[1]]
    with av.open(str(path), "w", **options) as out:
        picture = None
        if video:
            picture = out.add_stream("mpeg4", rate=10)
            picture.width, picture.height, picture.pix_fmt = 64, 48, "yuv420p"
        track = out.add_stream(codec, rate=rate, layout=layout) if samples.size else None
        if track is not None and codec.startswith(("aac", "wma")):
            track.bit_rate = 96_000
        if picture is not None:
            for i in range(max(10, int(len(samples) / rate * 10))):
                image = av.VideoFrame.from_ndarray(
                    np.full((48, 64, 3), 20 * i % 255, np.uint8), format="rgb24"
                )
                out.mux(picture.encode(image))
            out.mux(picture.encode(None))
        if track is not None:
            step = track.codec_context.frame_size or 1024
            fit = av.AudioResampler(format=track.format, layout=layout, rate=rate, frame_size=step)
            frame = av.AudioFrame.from_ndarray(
                np.ascontiguousarray(samples.T), format="fltp", layout=layout
            )
            frame.rate, frame.pts = rate, 0
            for part in [*fit.resample(frame), *fit.resample(None)]:
                out.mux(track.encode(part))
            out.mux(track.encode(None))
    return path
