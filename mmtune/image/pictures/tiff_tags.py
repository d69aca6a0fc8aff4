"""Grey of a TIFF in any depth and polarity: the values that are black and white."""

from __future__ import annotations

import io
import struct
from typing import BinaryIO

from PIL import Image

from mmtune.image.pictures.spliced import spliced

PHOTOMETRIC, BITS, SAMPLE_FORMAT = 262, 258, 339
WHITE_IS_ZERO, BLACK_IS_ZERO = 0, 1
UNSIGNED, SIGNED = 1, 2
MAX_TAGS = 1000


def grey_range(image: Image.Image, is_inverted: bool = False) -> tuple[float, float]:
    """The values that are black and white in a grey TIFF of more than 8 bits.

    Args:
        image: opened as TIFF, not yet decoded.
        is_inverted: 0 is white, though the tag that Pillow read states black.
    """
    tags = image.tag_v2
    bits = int(_first(tags.get(BITS), 1))
    kind = int(_first(tags.get(SAMPLE_FORMAT), UNSIGNED))
    low, high = 0.0, float(2**bits - 1)
    if image.mode == "F":
        low, high = 0.0, 1.0
    elif kind == SIGNED:
        low, high = -float(2 ** (bits - 1)), float(2 ** (bits - 1) - 1)
    # Pillow itself inverts up to 8 bits.
    inverted = is_inverted or _first(tags.get(PHOTOMETRIC), BLACK_IS_ZERO) == WHITE_IS_ZERO
    return (high, low) if inverted else (low, high)


def with_known_polarity(file: BinaryIO, head: bytes) -> tuple[BinaryIO, bool]:
    """State black as zero in a TIFF of more than 8 bits, because Pillow knows few of the others.

    Args:
        file: the open file, at its start.
        head: its first bytes.

    Returns:
        What to decode, at its start; and whether white is zero, so that the grey is to be inverted.
    """
    order = {b"II*\0": "<", b"MM\0*": ">"}.get(head[:4])
    if order is None:
        return file, False
    size = file.seek(0, io.SEEK_END)
    place, bits = _polarity(file, order, size)
    file.seek(0)
    if place is None or bits <= 8:
        return file, False
    stated = struct.pack(order + "H", BLACK_IS_ZERO)
    return spliced(file, [(0, place), stated, (place + 2, size)]), True


def _polarity(file: BinaryIO, order: str, size: int) -> tuple[int | None, int]:
    """Where the first directory states that white is zero, and the bits of a sample."""
    file.seek(4)
    [start] = struct.unpack(order + "I", file.read(4).ljust(4, b"\0"))
    if not 8 <= start < size - 2:
        return None, 0
    file.seek(start)
    [count] = struct.unpack(order + "H", file.read(2))
    place, bits = None, 1
    for i in range(min(count, MAX_TAGS)):
        entry = file.read(12)
        if len(entry) < 12:
            break
        tag, kind, number, value = struct.unpack(order + "HHIH2x", entry)
        if tag == PHOTOMETRIC and kind == 3 and value == WHITE_IS_ZERO:
            place = start + 2 + 12 * i + 8
        elif tag == BITS and kind == 3 and number == 1:
            bits = value
    return place, bits


def _first(value: object, default: int) -> float:
    if isinstance(value, tuple):
        value = value[0] if value else default
    return float(value) if isinstance(value, (int, float)) else default
