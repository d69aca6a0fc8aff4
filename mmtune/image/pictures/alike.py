"""Near-copies: the same image in another size, quality or format, found by perceptual hashes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from PIL import Image

from mmtune.data.rows import Finding, Row
from mmtune.image.pictures.pixels import thumbnail

SIDE = 64  # pixels along a side of the thumbnail that is hashed
BITS, HASH = 64, 8  # bits and bytes of a perceptual hash
GRID = 8  # pixels along a side of the grid of colours
LOOK = HASH + 3 * GRID * GRID  # bytes of a fingerprint
# Near-copies are within both bounds: the hash sees shapes but no colours, the grid sees colours
# but hardly any shapes.
NEAR_BITS = 6  # differing bits of the hashes
NEAR_COLOUR = 8.0  # mean difference of the grids' values, which go from 0 to 255


def visual_fingerprint(image: Image.Image, background: str = "white") -> bytes:
    """Compute what near-copies share: a DCT perceptual hash and a coarse grid of colours.

    The hash is `imagehash.phash`.

    Args:
        image: decoded, of any mode.
        background: colour behind transparent parts.

    Returns:
        `HASH` + 3 * `GRID` * `GRID` bytes.
    """
    import imagehash

    small = thumbnail(image, SIDE, background)
    bits = imagehash.phash(small).hash.flatten()
    colours = small.resize((GRID, GRID), Image.Resampling.BOX)
    return bytes(np.packbits(bits)) + bytes(colours.tobytes())


def near_copies(rows: Sequence[Row], looks: Sequence[bytes]) -> list[Finding]:
    """Find rows whose image is a near-copy of an earlier row's.

    Args:
        rows: all rows.
        looks: `visual_fingerprint` of each row's image; empty: the row isn't compared.

    Returns:
        Warnings of the kind "near-duplicate", at most one per row.
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
                break  # equal bytes have a finding of their own, "duplicate-content"
            findings.append(
                Finding(
                    "near-duplicate",
                    row.id,
                    f"{row.path} looks like {first.path} (row {first.id!r}): their perceptual "
                    f"hashes differ in {differing[other]} of {BITS} bits",
                    "remove one of them; if both stay, they are kept in one split",
                    "warning",
                    first.id,
                )
            )
            break
    return findings
