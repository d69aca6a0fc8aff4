"""Near-copies: the same image in another size, quality or format, found by perceptual hashes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from mmtune.data.rows import Finding, Row
from mmtune.image.pictures.picture import Picture

SIDE = 64  # pixels along a side of the thumbnail that is hashed
BITS, HASH = 64, 8  # bits and bytes of a perceptual hash
GRID = 8  # pixels along a side of the grid of colours
LOOK = HASH + 3 * GRID * GRID  # bytes of a fingerprint
# Near-copies are within both bounds: the hash sees shapes but no colours, the grid sees colours
# but hardly any shapes.
NEAR_BITS = 6  # differing bits of the hashes
NEAR_COLOUR = 8.0  # mean difference of the grids' values, which go from 0 to 255
LIGHT = 240  # visible colours from here on are compared on black, where they can be told apart


def visual_fingerprint(picture: Picture, background: str = "white") -> bytes:
    """Compute what near-copies share: a DCT perceptual hash and a coarse grid of colours.

    The hash is `imagehash.phash`.

    Args:
        picture: decoded.
        background: colour behind transparent parts.

    Returns:
        `HASH` + 3 * `GRID` * `GRID` bytes.
    """
    import imagehash

    small = picture.thumbnail(SIDE, background)
    bits = imagehash.phash(small).hash.flatten()
    colours = small.resize((GRID, GRID), Image.Resampling.BOX)
    return bytes(np.packbits(bits)) + bytes(colours.tobytes())


def look_of(picture: Picture) -> bytes:
    """What tells a picture from others.

    Returns:
        `visual_fingerprint`, followed for pictures with transparent parts by the least and the
        greatest of their visible colours; empty if it has one colour only, or nothing is visible.
    """
    seen = picture.visible_range()
    if seen is None or (seen[0] == seen[1] and not picture.has_shape()):
        return b""
    if not picture.is_transparent:
        return visual_fingerprint(picture)
    # White icons can be told apart on black only.
    return visual_fingerprint(picture, "black" if min(seen[0]) >= LIGHT else "white") + b"".join(
        seen
    )


class KnownLooks:
    """Fingerprints of pictures, among which near-copies of further ones are found.

    Args:
        most: how many there will be, if that is known.
    """

    def __init__(self, most: int = 64) -> None:
        self._count = 0
        self._hashes = np.empty(most, np.uint64)
        self._colours = np.empty((most, LOOK - HASH), np.int16)

    def copies_of(self, look: bytes) -> Iterator[tuple[int, int]]:
        """The numbers of the pictures that look like one, with the bits that differ."""
        hash_, colours = _parts(look)
        differing = np.bitwise_count(self._hashes[: self._count] ^ hash_)
        for other in np.flatnonzero(differing <= NEAR_BITS):
            if np.abs(self._colours[other] - colours).mean() <= NEAR_COLOUR:
                yield int(other), int(differing[other])

    def add(self, look: bytes) -> None:
        """Add a picture; the first one has the number 0."""
        if self._count == len(self._hashes):
            self._hashes = np.resize(self._hashes, 2 * self._count)
            self._colours = np.resize(self._colours, (2 * self._count, LOOK - HASH))
        self._hashes[self._count], self._colours[self._count] = _parts(look)
        self._count += 1


def _parts(look: bytes) -> tuple[np.uint64, NDArray[np.int16]]:
    values = np.frombuffer(look[:LOOK], np.uint8)
    return values[:HASH].view(np.uint64)[0], values[HASH:].astype(np.int16)


def near_copies(rows: Sequence[Row], looks: Sequence[bytes]) -> list[Finding]:
    """Find rows whose image is a near-copy of an earlier row's.

    Args:
        rows: all rows.
        looks: `look_of` each row's image; empty: the row isn't compared.

    Returns:
        Warnings of the kind "near-duplicate", at most one per row.
    """
    shown = [i for i, look in enumerate(looks) if look]
    known = KnownLooks(max(1, len(shown)))
    findings = []
    for place in shown:
        row = rows[place]
        for other, bits in known.copies_of(looks[place]):
            first = rows[shown[other]]
            if row.content and row.content == first.content:
                break  # equal bytes have a finding of their own, "duplicate-content"
            findings.append(
                Finding(
                    "near-duplicate",
                    row.id,
                    f"{row.path} looks like {first.path} (row {first.id!r}): their perceptual "
                    f"hashes differ in {bits} of {BITS} bits",
                    "remove one of them; if both stay, they are kept in one split",
                    "warning",
                    first.id,
                )
            )
            break
        known.add(looks[place])
    return findings
