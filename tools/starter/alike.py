"""Of each concept the drawings that are alike, so that its name means one shape.

    python tools/starter/alike.py --npm FOLDER

Icon sets draw a cat as a face or from the side, a bell upright or tilted. A small model that is
told "cat" then draws something between them. So each concept has one drawing that stands for it:
the one whose silhouette is most like those of the other sets in colours. Training sees it and the
drawings that share at least `LEAST` of their silhouette with it, as they are or mirrored. They are
listed in `alike.json`.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
from near import GLYPH
from sets import HERE, IconSet, concepts, training_sets
from variants import Hand, icons, rendered, svg

LEAST, SIDE, CLEARER = 0.7, 32, 0.03  # CLEARER: a mirror image has to be so much more alike


def silhouette(icon_set: IconSet, name: str) -> np.ndarray | None:
    """What the icon covers, its holes too, in a square: (SIDE, SIDE) from 0 to 1."""
    from PIL import Image
    from scipy.ndimage import binary_fill_holes

    covered = rendered(svg(icon_set, name, GLYPH if icon_set.kind == "glyph" else Hand()))
    covered = covered[..., 3] > 80
    rows, columns = np.nonzero(covered)
    if len(rows) < 20:
        return None
    filled = binary_fill_holes(covered)[
        rows.min() : rows.max() + 1, columns.min() : columns.max() + 1
    ]
    high, wide = filled.shape
    side = max(high, wide)
    square = np.zeros((side, side), np.uint8)
    top, left = (side - high) // 2, (side - wide) // 2
    square[top : top + high, left : left + wide] = 255 * filled
    return np.asarray(Image.fromarray(square).resize((SIDE, SIDE), Image.BOX), dtype=float) / 255


def shared(a: np.ndarray, b: np.ndarray) -> float:
    """Intersection over union of two silhouettes."""
    return float(np.minimum(a, b).sum() / np.maximum(a, b).sum())


def choose(drawings: list[tuple[IconSet, str, np.ndarray]]) -> list[tuple[str, str, bool]]:
    """(package, icon, mirrored) of the drawings that are like the one that stands for all."""
    n = len(drawings)
    plain = np.array([[shared(a[2], b[2]) for b in drawings] for a in drawings])
    mirror = np.array([[shared(a[2], b[2][:, ::-1]) for b in drawings] for a in drawings])
    turned = mirror > plain + CLEARER
    best = np.maximum(plain, mirror)
    of = np.array([d[0].package for d in drawings])
    colour = sorted({d[0].package for d in drawings if d[0].kind == "colour"})
    if not colour:
        return []
    score = [np.mean([best[i][of == s].max() for s in colour]) for i in range(n)]
    own = [s if drawings[i][0].kind == "colour" else -1.0 for i, s in enumerate(score)]
    first = int(np.argmax(own))
    kept = [i for i in range(n) if best[first, i] >= LEAST]
    return [(drawings[i][0].package, drawings[i][1], bool(turned[first, i])) for i in kept]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--npm", type=Path, required=True, help="npm's @iconify-json folder")
    args = parser.parse_args()
    sets = training_sets(args.npm)
    of: dict[int, list] = {}
    for s, c, name in icons(sets):
        shape = silhouette(sets[s], name)
        if shape is not None:
            of.setdefault(c, []).append((sets[s], name, shape))
    found = {concepts()[c]: choose(drawings) for c, drawings in sorted(of.items())}
    said = {
        "about": "Package, icon and whether it is mirrored: a concept's drawings that are alike.",
        "least": LEAST,
        "of": sum(map(len, of.values())),
        "icons": found,
    }
    lines = json.dumps(said, indent=1)
    for a, b in (("[\n    ", "["), (",\n    ", ", "), ("\n   ]", "]")):
        lines = lines.replace(a, b)
    (HERE / "alike.json").write_text(lines + "\n")
    print(f"{sum(map(len, found.values()))} of {said['of']} icons are kept")


if __name__ == "__main__":
    main()
