"""Brands of icon sets that no part of the starter saw: pictures with captions, for a training.

    python tools/brands/icon_sets.py --work FOLDER --out runs/brands [--role choosing | testing]

The sets are those of tools/starter/brands.json, installed with npm. Their pictures show the
starter's concepts: by name, or, of sets that name icons by sentences, by `picked.json`. Brands of
the role `choosing` leave out the concepts on which the demo tests, because its settings are chosen
on them. A third of a brand's pictures, at most 40, are kept back for the test.
"""

from __future__ import annotations

import argparse
import io
import json
import sys
from pathlib import Path

from PIL import Image

sys.path.insert(0, str(Path(__file__).parents[1] / "starter"))
sys.path.insert(0, str(Path(__file__).parents[2] / "recipes" / "brand_style"))
import icons
import openmoji
import sets

from mmtune.data.manifest import write_manifest

FEW = 60  # pictures; of fewer, half as many are for validation


def chosen(package: str, data: dict) -> dict[str, str]:
    """Concept -> the icon of this set that shows it."""
    picked = json.loads((Path(__file__).parent / "picked.json").read_text())
    if package in picked:
        return dict(picked[package])
    icon_set = sets.IconSet(package, None, "colour", package, data)
    found = {concept: icon_set.find(concept) for concept in sets.concepts()}
    return {concept: names[0] for concept, names in found.items() if names}


def demo_test() -> set[str]:
    """The concepts on which the demo tests."""
    splits = openmoji.splits(sets.concepts(), openmoji.TEST)
    return {concept for concept, split in splits.items() if split == "test"}


def split_of(concepts: list[str]) -> dict[str, str]:
    """Of each concept, in the order of openmoji.splits: a third for the test."""
    n = len(concepts)
    validation = openmoji.VALIDATION if n >= FEW else openmoji.VALIDATION // 2
    return openmoji.splits(concepts, min(openmoji.TEST, n // 3), validation)


def make(brand: str, facts: dict, where: Path, out: Path) -> Path:
    """Write one brand's pictures, manifest.jsonl and attribution; returns the manifest."""
    package = facts["package"]
    data = json.loads((where / package / "icons.json").read_text())
    names = chosen(package, data)
    if facts["role"] == "choosing":
        tested = demo_test()
        names = {c: n for c, n in names.items() if c not in tested}
    folder = out / brand
    (folder / "images").mkdir(parents=True, exist_ok=True)
    rows = []
    for concept, split in sorted(split_of(list(names)).items()):
        pixels = icons.draw(data, names[concept])
        assert pixels is not None
        buffer = io.BytesIO()
        Image.fromarray(pixels).save(buffer, "PNG")
        path = Path("images") / f"{concept}.png"
        (folder / path).write_bytes(buffer.getvalue())
        caption = openmoji.caption(concept)
        rows.append({"id": concept, "image": str(path), "caption": caption, "split": split})
    info = json.loads((where / package / "info.json").read_text())
    author, licence = info["author"], info["license"]["title"]
    (folder / "ATTRIBUTION.txt").write_text(
        f"{info['name']} by {author['name']}, {licence}; {author.get('url', '')}\n"
        f"drawn at {icons.SIZE}x{icons.SIZE} pixels on white\n"
    )
    write_manifest(folder / "manifest.jsonl", rows)
    return folder / "manifest.jsonl"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--work", type=Path, default=Path("runs/starter"), metavar="FOLDER")
    parser.add_argument("--npm", type=Path, help="a folder where the sets are installed already")
    parser.add_argument("--out", type=Path, default=Path("runs/brands"), metavar="DIR")
    parser.add_argument("--role", choices=["choosing", "testing"])
    options = parser.parse_args()
    brands = {
        name: facts
        for name, facts in sets.read("brands.json")["brands"].items()
        if facts["role"] == options.role or (not options.role and facts["role"] != "demonstration")
    }
    where = icons.install(
        options.npm or options.work / "npm", [facts["package"] for facts in brands.values()]
    )
    for name, facts in brands.items():
        print(make(name, facts, where, options.out))


if __name__ == "__main__":
    main()
