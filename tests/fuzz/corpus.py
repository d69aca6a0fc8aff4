"""Valid files of each format, made by code: what the mutations begin with."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Mapping
from functools import cache, lru_cache
from pathlib import Path
from typing import Any

from tests.fuzz import media, mutate
from tests.fuzz.mutate import Mutator

Files = Mapping[str, bytes]
STORED = Path(__file__).parents[1] / "conformance" / "stored"

MUTATORS: dict[str, Mutator] = {
    ".json": mutate.json_file, ".jsonl": mutate.json_lines, ".yaml": mutate.yaml_file,
    ".safetensors": media.safetensors, ".wav": media.iff("little"), ".rf64": media.iff("little"),
    ".aiff": media.iff("big"), ".webp": media.iff("little"), ".flac": media.flac,
    ".png": media.png, ".jpg": media.jpeg, ".ogg": media.header(120), ".opus": media.header(120),
    ".mp3": media.header(400), ".m4a": media.header(2000), ".mp4": media.header(2000),
    ".webm": media.header(400), ".wma": media.header(400), ".avi": media.iff("little"),
    ".mov": media.header(2000), ".mkv": media.header(400), ".flv": media.header(200),
    ".caf": media.header(200), ".gif": media.header(60), ".bmp": media.header(60),
    ".tif": media.header(200), ".avif": media.header(400), ".parquet": media.header(200),
    ".pt": media.header(400),
}  # fmt: skip


def mutator_of(name: str) -> Mutator:
    """The mutator of a file by its suffix; text for the others."""
    return MUTATORS.get(Path(name).suffix, mutate.text)


def lines(*rows: Any) -> bytes:
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode()


def table(delimiter: str, *rows: tuple[str, ...]) -> bytes:
    buffer = io.StringIO()
    csv.writer(buffer, delimiter=delimiter, lineterminator="\n").writerows(rows)
    return buffer.getvalue().encode()


@cache
def sound(format: str, subtype: str | None = None, channels: int = 1, rate: int = 16_000) -> bytes:
    """A quarter of a second of two tones."""
    import numpy as np
    import soundfile

    times = np.arange(rate // 4) / rate
    samples = np.stack([0.3 * np.sin(2 * np.pi * 300 * times)] * channels, axis=1)
    buffer = io.BytesIO()
    soundfile.write(buffer, samples, rate, format=format, subtype=subtype)
    return buffer.getvalue()


@cache
def by_ffmpeg(container: str, codec: str) -> bytes:
    """The same in a container that libsndfile doesn't read."""
    import av
    import numpy as np

    buffer = io.BytesIO()
    with av.open(buffer, "w", format=container) as out:
        stream: Any = out.add_stream(codec, rate=48_000)
        stream.layout = "mono"
        samples = (np.sin(np.arange(24_000) / 20) * 9000).astype(np.int16).reshape(1, -1)
        frame = av.AudioFrame.from_ndarray(samples, format="s16", layout="mono")
        frame.sample_rate = 48_000
        resampler = av.AudioResampler(stream.format, "mono", 48_000, frame_size=stream.frame_size)
        for each in [*resampler.resample(frame), *resampler.resample(None)]:
            for packet in stream.encode(each):
                out.mux(packet)
        for packet in stream.encode(None):
            out.mux(packet)
    return buffer.getvalue()


@lru_cache(maxsize=1)
def video() -> bytes:
    """Some frames without a sound track."""
    import av
    import numpy as np

    buffer = io.BytesIO()
    with av.open(buffer, "w", format="mp4") as out:
        stream: Any = out.add_stream("mpeg4", rate=10)
        stream.width = stream.height = 32
        stream.pix_fmt = "yuv420p"
        for i in range(3):
            pixels = np.full((32, 32, 3), 40 * i, np.uint8)
            for packet in stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")):
                out.mux(packet)
        for packet in stream.encode(None):
            out.mux(packet)
    return buffer.getvalue()


def sounds() -> dict[str, bytes]:
    """One file of each sound format that can be made here."""
    makers: dict[str, Callable[[], bytes]] = {
        "a.wav": lambda: sound("WAV", "PCM_16"),
        "float.wav": lambda: sound("WAV", "FLOAT", 2),
        "wide.wav": lambda: sound("WAVEX", "PCM_24", 2),
        "ulaw.wav": lambda: sound("WAV", "ULAW", 1, 8000),
        "a.rf64": lambda: sound("RF64", "PCM_16"),
        "a.aiff": lambda: sound("AIFF", "PCM_16", 2),
        "a.flac": lambda: sound("FLAC", "PCM_16"),
        "two.flac": lambda: sound("FLAC", "PCM_16", 2, 44_100),
        "a.ogg": lambda: sound("OGG", "VORBIS"),
        "a.opus": lambda: sound("OGG", "OPUS"),
        "a.mp3": lambda: sound("MP3", None),
        "a.m4a": lambda: by_ffmpeg("ipod", "aac"),
        "a.webm": lambda: by_ffmpeg("webm", "libopus"),
        "a.aac": lambda: by_ffmpeg("adts", "aac"),
        "a.wma": lambda: by_ffmpeg("asf", "wmav2"),
        "a.avi": lambda: by_ffmpeg("avi", "pcm_s16le"),
        "a.mov": lambda: by_ffmpeg("mov", "alac"),
        "a.mkv": lambda: by_ffmpeg("matroska", "pcm_f32le"),
        "a.flv": lambda: by_ffmpeg("flv", "adpcm_swf"),
        "a.caf": lambda: by_ffmpeg("caf", "alac"),
        "silent.mp4": video,
    }
    return _made(makers)


