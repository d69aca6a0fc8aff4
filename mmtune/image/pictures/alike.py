"""Near-copies: images that are the same picture in another size, quality or format."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from PIL import Image

from mmtune.data.rows import Finding, Row
from mmtune.image.pictures.pixels import thumbnail

SIDE = 64  # pixels of the square that is hashed
BITS, HASH = 64, 8  # of a perceptual hash, and its bytes
GRID = 8  # the colours of an image, as so many by so many pixels
# Both must hold: the hash sees shapes and no colours, the grid colours and hardly any shapes.
NEAR_BITS = 6
NEAR_COLOUR = 8.0  # mean difference of the grids' values, 0 to 255


def look_of(image: Image.Image) -> bytes:
    """What near-copies share: a DCT perceptual hash and a coarse grid of colours.

    Args:
        image: decoded, of any mode.

    Returns:
        `HASH` + 3 * `GRID` * `GRID` bytes.
    """
    import imagehash

    small = thumbnail(image, SIDE)
    bits = imagehash.phash(small).hash.flatten()
    colours = small.resize((GRID, GRID), Image.Resampling.BOX)
    return bytes(np.packbits(bits)) + bytes(colours.tobytes())


def near_copies(rows: Sequence[Row], looks: Sequence[bytes]) -> list[Finding]:
    """A warning for each row that nearly is an earlier one.

    Args:
        rows: all rows.
        looks: of each, from `look_of`; empty where there is none.
    """
    known = [i for i, look in enumerate(looks) if look]
    if len(known) < 2:
        return []
    values = np.frombuffer(b"".join(looks[i] for i in known), np.uint8).reshape(len(known), -1)
    hashes = values[:, :HASH].copy().view(np.uint64)[:, 0]
    colours = values[:, HASH:].astype(np.int16)
    findings = []
    for place in range(1, len(known)):
        differing = np.bitwise_count(hashes[:place] ^ hashes[place])
        for other in np.flatnonzero(differing <= NEAR_BITS):
            if np.abs(colours[other] - colours[place]).mean() > NEAR_COLOUR:
                continue
            row, first = rows[known[place]], rows[known[other]]
            if row.content and row.content == first.content:
                break  # byte for byte: an error already
            findings.append(
                Finding(
                    "near-duplicate",
                    row.id,
                    f"{row.path} is nearly {first.path} (row {first.id!r}): their perceptual "
                    f"hashes differ in {differing[other]} of {BITS} bits",
                    "remove one of them; if both stay, they are kept in one split",
                    "warning",
                    first.id,
                )
            )
            break
    return findings
