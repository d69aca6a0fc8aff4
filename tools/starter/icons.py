"""The icons: install the sets with npm, draw them at 64x64, and caption them.

    python tools/starter/icons.py --work runs/starter

Every other script here calls `load_icons`, which does the same on first use and then
reads the cached arrays.
"""

from __future__ import annotations

import argparse
import io
import json
import shutil
import subprocess
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from sets import IconSet, near_copies, read

# npm package (under @iconify-json/) -> the word that names the style in a caption.
STYLES = {p: s["word"] for p, s in read("sets.json")["sets"].items() if s["word"]}
SIZE = 64


@dataclass(frozen=True)
class Icons:
    """All icons as one array, with the concept and the style of each.

    pixels: uint8 (n, 64, 64, 3), on white. concept, style: int64 (n,), indices into
    `concepts` and `styles`. held_out: bool (n,), true for pairs no training may see.
    """

    pixels: np.ndarray
    concept: np.ndarray
    style: np.ndarray
    held_out: np.ndarray
    concepts: list[str]
    styles: list[str]

    def indices(self, held_out: bool) -> np.ndarray:
        return np.flatnonzero(self.held_out == held_out)


def words(slug: str) -> str:
    """'beer-mug' -> 'beer mug'."""
    return slug.replace("-", " ")


def install(folder: Path, sets: Iterable[str] = STYLES) -> Path:
    """`npm install` the sets into `folder`; returns the directory that holds them."""
    where = folder / "node_modules" / "@iconify-json"
    missing = [s for s in sets if not (where / s / "icons.json").exists()]
    if missing:
        npm = shutil.which("npm")
        if npm is None:
            raise SystemExit("npm is not installed: install Node.js, which brings it, and repeat")
        folder.mkdir(parents=True, exist_ok=True)
        versions = {s: facts["version"] for s, facts in read("sets.json")["sets"].items()}
        packages = [f"@iconify-json/{s}@{versions.get(s, 'latest')}" for s in missing]
        subprocess.run(
            [npm, "install", "--no-audit", "--no-fund", "--prefix", str(folder), *packages],
            check=True,
        )
    return where


def draw(icon_set: dict, name: str) -> np.ndarray | None:
    """One icon of an Iconify set as uint8 (64, 64, 3) on white; None if the set lacks it."""
    import resvg_py
    from PIL import Image

    # An alias points to its parent and may also flip or rotate it; the sets we use don't.
    name = icon_set.get("aliases", {}).get(name, {}).get("parent", name)
    icon = icon_set["icons"].get(name)
    if icon is None:
        return None
    width = icon.get("width", icon_set.get("width", 16))
    height = icon.get("height", icon_set.get("height", 16))
    left, top = icon.get("left", 0), icon.get("top", 0)
    svg = (
        f'<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" '
        f'width="128" height="128" viewBox="{left} {top} {width} {height}">{icon["body"]}</svg>'
    )
    png = bytes(resvg_py.svg_to_bytes(svg_string=svg))
    image = Image.open(io.BytesIO(png)).convert("RGBA")
    white = Image.new("RGBA", image.size, "white")
    image = Image.alpha_composite(white, image).convert("RGB")
    # Twice the size and a box filter: resvg's own edges at 64 pixels are harsher.
    return np.asarray(image.resize((SIZE, SIZE), Image.BOX))


def load_icons(work: Path, npm: Path | None = None) -> Icons:
    """The icons of `concepts.json` in the sets that have a style's word, drawn once.

    Of a concept and set one icon, in `work`/icons.npz.
    """
    spec = read("concepts.json")
    concepts, styles = spec["concepts"], list(STYLES)
    path = work / "icons.npz"
    if not path.exists():
        sets = install(npm or work / "npm")
        rows = []
        for s, style in enumerate(styles):
            data = json.loads((sets / style / "icons.json").read_text())
            icon_set = IconSet(style, STYLES[style], "colour", style, data)
            for c, concept in enumerate(concepts):
                held_out = [concept, style] in spec["held_out_pairs"]
                names = icon_set.find(concept)
                if not held_out:
                    names = [n for n in names if (style, n) not in near_copies()]
                pixels = draw(data, names[0]) if names else None
                if pixels is not None:
                    rows.append((pixels, c, s, held_out))
        pixels, concept, style, held_out = (np.stack(column) for column in zip(*rows, strict=True))
        work.mkdir(parents=True, exist_ok=True)
        np.savez_compressed(path, pixels=pixels, concept=concept, style=style, held_out=held_out)
    with np.load(path) as data:
        return Icons(**dict(data), concepts=concepts, styles=styles)


PLAIN = ["{c}", "a {c}", "{c} icon", "an icon of a {c}"]
STYLED = ["{c}, {s} style", "{c} in {s} style", "a {c}, {s} style", "{s} style {c}"]


def caption(concept: str, style: str | None, template: int = 0, other: str = "") -> str:
    """The caption of a concept in a style; with `style` None, of the concept in any style.

    `other` is a style word without a meaning yet. A brand will bring one of its own, so
    the encoder has to read it as "any style" rather than as noise.
    """
    name = words(concept)
    if style is None and not other:
        return PLAIN[template % len(PLAIN)].format(c=name)
    return STYLED[template % len(STYLED)].format(c=name, s=other or STYLES[style])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--work", type=Path, default=Path("runs/starter"))
    parser.add_argument("--npm", type=Path, help="a folder where the sets are installed already")
    args = parser.parse_args()
    icons = load_icons(args.work, args.npm)
    held_out = int(icons.held_out.sum())
    print(f"{len(icons.pixels)} icons, {len(icons.concepts)} concepts, {held_out} held out")


if __name__ == "__main__":
    main()
