"""The pool: pictures drawn ahead, in files of 2,000, each with six captions as tokens.

    python tools/starter/pool.py --work FOLDER --files 20

A picture is drawn from a seed of its own, so that the same file comes out again wherever it is
made. Each file stands alone: training takes what is there, and more can be added while it runs.
"""

from __future__ import annotations

import argparse
import os
import random
from pathlib import Path

import numpy as np
from captions import caption, corpus
from icons import install
from sets import read, training_sets
from text import make_tokenizer
from variants import chosen, variant

EACH, CAPTIONS, WORDS = 2000, 6, 20  # pictures in a file, captions of one, tokens of one
GLYPHS = 0.1  # of the pictures


def tokenizer_in(work: Path):
    """The tokenizer of this work folder; made on first use."""
    from transformers import CLIPTokenizer

    folder = work / "text" / "tokenizer_2"
    if not (folder / "tokenizer.json").exists():
        make_tokenizer(corpus(random.Random(0), 300)).save_pretrained(folder)
    return CLIPTokenizer.from_pretrained(folder)


def tokenized(tokenizer, texts: list[str]) -> np.ndarray:
    """uint16 (n, WORDS), padded with the end token."""
    return tokenizer(
        texts, padding="max_length", max_length=WORDS, truncation=True, return_tensors="np"
    ).input_ids.astype(np.uint16)


def draw_file(sets, tokenizer, number: int, count: int = EACH) -> dict[str, np.ndarray]:
    """File `number`: pixels (n, 64, 64, 3), ids (n, CAPTIONS, WORDS), concept and set (n,)."""
    by_kind: dict[str, dict[int, list]] = {"colour": {}, "glyph": {}}
    turned = chosen(sets)
    for s, c, name in turned:
        by_kind[sets[s].kind].setdefault(c, []).append((s, c, name))
    order = random.Random(number)
    rows = []
    while len(rows) < count:
        kind = "glyph" if order.random() < GLYPHS else "colour"
        concept = order.choice(sorted(by_kind[kind]))
        per_set: dict[int, list] = {}
        for icon in by_kind[kind][concept]:
            per_set.setdefault(icon[0], []).append(icon)
        s, c, name = order.choice(per_set[order.choice(sorted(per_set))])
        rng = random.Random(order.getrandbits(48))
        made = variant(sets[s], name, rng)
        if made is None:
            continue
        pixels = made[0]
        if turned[s, c, name]:
            pixels = pixels[:, ::-1]
        ids = tokenized(tokenizer, [caption(c, made[1], rng) for _ in range(CAPTIONS)])
        rows.append((pixels, ids, c, s))
    names = ("pixels", "ids", "concept", "set")
    return {n: np.stack(column) for n, column in zip(names, zip(*rows, strict=True), strict=True)}


def files(work: Path) -> list[Path]:
    return sorted((work / "pool").glob("pool-????.npz"))


def make(work: Path, npm: Path | None, numbers) -> None:
    """Draw those of the numbered files that aren't there."""
    (work / "pool").mkdir(parents=True, exist_ok=True)
    sets = training_sets(install(npm or work / "npm", read("sets.json")["sets"]))
    tokenizer = tokenizer_in(work)
    for number in numbers:
        path = work / "pool" / f"pool-{number:04}.npz"
        if not path.exists():
            partial = path.with_suffix(f".{os.getpid()}")
            with partial.open("wb") as file:
                np.savez_compressed(file, **draw_file(sets, tokenizer, number))
            partial.replace(path)
            print(path, flush=True)


def load(paths: list[Path]) -> dict[str, np.ndarray]:
    """The files' columns, joined."""
    parts = [dict(np.load(path)) for path in paths]
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--npm", type=Path, help="a folder where the sets are installed already")
    parser.add_argument("--files", type=int, default=20)
    parser.add_argument("--first", type=int, default=0)
    args = parser.parse_args()
    make(args.work, args.npm, range(args.first, args.first + args.files))


if __name__ == "__main__":
    main()
