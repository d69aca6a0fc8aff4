"""Near-copies of the excluded sets' icons among those to train on: found, counted and listed.

    python tools/starter/near.py --npm FOLDER

Of each concept every icon of brands.json is compared with every icon of sets.json: both in grey,
cut to what is drawn, reduced to 32x32. From a correlation of `LEAST` on, the training's icon is
left out: `near.json` lists it, and training reads that list. Things that everyone draws alike, a
star or an egg, are most of it.
"""

from __future__ import annotations

import argparse
import json
from collections import Counter
from pathlib import Path

import numpy as np
from sets import HERE, IconSet, concepts, excluded, training_sets
from variants import Hand, rendered, svg

LEAST, SIDE, SHAPE = 0.9, 32, 0.25  # SHAPE: of the logarithms of width / height
GLYPH = Hand(fill="glyph", ink="#000000")


def outline_of(icon_set: IconSet, name: str) -> tuple[np.ndarray, float] | None:
    """The icon in grey, cut to what is drawn: unit vector (SIDE * SIDE,), log(width / height)."""
    from PIL import Image

    large = rendered(svg(icon_set, name, GLYPH if icon_set.kind == "glyph" else Hand()))
    rows, columns = np.nonzero(large[..., 3] > 50)
    if len(rows) < 20:
        return None
    large = large[rows.min() : rows.max() + 1, columns.min() : columns.max() + 1]
    alpha = large[..., 3:] / 255
    grey = (large[..., :3] * alpha + 255 * (1 - alpha)).mean(2).astype(np.uint8)
    small = np.asarray(Image.fromarray(grey).resize((SIDE, SIDE), Image.BOX), dtype=float)
    small = (small - small.mean()).ravel()
    return small / (np.linalg.norm(small) + 1e-9), float(np.log(grey.shape[1] / grey.shape[0]))


def brand_sets(where: Path) -> list[IconSet]:
    """The excluded sets that are installed."""
    found = []
    for package in excluded():
        if (where / package / "icons.json").exists():
            info = json.loads((where / package / "info.json").read_text())
            data = json.loads((where / package / "icons.json").read_text())
            kind = "colour" if info.get("palette") else "glyph"
            found.append(IconSet(package, None, kind, package, data))
    return found


def search(train: list[IconSet], brands: list[IconSet]) -> list[dict]:
    """Each icon of `train` that is a near-copy, with the most similar icon of `brands`."""
    found = []
    for concept in concepts():
        seen = [(b.package, n, outline_of(b, n)) for b in brands for n in b.find(concept)]
        seen = [each for each in seen if each[2] is not None]
        if not seen:
            continue
        vectors = np.stack([v[0] for _, _, v in seen])
        shapes = np.array([v[1] for _, _, v in seen])
        for icon_set in train:
            for name in icon_set.find(concept):
                own = outline_of(icon_set, name)
                if own is None:
                    continue
                alike = np.where(abs(shapes - own[1]) < SHAPE, vectors @ own[0], -1)
                best = int(alike.argmax())
                if alike[best] >= LEAST:
                    found.append(
                        {
                            "set": icon_set.package,
                            "icon": name,
                            "like": f"{seen[best][0]}:{seen[best][1]}",
                            "correlation": round(float(alike[best]), 3),
                        }
                    )
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--npm", type=Path, required=True, help="npm's @iconify-json folder")
    args = parser.parse_args()
    train, brands = training_sets(args.npm), brand_sets(args.npm)
    found = search(train, brands)
    unique = {(each["set"], each["icon"]): each for each in found}
    icons = sum(len(s.find(c)) for s in train for c in concepts())
    said = {
        "about": f"Icons left out of training: grey pictures correlate by {LEAST} or more.",
        "brands": [b.package for b in brands],
        "of": icons,
        "by_brand": dict(Counter(each["like"].split(":")[0] for each in unique.values())),
        "icons": list(unique.values()),
    }
    text = json.dumps(said, indent=1)
    (HERE / "near.json").write_text(text.replace('",\n   ', '", ').replace("{\n   ", "{") + "\n")
    print(f"{len(unique)} of {icons} icons are near-copies: {said['by_brand']}")


if __name__ == "__main__":
    main()
