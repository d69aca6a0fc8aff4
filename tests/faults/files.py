"""Files that are broken in the ways in which files break, each small to make."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path

import numpy as np
import soundfile


def flac_bomb(path: Path) -> None:
    """66 KiB or so that claim 12 s and open to 244 MiB: eight channels at 655,350 Hz."""
    with soundfile.SoundFile(path, "w", 655_350, 8, format="FLAC", subtype="PCM_16") as file:
        silence = np.zeros((65_536, 8), dtype=np.int16)
        for _ in range(122):
            file.write(silence)


def flac_claiming(path: Path, source: bytes, frames: int) -> None:
    """`source` with another number of samples in its STREAMINFO (36 bits from byte 21.5)."""
    data = bytearray(source)
    old = int.from_bytes(data[18:26], "big")
    data[18:26] = ((old >> 36 << 36) | frames).to_bytes(8, "big")
    path.write_bytes(data)


def png_chunk(name: bytes, data: bytes) -> bytes:
    body = name + data
    return struct.pack(">I", len(data)) + body + struct.pack(">I", zlib.crc32(body))


def png(
    width: int, height: int, depth: int, color: int, pixels: bytes, extra: bytes = b""
) -> bytes:
    """A PNG from its parts; `pixels` are compressed here."""
    head = struct.pack(">IIBBBBB", width, height, depth, color, 0, 0, 0)
    parts = [png_chunk(b"IHDR", head), extra, png_chunk(b"IDAT", zlib.compress(pixels, 9))]
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts) + png_chunk(b"IEND", b"")


def png_bomb(path: Path) -> None:
    """17 KiB that open to 412 MiB as RGB: 12,000 x 12,000 pixels of one bit."""
    path.write_bytes(png(12_000, 12_000, 1, 0, bytes((1 + 1_500) * 12_000)))


def riff(data: bytes, claimed: int | None = None, form: int = 1, bits: int = 16) -> bytes:
    """A mono 16 kHz WAV of `data`; `claimed` is what its header says there is."""
    size = len(data) if claimed is None else claimed
    rate, width = 16_000, bits // 8
    head = struct.pack("<HHIIHH", form, 1, rate, rate * width, width, bits)
    body = b"fmt " + struct.pack("<I", 16) + head + b"data" + struct.pack("<I", size)
    return b"RIFF" + struct.pack("<I", min(2**32 - 1, 4 + len(body) + size)) + b"WAVE" + body + data
