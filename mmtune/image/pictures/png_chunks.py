"""Chunks of a PNG file: those that say what its pixels are, without the others.

Metadata must not make pixels unreadable: programs write workflows of megabytes and damaged colour
profiles into files whose pixels are whole. The PNG specification (third edition, section 13.1) lets
a decoder ignore ancillary chunks, so Pillow is given a file without them.
"""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, BinaryIO

from mmtune.image.pictures.colour_profiles import SRGB, cicp_profile, gamma_profile, is_profile
from mmtune.image.pictures.spliced import Piece, spliced

MAGIC = b"\x89PNG\r\n\x1a\n"
MAX_CHUNK = 4_000_000  # bytes of an ancillary chunk that is read
MAX_PROFILE = 16_000_000  # bytes of an inflated colour profile
MAX_WORDS = 1_000_000  # bytes of inflated text; Pillow refuses a file with more
# Text that may hold the orientation: XMP, and Exif as ImageMagick writes it.
WORDS = (b"XML:com.adobe.xmp", b"Raw profile type exif", b"Raw profile type APP1")
ANIMATION = 8  # bytes of an acTL chunk
PIXELS = (b"IHDR", b"PLTE", b"IDAT", b"IEND")
COLOURS = (b"cICP", b"iCCP", b"sRGB", b"gAMA", b"cHRM")


@dataclass
class Png:
    """A PNG file without the chunks that say nothing of its pixels.

    Attributes:
        file: what a decoder reads.
        depth: bits of a sample.
        profile: an ICC profile of its colours; empty: sRGB, or not stated.
        profile_fault: why an embedded profile isn't used; empty if there is none or it is used.
        is_embedded: the profile is embedded, and not made of what other chunks state.
    """

    file: BinaryIO
    depth: int = 8
    profile: bytes = b""
    profile_fault: str = ""
    is_embedded: bool = False


@dataclass
class _Chunks:
    pieces: list[Piece] = field(default_factory=list)  # before the pixels
    pixels: list[Piece] = field(default_factory=list)  # and from there on
    colours: dict[bytes, bytes | None] = field(default_factory=dict)  # None: it is damaged
    depth: int = 8


def read_png(file: BinaryIO) -> Png | None:
    """Read the chunks of an open file.

    Args:
        file: open at its start; it must stay open as long as the result is used.

    Returns:
        The PNG; None: it is none.

    Raises:
        ValueError: its colours are of an HDR system.
        OSError: it can't be read.
    """
    if file.read(len(MAGIC)) != MAGIC:
        return None
    size = file.seek(0, io.SEEK_END)
    chunks = _Chunks(pieces=[MAGIC])
    place = len(MAGIC)
    while place + 12 <= size:
        file.seek(place)
        length, name = struct.unpack(">I4s", file.read(8))
        end = place + 12 + length
        if end > size:
            break  # cut off: the decoder says so
        _take(file, chunks, name, place, length)
        place = end
        if name == b"IEND":
            break
    else:
        place = size
    if place < size:
        _join(chunks.pixels, (place, size))
    profile, fault, is_embedded = _profile(chunks.colours)
    decodable = spliced(file, [*chunks.pieces, *chunks.pixels])
    return Png(decodable, chunks.depth, profile, fault, is_embedded)


def exif_in_text(info: Mapping[Any, Any]) -> bytes:
    """The Exif that ImageMagick writes as hexadecimal text; empty if there is none.

    Args:
        info: the texts of an opened PNG, by their keywords.
    """
    for word in WORDS[1:]:
        lines = str(info.get(word.decode(), "")).split("\n")
        try:
            if found := bytes.fromhex("".join(lines[3:])):
                return found
        except ValueError:
            continue
    return b""


def _take(file: BinaryIO, chunks: _Chunks, name: bytes, place: int, length: int) -> None:
    whole = (place, place + 12 + length)
    if name in PIXELS or name[:1].isupper():
        if name == b"IHDR" and length >= 9:
            chunks.depth = file.read(9)[8]
        # An unknown critical chunk is kept, too: the decoder refuses it.
        _join(
            chunks.pixels if chunks.pixels or name in (b"IDAT", b"IEND") else chunks.pieces, whole
        )
        return
    if chunks.pixels and name in (*COLOURS, b"tRNS"):
        return  # behind the pixels it has no meaning (PNG specification, section 5.6)
    if name == b"acTL" and length != ANIMATION:
        return  # a damaged animation; its first frame is a picture
    if length > MAX_CHUNK and name in COLOURS:
        chunks.colours.setdefault(name, None)
    kept = (b"tRNS", b"acTL", b"eXIf", *COLOURS, b"tEXt", b"zTXt", b"iTXt")
    if length > MAX_CHUNK or name not in kept:
        return
    data = file.read(length)
    sound = file.read(4) == struct.pack(">I", zlib.crc32(data, zlib.crc32(name)))
    if name in COLOURS:
        chunks.colours.setdefault(name, data if sound else None)
    elif sound and (not name.endswith(b"Xt") or _is_short_text(name, data)):
        # Some programs write Exif behind the pixels, where it is found too late.
        _join(chunks.pieces, whole)


def _is_short_text(name: bytes, data: bytes) -> bool:
    word, _, rest = data.partition(b"\0")
    if word not in WORDS or len(data) > MAX_WORDS:
        return False
    if name == b"tEXt":
        return True
    packed = rest[1:] if name == b"zTXt" else rest[2:].split(b"\0", 2)[-1]
    if name == b"iTXt" and rest[:1] == b"\0":
        return True
    return _inflated(packed, MAX_WORDS) is not None and rest[:1] in (b"\0", b"\1")


def _inflated(data: bytes, most: int) -> bytes | None:
    try:
        reader = zlib.decompressobj()
        found = reader.decompress(data, most)
    except zlib.error:
        return None
    return None if reader.unconsumed_tail else found


def _profile(colours: dict[bytes, bytes | None]) -> tuple[bytes, str, bool]:
    """The profile by the order of the PNG specification, section 12.12; b"" for sRGB.

    Returns:
        The profile, the fault of an embedded one, and whether the profile is embedded.
    """
    fault = ""
    cicp = colours.get(b"cICP")
    if cicp is not None and len(cicp) == 4 and cicp[2:] == b"\0\1":
        found = cicp_profile(cicp[0], cicp[1])
        if found is not None:
            return found, "", False
    if b"iCCP" in colours:
        icc = colours[b"iCCP"] or b""
        packed = icc.partition(b"\0")[2]
        found = _inflated(packed[1:], MAX_PROFILE) if packed[:1] == b"\0" else None
        if found is not None and is_profile(found):
            return found, "", True
        fault = "its colour profile is damaged"
    if colours.get(b"sRGB") is not None:
        return SRGB, fault, False
    gamma, primaries = colours.get(b"gAMA"), colours.get(b"cHRM")
    if gamma is None or len(gamma) < 4:
        return b"", fault, False
    places = struct.unpack(">8I", primaries[:32]) if primaries and len(primaries) >= 32 else None
    xy = None if places is None else tuple(value / 100_000 for value in places)
    return gamma_profile(struct.unpack(">I", gamma[:4])[0] / 100_000, xy), fault, False


def _join(pieces: list[Piece], piece: tuple[int, int]) -> None:
    last = pieces[-1] if pieces else b""
    if isinstance(last, tuple) and last[1] == piece[0]:
        pieces[-1] = (last[0], piece[1])
    else:
        pieces.append(piece)