def pictures() -> dict[str, bytes]:
    """One file of each image format that can be made here."""
    from PIL import Image

    def saved(mode: str, format: str, **more: Any) -> Callable[[], bytes]:
        def make() -> bytes:
            buffer = io.BytesIO()
            image = Image.linear_gradient("L").resize((24, 16)).convert(mode)
            image.save(buffer, format=format, **more)
            return buffer.getvalue()

        return make

    exif = Image.Exif()
    exif[0x0112] = 6
    from PIL import ImageCms

    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    makers = {
        "rgb.png": saved("RGB", "PNG"),
        "grey16.png": saved("I;16", "PNG"),
        "clear.png": saved("RGBA", "PNG", icc_profile=profile),
        "palette.png": saved("P", "PNG", transparency=3),
        "one.png": saved("1", "PNG"),
        "grey.png": saved("LA", "PNG"),
        "hole.png": saved("I;16", "PNG", transparency=300),
        "profile.png": saved("L", "PNG", icc_profile=profile),
        "lab.tif": saved("LAB", "TIFF", icc_profile=profile),
        "huge.png": bomb,
        "a.jpg": saved("RGB", "JPEG", exif=exif, icc_profile=profile),
        "cmyk.jpg": saved("CMYK", "JPEG"),
        "grey.jpg": saved("L", "JPEG"),
        "a.webp": saved("RGBA", "WEBP"),
        "a.gif": saved("P", "GIF", transparency=1),
        "a.bmp": saved("RGB", "BMP"),
        "a.tif": saved("F", "TIFF"),
        "a.avif": saved("RGB", "AVIF"),
    }
    return _made(makers)


def bomb() -> bytes:
    """A few KiB that claim 12,000 x 12,000 pixels."""
    from tests.faults.files import png

    return png(12_000, 12_000, 1, 0, bytes(1000))


def _made(makers: Mapping[str, Callable[[], bytes]]) -> dict[str, bytes]:
    found = {}
    for name, make in makers.items():
        try:
            found[name] = make()
        except (OSError, ValueError, KeyError, RuntimeError, ImportError):
            continue  # this build of the library can't write the format
    return found


@lru_cache(maxsize=1)
def parquet() -> bytes:
    """A table with sound in its cells, as Hugging Face writes it; b"" without pyarrow."""
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError:
        return b""
    data = sound("WAV", "PCM_16")
    rows = [{"audio": {"bytes": data, "path": "a.wav"}, "text": "some words"}] * 2
    buffer = io.BytesIO()
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), buffer)
    return buffer.getvalue()


@lru_cache(maxsize=1)
def typed_parquet() -> bytes:
    """The same with the features of Hugging Face: sound and a language by its number."""
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError:
        return b""
    cell = {"bytes": sound("WAV", "PCM_16"), "path": "a.wav"}
    rows = [{"audio": cell, "text": text, "language": i} for i, text in enumerate(("one", "two"))]
    features = {
        "audio": {"_type": "Audio"}, "text": {"dtype": "string", "_type": "Value"},
        "language": {"names": ["en", "de"], "_type": "ClassLabel"},
    }  # fmt: skip
    about = {"huggingface": json.dumps({"info": {"features": features}})}
    table = pyarrow.Table.from_pylist(rows).replace_schema_metadata(about)
    buffer = io.BytesIO()
    pyarrow.parquet.write_table(table, buffer)
    return buffer.getvalue()


@cache
def tensors(layer: str) -> bytes:
    import torch
    from safetensors.torch import save

    from mmtune.system.hashing import hash_tensors

    name = f"base_model.model.model.{layer}.self_attn.q_proj.lora_A.weight"
    values = {name: torch.ones(2, 4), "b": torch.zeros(3)}
    facts = {"key": "k" * 64, "sha256": hash_tensors(values.items()), "note": "toy",
             "step": "3", "validation": "{}"}  # fmt: skip
    return bytes(save(values, metadata=facts))


def stored(*parts: str) -> bytes:
    return STORED.joinpath(*parts).read_bytes()
