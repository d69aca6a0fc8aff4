"""Can a reader who saw no caption name what is drawn? Sheets with numbers, and their score.

    python tools/starter/read.py --work FOLDER --out runs/read        # 40 held-out pairs
    python tools/starter/read.py --run runs/demo/brand_style --of adapter --out runs/read
    python tools/starter/read.py --out runs/read --names names.txt

The first two write `sheet.png`, pictures in a random order under numbers, and `key.json`. Whoever
reads the sheet writes one line a picture, "7 umbrella", and commits it before the key is opened.
The last compares with the names that were fixed beforehand (synonyms.json, read_names.json).
"""

from __future__ import annotations

import argparse
import json
import random
import re
from pathlib import Path

import numpy as np
from sets import concepts, read, said

from mmtune.pages.preference import wilson

ARTICLES = re.compile(r"^(a|an|the|some|two|three) ")


def plain(name: str) -> str:
    """In lower case, one space between words, without article and plural."""
    name = ARTICLES.sub("", " ".join(re.findall(r"[a-z]+", name.lower())))
    return re.sub(r"(?<=[^s])s$", "", name)


def accepted(concept: str) -> set[str]:
    """What a picture of the concept may be called."""
    names = [concept, *said(concept), *read("synonyms.json")["names"].get(concept, [])]
    names += read("read_names.json")["names"].get(concept, [])
    return {plain(name.replace("-", " ")) for name in names}


def is_right(name: str, concept: str) -> bool:
    """Whether a reader's name is one of the accepted ones, or ends with one: "red apple"."""
    found, names = plain(name), accepted(concept)
    return found in names or any(found.endswith(f" {each}") for each in names)


def drawn_pairs(work: Path, state: str, npm: Path | None) -> tuple[np.ndarray, list[str]]:
    """One picture of each held-out pair, by the checkpoint."""
    from icons import caption, load_icons
    from judge import Checkpoint

    icons = load_icons(work, npm)
    rows = icons.indices(True)
    of = [icons.concepts[icons.concept[i]] for i in rows]
    styles = [icons.styles[icons.style[i]] for i in rows]
    captions = [caption(c, s) for c, s in zip(of, styles, strict=True)]
    return Checkpoint(work, state).draw(captions, 20, 3.0, seed=4), of


def drawn_by(run: Path, what: str) -> tuple[np.ndarray, list[str]]:
    """The pictures of a brand_style run's comparison: `what` is base, adapter or brand."""
    from PIL import Image

    found = json.loads((run / "comparison.json").read_text())["examples"]
    known = {c.replace("-", " "): c for c in concepts()}
    pictures = [np.asarray(Image.open(run / each[what]).convert("RGB")) for each in found]
    return np.stack(pictures), [known[each["prompt"]] for each in found]


def write_sheet(pictures: np.ndarray, of: list[str], seed: int, out: Path) -> None:
    from judge import sheet

    order = list(range(len(of)))
    random.Random(seed).shuffle(order)
    out.mkdir(parents=True, exist_ok=True)
    large = pictures[order]
    sheet(large, [str(i + 1) for i in range(len(order))], out / "sheet.png", columns=8)
    key = {str(i + 1): of[j] for i, j in enumerate(order)}
    (out / "key.json").write_text(json.dumps(key, indent=1) + "\n")


def score(out: Path, names: Path) -> None:
    key = json.loads((out / "key.json").read_text())
    given = dict(line.split(None, 1) for line in names.read_text().splitlines() if line.strip())
    right = [number for number, concept in key.items() if is_right(given.get(number, ""), concept)]
    low, high = wilson(len(right), len(key))
    print(f"{len(right)} of {len(key)} named: {len(right) / len(key):.2f} [{low:.2f}, {high:.2f}]")
    for number, concept in key.items():
        if number not in right:
            print(f"  {number}: {concept}, called {given.get(number, 'nothing').strip()}")


def main() -> None:
    from train import WORK

    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--work", type=Path, default=WORK)
    parser.add_argument("--npm", type=Path, help="a folder where the sets are installed already")
    parser.add_argument("--state", default="", help="a file in --work, such as cooled.pt")
    parser.add_argument("--run", type=Path, help="a brand_style run, instead of the checkpoint")
    parser.add_argument("--of", choices=["base", "adapter", "brand"], default="adapter")
    parser.add_argument("--seed", type=int, default=0, help="of the order")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR")
    parser.add_argument("--names", type=Path, metavar="FILE", help="score these names")
    args = parser.parse_args()
    if args.names:
        score(args.out, args.names)
        return
    found = (
        drawn_by(args.run, args.of) if args.run else drawn_pairs(args.work, args.state, args.npm)
    )
    write_sheet(*found, args.seed, args.out)


if __name__ == "__main__":
    main()
