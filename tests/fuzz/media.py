"""Structure-aware mutations of binary files: chunks, headers, lengths and checksums."""

from __future__ import annotations

import json
import random
import struct
import zlib
from collections.abc import Mapping, Sequence

from tests.faults.files import png_chunk
from tests.fuzz.mutate import Mutator, _dumped, change_tree, cut_or_repeat, flip

NUMBERS: Mapping[int, Sequence[int]] = {
    1: (0, 1, 0x7F, 0x80, 0xFF),
    2: (0, 1, 2, 3, 7, 0x7FFF, 0x8000, 0xFFFE, 0xFFFF),
    4: (0, 1, 2, 0xFF, 0x10000, 0x7FFFFFFF, 0x80000000, 0x7FFFF000, 0xFFFFFFFF),
    8: (0, 1, 2**31, 2**32, 2**62, 2**63, 2**64 - 1),
}


def _put_number(data: bytes, at: int, chance: random.Random) -> bytes:
    width = chance.choice([1, 2, 2, 4, 4])
    order = chance.choice(["little", "big"])
    number = chance.choice([*NUMBERS[width], chance.randrange(256**width)])
    return data[:at] + number.to_bytes(width, order) + data[at + width :]  # type: ignore[arg-type]


def header(size: int) -> Mutator:
    """A mutator of fields in the first `size` bytes."""

    def change(data: bytes, chance: random.Random) -> bytes:
        for _ in range(chance.choice([1, 1, 2, 3])):
            data = _put_number(data, chance.randrange(max(1, min(size, len(data)))), chance)
        return data

    return change


def _chunks(data: bytes, start: int, order: str) -> list[tuple[bytes, bytes]]:
    found = []
    at = start
    while at + 8 <= len(data):
        name = data[at : at + 4]
        size = int.from_bytes(data[at + 4 : at + 8], order)  # type: ignore[arg-type]
        found.append((name, data[at + 8 : at + 8 + size]))
        at += 8 + size + size % 2
    return found


def iff(order: str) -> Mutator:
    """A mutator of RIFF (little) and AIFF (big) files by chunk."""

    def change(data: bytes, chance: random.Random) -> bytes:
        chunks = _chunks(data, 12, order)
        if not chunks or chance.random() < 0.2:
            return chance.choice([flip, cut_or_repeat, header(44)])(data, chance)
        i = chance.randrange(len(chunks))
        name, body = chunks[i]
        claimed: dict[int, int] = {}
        what = chance.randrange(6)
        if what == 0:
            del chunks[i]
        elif what == 1:
            chunks.insert(chance.randrange(len(chunks) + 1), chunks[i])
        elif what == 2:
            claimed[i] = chance.choice(NUMBERS[4])
        elif what == 3:
            extra = chance.choice([b"LIST", b"ds64", b"fact", b"id3 ", b"JUNK", b"data", b"fmt "])
            chunks.insert(i, (extra, bytes(chance.randrange(64))))
        elif body:
            chunks[i] = (name, _put_number(body, chance.randrange(min(len(body), 40)), chance))
        parts = [
            n + claimed.get(k, len(b)).to_bytes(4, order) + b + bytes(len(b) % 2)  # type: ignore[arg-type]
            for k, (n, b) in enumerate(chunks)
        ]
        whole = data[8:12] + b"".join(parts)
        return data[:4] + len(whole).to_bytes(4, order) + whole  # type: ignore[arg-type]

    return change


def png(data: bytes, chance: random.Random) -> bytes:
    """Change chunks of a PNG; checksums are right again, so that what they hold is read."""
    chunks = []
    at = 8
    while at + 12 <= len(data):
        size = int.from_bytes(data[at : at + 4], "big")
        chunks.append((data[at + 4 : at + 8], data[at + 8 : at + 8 + size]))
        at += 12 + size
    if not chunks or chance.random() < 0.2:
        return chance.choice([flip, cut_or_repeat, header(33)])(data, chance)
    i = chance.randrange(len(chunks))
    name, body = chunks[i]
    what = chance.randrange(7)
    if what == 0:
        del chunks[i]
    elif what == 1:
        chunks.insert(chance.randrange(len(chunks) + 1), chunks[i])
    elif what == 2:
        big = zlib.compress(bytes(chance.choice([0, 10, 3_000_000])))
        extra = chance.choice([(b"zTXt", b"k\0\0" + big), (b"iCCP", b"k\0\0" + big),
                               (b"tRNS", bytes(chance.randrange(9))), (b"acTL", bytes(8)),
                               (b"eXIf", b"MM\0*" + bytes(chance.randrange(40))),
                               (b"PLTE", bytes(3 * chance.randrange(300)))])  # fmt: skip
        chunks.insert(chance.randrange(len(chunks)) or 1, extra)
    elif what == 3:
        width, height = (chance.choice([0, 1, 7, 64, 9000, 2**31 - 1]) for _ in range(2))
        depth, colour = chance.choice([1, 2, 4, 8, 16, 3]), chance.choice([0, 2, 3, 4, 6, 5])
        chunks[0] = (b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0))
    elif body:
        chunks[i] = (name, _put_number(body, chance.randrange(len(body)), chance))
    return data[:8] + b"".join(png_chunk(n, b) for n, b in chunks)


def jpeg(data: bytes, chance: random.Random) -> bytes:
    """Change segments of a JPEG: lengths, the frame, EXIF."""
    places = [i for i in range(len(data) - 4) if data[i] == 0xFF and 0xC0 <= data[i + 1] < 0xFF]
    if not places or chance.random() < 0.25:
        return chance.choice([flip, cut_or_repeat, header(200)])(data, chance)
    at = chance.choice(places)
    what = chance.randrange(4)
    if what == 0:
        return _put_number(data, at + 2, chance)
    if what == 1:
        return _put_number(data, at + 4 + chance.randrange(12), chance)
    if what == 2:
        order = chance.choice([b"II*\0\x08\0\0\0", b"MM\0*\0\0\0\x08"])
        exif = b"Exif\0\0" + order + bytes(chance.randrange(256) for _ in range(40))
        return data[:2] + b"\xff\xe1" + struct.pack(">H", 2 + len(exif)) + exif + data[2:]
    return data[: at + 1] + bytes([chance.randrange(0xC0, 0xFF)]) + data[at + 2 :]


def flac(data: bytes, chance: random.Random) -> bytes:
    """Change STREAMINFO: sizes of blocks and frames, rate, channels, length."""
    if chance.random() < 0.3:
        return chance.choice([flip, cut_or_repeat])(data, chance)
    return _put_number(data, 4 + chance.randrange(38), chance)


def safetensors(data: bytes, chance: random.Random) -> bytes:
    """Change the header's JSON, its length, or the bytes."""
    length = int.from_bytes(data[:8], "little")
    if chance.random() < 0.25 or length > len(data):
        return chance.choice([flip, cut_or_repeat, header(8)])(data, chance)
    if chance.random() < 0.1:
        return chance.choice(NUMBERS[8]).to_bytes(8, "little") + data[8:]
    try:
        head = json.loads(data[8 : 8 + length])
        changed = change_tree(head, chance)
    except (ValueError, RecursionError):
        return flip(data, chance)
    new = _dumped(changed)
    new += b" " * (-len(new) % 8)
    return len(new).to_bytes(8, "little") + new + data[8 + length :]
