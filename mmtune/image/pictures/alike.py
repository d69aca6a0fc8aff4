"""Near-copies: the same image in another size, quality or format.

Perceptual hashes find the candidates, and a comparison of small pictures decides.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageChops, ImageFilter

from mmtune.data.rows import Finding, Row
from mmtune.image.pictures.picture import Picture

SIDE = 64  # pixels along a side of the thumbnail that is hashed
BITS, HASH = 64, 8  # bits and bytes of a perceptual hash
GRID = 8  # pixels along a side of the grid of colours
COARSE = HASH + 3 * GRID * GRID  # bytes of the hash and the grid
DETAIL = 32  # pixels along a side of the small picture in which details are compared
LOOK = COARSE + 3 * DETAIL * DETAIL  # bytes of a fingerprint
# Candidates are within both bounds: the hash sees shapes but no colours, the grid sees colours
# but hardly any shapes.
NEAR_BITS = 6  # differing bits of the hashes
# The hash of a symmetric icon is partly noise: its copies differ by up to 12 bits. Where details
# are compared, more candidates do no harm; of unlike photographs 1 pair in 300,000 is one.
WIDE_BITS = 14
NEAR_COLOUR = 8.0  # mean difference of the grids' values, which go from 0 to 255
# Near-copies are candidates of which no spot of the small pictures differs by more, in values from
# 0 to 255. Pictures saved with JPEG's quality 10 differ by 14, the same disc with another icon
# on a tenth of it by 36 and more.
NEAR_DETAIL = 32.0
NEIGHBOURHOOD = 3  # pixels; a cropped copy has its edges one pixel from where they were
CANDIDATES = 4  # compared in detail for each picture: in a set of icons all may be candidates
LIGHT = 240  # visible colours from here on are compared on black, where they can be told apart


def visual_fingerprint(picture: Picture, background: str = "white") -> bytes:
    """Compute what near-copies share: a perceptual hash, a grid of colours and a small picture.

    The hash is `imagehash.phash`.

    Args:
        picture: decoded.
        background: colour behind transparent parts.

    Returns:
        `LOOK` bytes.
    """
    import imagehash

    small = picture.thumbnail(SIDE, background)
    bits = imagehash.phash(small).hash.flatten()
    colours = small.resize((GRID, GRID), Image.Resampling.BOX)
    detail = small.resize((DETAIL, DETAIL), Image.Resampling.BOX)
    return bytes(np.packbits(bits)) + bytes(colours.tobytes()) + bytes(detail.tobytes())


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
    """Fingerprints of pictures, among which those that look like further ones are found.

    The comparison is coarse: frames of one scene, and icons on one disc, look alike.

    Args:
        most: how many there will be, if that is known.
    """

    def __init__(self, most: int = 64) -> None:
        self._count = 0
        self._hashes = np.empty(most, np.uint64)
        self._colours = np.empty((most, COARSE - HASH), np.int16)

    def copies_of(self, look: bytes, bits: int = NEAR_BITS) -> list[tuple[int, int]]:
        """The numbers of the pictures that look like one, with the bits that differ.

        Args:
            look: from `look_of` or `visual_fingerprint`.
            bits: how many bits of the hashes may differ.

        Returns:
            Those with the most similar colours first.
        """
        hash_, colours = _parts(look)
        differing = np.bitwise_count(self._hashes[: self._count] ^ hash_)
        others = np.flatnonzero(differing <= bits)
        apart = np.abs(self._colours[others] - colours).mean(1)
        order = np.argsort(apart, kind="stable")
        return [(int(i), int(differing[i])) for i in others[order[apart[order] <= NEAR_COLOUR]]]

    def add(self, look: bytes) -> None:
        """Add a picture; the first one has the number 0."""
        if self._count == len(self._hashes):
            self._hashes = np.resize(self._hashes, 2 * self._count)
            self._colours = np.resize(self._colours, (2 * self._count, COARSE - HASH))
        self._hashes[self._count], self._colours[self._count] = _parts(look)
        self._count += 1


def _parts(look: bytes) -> tuple[np.uint64, NDArray[np.int16]]:
    values = np.frombuffer(look[:COARSE], np.uint8)
    return values[:HASH].view(np.uint64)[0], values[HASH:].astype(np.int16)


def same_in_detail(look: bytes, other: bytes) -> bool:
    """Whether pictures that look alike in `KnownLooks` are also the same in their details.

    A pixel counts as far as it lies outside the values that the other picture has around its place.
    The mean of 3x3 pixels is compared with `NEAR_DETAIL`.
    """
    size = (DETAIL, DETAIL)
    one, two = (Image.frombytes("RGB", size, each[COARSE:LOOK]) for each in (look, other))
    beyond = Image.new("RGB", size)
    for image, around in ((one, two), (two, one)):
        least = around.filter(ImageFilter.MinFilter(NEIGHBOURHOOD))
        greatest = around.filter(ImageFilter.MaxFilter(NEIGHBOURHOOD))
        for part in (ImageChops.subtract(image, greatest), ImageChops.subtract(least, image)):
            beyond = ImageChops.lighter(beyond, part)
    worst = Image.fromarray(np.asarray(beyond).max(2)).filter(ImageFilter.BoxBlur(1))
    return bool(worst.getextrema()[1] <= NEAR_DETAIL)


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
        for other, bits in known.copies_of(looks[place], WIDE_BITS)[:CANDIDATES]:
            first = rows[shown[other]]
            if row.content and row.content == first.content:
                break  # equal bytes have a finding of their own, "duplicate-content"
            if not same_in_detail(looks[place], looks[shown[other]]):
                continue
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
