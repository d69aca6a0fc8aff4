"""Colour profiles that Pillow doesn't read: of GIF's application block, and of BMP's headers."""

from __future__ import annotations

import struct
from typing import BinaryIO

from mmtune.image.pictures.colour_profiles import (
    D65,
    SRGB,
    is_profile,
    matrix_profile,
)

MAX_PROFILE = 16_000_000  # bytes
MAX_BLOCKS = 100_000  # of a GIF before its first image
DAMAGED = "its colour profile is damaged"
ELSEWHERE = "its colour profile is in another file, which isn't read"
# The header of a BMP: its size, the place of its colour space, and what that may be.
V4, V5 = 108, 124
CALIBRATED, EMBEDDED, LINKED = 0, 0x4D424544, 0x4C494E4B  # "MBED", "LINK"
ICC = b"ICCRGBG1012"  # name of GIF's application block for profiles


def stated_profile(file: BinaryIO) -> tuple[bytes, str]:
    """The profile that a GIF or a BMP states.

    Args:
        file: open at its start.

    Returns:
        An ICC profile, empty for sRGB or for none; and why one that is there isn't used.
    """
    head = file.read(14 + V5)
    if head.startswith((b"GIF87a", b"GIF89a")):
        return _of_gif(file, head)
    return _of_bmp(file, head) if head.startswith(b"BM") else (b"", "")


def _of_gif(file: BinaryIO, head: bytes) -> tuple[bytes, str]:
    """The profile of a GIF (ICC.1:2022, annex B.3), which stands before its first image."""
    if len(head) < 13:
        return b"", ""
    file.seek(13 + (3 * 2 ** ((head[10] & 7) + 1) if head[10] & 0x80 else 0))
    for _ in range(MAX_BLOCKS):
        if file.read(1) != b"!":  # an image, or the end
            return b"", ""
        label = file.read(1)
        name = _sub_block(file) if label == b"\xff" else b""
        data = bytearray()
        while piece := _sub_block(file):
            if name == ICC and len(data) <= MAX_PROFILE:
                data += piece
        if name == ICC:
            found = bytes(data)
            return (found, "") if is_profile(found) else (b"", DAMAGED)
    return b"", ""


def _sub_block(file: BinaryIO) -> bytes:
    size = file.read(1)
    return file.read(size[0]) if size else b""


def _of_bmp(file: BinaryIO, head: bytes) -> tuple[bytes, str]:
    """The profile of a BITMAPV4HEADER or BITMAPV5HEADER (wingdi.h)."""
    if len(head) < 14 + V4:
        return b"", ""
    size, space = struct.unpack_from("<I", head, 14)[0], struct.unpack_from("<I", head, 70)[0]
    if size < V4:
        return b"", ""
    if space == CALIBRATED:
        return _calibrated(head), ""
    if space == LINKED:
        return b"", ELSEWHERE
    if space != EMBEDDED or size < V5 or len(head) < 14 + V5:
        return SRGB, ""  # sRGB, or the system's
    place, length = struct.unpack_from("<II", head, 14 + 112)
    if not 0 < length <= MAX_PROFILE:
        return b"", DAMAGED
    file.seek(14 + place)
    found = file.read(length)
    return (found, "") if len(found) == length and is_profile(found) else (b"", DAMAGED)


def _calibrated(head: bytes) -> bytes:
    """The profile of end points (fixed point, 2.30) and gammas (16.16); their white is D65."""
    ends = [value / 2**30 for value in struct.unpack_from("<9i", head, 74)]
    gammas = [value / 2**16 for value in struct.unpack_from("<3I", head, 110)]
    places = list(D65)
    for x, y, z in zip(ends[::3], ends[1::3], ends[2::3], strict=True):
        if x + y + z <= 0:
            return SRGB  # nothing is stated
        places += [x / (x + y + z), y / (x + y + z)]
    gamma = sum(gammas) / 3
    if not 0.1 <= gamma <= 10:
        return SRGB
    try:
        # Most programs write the exponent from samples to light, such as 2.2; some its inverse.
        return matrix_profile(tuple(places), (gamma if gamma >= 1 else 1 / gamma,))
    except ValueError:
        return SRGB
