"""Does the style figure rank sets of pictures as an eye does? A ladder, shown without labels.

    python tools/brands/ranking.py --run runs/demo/brand_style --out runs/ranking
    python tools/brands/ranking.py --out runs/ranking --ranked C A F B E D G H

The first draws the same held-out captions from the same noise: by the base, by the adapter at
rising strengths, and by the base in styles of its own that the caption names. Beside them stand the
brand's own images. In `blind.png` each set is a row under a letter, in an order that nobody chose.
Write down which rows look most like `brand.png` (training images), the best first; only then ask
for the second, which prints each set's figure and Kendall's tau between the two orders.
"""

from __future__ import annotations

import argparse
import json
import random
from collections.abc import Sequence
from pathlib import Path

import torch
from PIL import Image
from scipy.stats import kendalltau

import mmtune
from mmtune.data.check import check
from mmtune.data.rows import Row
from mmtune.image import MODALITY
from mmtune.image.corpus.evaluation_rows import evenly_spaced
from mmtune.image.diffusion.base import load_base
from mmtune.image.diffusion.stages import TextStage
from mmtune.image.evaluation.compare import LOADED_ADAPTER
from mmtune.image.looks.backbone import MATCH, load_scorer
from mmtune.image.looks.describe import StyleDescriptor
from mmtune.image.pictures.grid import draw_grid
from mmtune.image.pictures.pixels import open_image
from mmtune.image.sampling.predictor import ImagePredictor
from mmtune.metrics.image.clip_score import clip_scores
from mmtune.metrics.image.style import StyleDistance
from mmtune.predict import Request
from mmtune.prefix.features import Features
from mmtune.system.processes import pick_device

STRENGTHS = (0.25, 0.5, 1.0, 1.5)
OWN_STYLES = ("noto", "twemoji")  # words that the starter reads as styles of its own
REAL, BASE = "real", "base"
SHOWN = 8  # captions of the sheet with labels
Sets = dict[str, Sequence[Image.Image]]


def read_run(folder: Path, data: Path | None) -> tuple[mmtune.RunConfig, mmtune.Dataset]:
    """A finished run's settings and data; `data` is the manifest's place, if it was moved."""
    given = {} if data is None else {"data": str(data)}
    config = mmtune.load_recipe(folder / "config.yaml", **given)
    found = check(config.data.path, MODALITY, config.data, base=config.base, settings=config.task)
    return config, found


def ladder(
    folder: Path, config: mmtune.RunConfig, dataset: mmtune.Dataset, captions: int
) -> tuple[list[str], Sets, dict[str, dict[str, float]]]:
    """Captions, the sets of pictures, and of each the distance to the training images and how well
    it matches the captions."""
    options = config.task
    rows: list[Row] = evenly_spaced(dataset.split("test"), captions)
    base = load_base(config.base, pick_device(), torch.float32)
    features = Features({"text": TextStage(base)}, None)
    predictor = ImagePredictor(
        base,
        {LOADED_ADAPTER: folder / "adapter"},
        features,
        steps=options.steps,
        guidance=options.guidance,
        resolution=options.resolution,
    )

    def draw(asked: Sequence[Row], weight: float) -> list[Image.Image]:
        weights = {LOADED_ADAPTER: weight} if weight else {}
        return [p.value for p in predictor.predict([Request(row, weights, 0) for row in asked])]

    sets: Sets = {REAL: [open_image(row.path, options.background) for row in rows]}
    sets[BASE] = draw(rows, 0)
    sets |= {f"at {s:g}": draw(rows, s) for s in STRENGTHS}
    for style in OWN_STYLES:
        said = [r.model_copy(update={"caption": f"{r.reference}, {style} style"}) for r in rows]
        sets[style] = draw(said, 0)
    brand = [open_image(row.path, options.background) for row in dataset.split("train")]
    describe = StyleDescriptor(base, predictor.sampler.resolution, features)
    metric = StyleDistance(describe, brand)
    named = [row.reference for row in rows]
    scorer = load_scorer(options.clip_model or MATCH, base.device)
    texts = scorer.texts(named)
    figures = {
        name: {
            "distance": metric.distance(images),
            "match": float(clip_scores(scorer.images(images), texts).mean()),
        }
        for name, images in sets.items()
    }
    return named, sets, figures


def hide(names: Sequence[str]) -> dict[str, str]:
    """A letter for each set, by chance that no seed fixes."""
    order = list(names)
    random.SystemRandom().shuffle(order)
    return {chr(ord("A") + i): name for i, name in enumerate(order)}


def show(out: Path, ranked: Sequence[str]) -> None:
    """Print the figures by rank, and how far the two orders agree."""
    key = json.loads((out / "key.json").read_text())
    figures = json.loads((out / "figures.json").read_text())
    distances = {name: figures[name]["distance"] for name in figures}
    if sorted(ranked) != sorted(key):
        raise SystemExit(f"--ranked: give each of {' '.join(sorted(key))} once")
    place = {key[letter]: i + 1 for i, letter in enumerate(ranked)}
    print("| set | style | by figure | by eye | prompt match |\n|---|---|---|---|---|")
    order = sorted(distances, key=distances.get)
    for i, name in enumerate(order):
        zero, one = distances[BASE], distances[REAL]
        score = (zero - distances[name]) / (zero - one)
        match = figures[name]["match"]
        print(f"| {name} | {score:.2f} | {i + 1} | {place[name]} | {match:.0f} |")
    tau, p = kendalltau([distances[n] for n in order], [place[n] for n in order])
    print(f"Kendall's tau {tau:.2f} (p = {p:.2g}, {len(order)} sets)")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--run", type=Path, help="a finished run of an image recipe")
    parser.add_argument("--data", type=Path, help="its manifest, if that was moved")
    parser.add_argument("--out", type=Path, default=Path("runs/ranking"))
    parser.add_argument("--captions", type=int, default=12, help="held-out ones, of each set")
    parser.add_argument("--ranked", nargs="+", metavar="LETTER", help="your order, the best first")
    args = parser.parse_args()
    out: Path = args.out
    if args.ranked:
        show(out, args.ranked)
        return
    if args.run is None:
        parser.error("--run is needed to draw, --ranked to score what was drawn")
    config, dataset = read_run(args.run, args.data)
    captions, sets, figures = ladder(args.run, config, dataset, args.captions)
    key = hide(list(sets))
    out.mkdir(parents=True, exist_ok=True)
    (out / "key.json").write_text(json.dumps(key))
    (out / "figures.json").write_text(json.dumps(figures))
    draw_grid(captions, {letter: sets[name] for letter, name in key.items()}).save(
        out / "blind.png"
    )
    train = evenly_spaced(dataset.split("train"), args.captions)
    brand = [open_image(row.path, config.task.background) for row in train]
    draw_grid([row.reference for row in train], {"brand": brand}).save(out / "brand.png")
    # With labels, without what isn't the models' own drawing.
    drawn = {name: images[:SHOWN] for name, images in sets.items() if name != REAL}
    sheet = draw_grid(captions[:SHOWN], drawn)
    sheet.quantize(128).save(out / "labelled.png", optimize=True)
    print(f"look at {out / 'brand.png'} and {out / 'blind.png'}, then give --ranked")


if __name__ == "__main__":
    main()
