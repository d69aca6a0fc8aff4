"""Base against adapter on the test captions: style, nearest training image, and a grid to see."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from mmtune.adapters.card import read_card
from mmtune.config import RunConfig
from mmtune.data.cache import PrefixCache
from mmtune.data.rows import Row
from mmtune.errors import AdapterError, ConfigError
from mmtune.evaluate.compare import Comparison, Measure
from mmtune.hashing import hash_text
from mmtune.image.base import load_base, pick_device
from mmtune.image.describe import StyleDescriptor
from mmtune.image.generate import ImagePredictor
from mmtune.image.options import ImageOptions
from mmtune.image.pixels import open_image
from mmtune.image.stages import TextStage
from mmtune.image.task import ImageTask, held_out
from mmtune.metrics.bootstrap import Interval, bootstrap, paired_bootstrap
from mmtune.metrics.nearest import NearestTraining
from mmtune.metrics.style import StyleDistance, StyleScore, style_score
from mmtune.precision import DTYPES, choose
from mmtune.predict import Request
from mmtune.train.prefix import Features

if TYPE_CHECKING:
    from mmtune.data.check import Dataset

GRID_COLUMNS = 12
TILE = 128  # pixels; larger images are reduced, smaller ones enlarged without smoothing
LABEL, HEAD = 72, 20  # pixels left of and above the tiles
ADAPTER = "adapter"


def compare(
    config: RunConfig, dataset: Dataset, folder: Path, task: ImageTask | None = None
) -> Comparison:
    """Sample base and adapter for each test caption and seed, with the same noise, and measure.

    Writes `folder/samples/{base,adapter}/*.png` and `folder/grid.png`.

    Args:
        folder: the run's; its `adapter/` is loaded strictly.
        task: the one that was trained, whose base and caption embeddings serve again; it can't be
            used afterwards. None: the base is loaded.

    Raises:
        DataError: fewer than two held-out images or two training images.
        AdapterError: the adapter doesn't load, changes nothing, or was trained on other weights.
    """
    options = config.task
    if not isinstance(options, ImageOptions):
        raise ConfigError(f"{config.recipe} has no image settings", "set modality: image")
    test, train = held_out(dataset), dataset.split("train")
    if task is not None:
        base, features = task.release(), task.features
    else:
        device = pick_device()
        base = load_base(config.base, device, DTYPES[choose(config.train.precision, device)])
        # Each caption is drawn several times, by base and by adapter: encode it once.
        features = Features({"text": TextStage(base)}, PrefixCache() if config.cache else None)
    trained_on = read_card(folder / "adapter").base_hash
    if trained_on != base.fingerprint:
        raise AdapterError(
            f"{folder / 'adapter'} was trained on other weights of {config.base} "
            f"({trained_on[:12]}, now {base.fingerprint[:12]}): a comparison would mislead",
            "restore that base, or train again under another --name",
        )
    predictor = ImagePredictor(
        base,
        {ADAPTER: folder / "adapter"},
        features,
        steps=options.steps,
        guidance=options.guidance,
        resolution=options.resolution,
    )
    asked = [(row, seed) for row in test for seed in range(options.seeds)]
    samples = {
        name: [p.value for p in predictor.predict([Request(r, on, s) for r, s in asked])]
        for name, on in (("base", {}), (ADAPTER, {ADAPTER: 1.0}))
    }
    files = {name: _write(folder / "samples" / name, asked, i) for name, i in samples.items()}
    real = [open_image(row.path, options.background) for row in test]
    brand = [open_image(row.path, options.background) for row in train]

    describe = StyleDescriptor(base, predictor.sampler.resolution, features)
    metric = StyleDistance(describe, brand)
    prompts = [row.id for row, _ in asked]
    style = style_score(
        metric,
        metric.statistics(samples["base"]),
        metric.statistics(samples[ADAPTER]),
        np.repeat(metric.statistics(real), options.seeds, axis=0),
        prompts,
    )
    nearest, copies = _nearest(samples, real, train, brand, prompts)
    grid = folder / "grid.png"
    firsts = range(0, len(asked), options.seeds)
    draw_grid(
        [row.reference for row in test],
        {
            "base": [samples["base"][i] for i in firsts],
            "adapter": [samples[ADAPTER][i] for i in firsts],
            "brand": real,
        },
    ).save(grid)
    examples = [
        {
            "prompt": row.reference,
            "base": files["base"][i],
            "adapter": files[ADAPTER][i],
            "brand": row.path,
            "nearest training image": copies[i],
        }
        for i, (row, seed) in enumerate(asked)
        if seed == 0
    ]
    return Comparison(
        modality="image",
        measures=[*_style_measures(style, len(asked)), nearest],
        headline=headline(config.name, style, nearest, grid),
        examples=examples,
        files={"grid": grid},
    )


def headline(name: str, style: StyleScore, nearest: Measure, grid: Path) -> str:
    """The line for the terminal."""
    score = _short(style.score) if style.measurable else "not measurable"
    return (
        f"image    {name.replace('_', ' ')}   style 0 = base, 1 = brand: {score}   "
        f"nearest training image {_short(nearest.adapter)} ({nearest.note})   grid {grid}"
    )


def _short(interval: Interval) -> str:
    return f"{interval.value:.2f} [{interval.low:.2f}, {interval.high:.2f}]"


def _style_measures(style: StyleScore, items: int) -> list[Measure]:
    zero = Interval(0.0, 0.0, 0.0)
    undefined = Interval(math.nan, math.nan, math.nan)
    if style.measurable:
        note = "0 = base, 1 = held-out real images of the brand"
    else:
        note = (
            "not measurable: the base is no farther from the brand than the brand's own held-out "
            f"images are (scale {_short(style.scale)})"
        )
    return [
        Measure(
            metric="style",
            slice="held-out captions",
            items=items,
            base=zero if style.measurable else undefined,
            adapter=style.score,
            difference=style.score,
            higher_is_better=True,
            note=note,
        ),
        Measure(
            metric="style distance",
            slice="held-out captions",
            items=items,
            base=style.base,
            adapter=style.adapter,
            difference=style.difference,
            higher_is_better=False,
            note=f"real {style.real:.2f}",
        ),
    ]


def _nearest(
    samples: dict[str, list[Image.Image]],
    real: Sequence[Image.Image],
    train: Sequence[Row],
    brand: Sequence[Image.Image],
    prompts: Sequence[str],
) -> tuple[Measure, list[Path]]:
    metric = NearestTraining(brand)
    found = {name: metric.find(images) for name, images in samples.items()}
    stats = {name: [np.array([n.similarity]) for n in near] for name, near in found.items()}
    base, adapter, difference = paired_bootstrap(
        stats["base"], stats[ADAPTER], metric.reduce, clusters=prompts
    )
    held_out = bootstrap([np.array([n.similarity]) for n in metric.find(real)], metric.reduce)
    measure = Measure(
        metric="nearest training image",
        slice="held-out captions",
        items=len(prompts),
        base=base,
        adapter=adapter,
        difference=difference,
        higher_is_better=False,
        note=f"real {held_out.value:.2f}",
    )
    return measure, [train[n.index].path for n in found[ADAPTER]]


def _write(
    folder: Path, asked: Sequence[tuple[Row, int]], images: Sequence[Image.Image]
) -> list[Path]:
    folder.mkdir(parents=True, exist_ok=True)
    # A row's id may hold anything; its hash is a safe name.
    paths = [folder / f"{hash_text(row.id)[:16]}-{seed}.png" for row, seed in asked]
    for path, image in zip(paths, images, strict=True):
        image.save(path)
    return paths


def draw_grid(prompts: Sequence[str], rows: dict[str, Sequence[Image.Image]]) -> Image.Image:
    """A picture with one column for each prompt and one labelled row for each set of images."""
    columns = min(GRID_COLUMNS, len(prompts))
    # Evenly over all prompts: the first ones alone would be one corner of the alphabet.
    picked = [i * len(prompts) // columns for i in range(columns)]
    canvas = Image.new("RGB", (LABEL + columns * TILE, HEAD + len(rows) * TILE), "white")
    pen, font = ImageDraw.Draw(canvas), ImageFont.load_default(13)
    for x, i in enumerate(picked):
        pen.text((LABEL + x * TILE + 4, 3), prompts[i][:20], fill="black", font=font)
    for y, (name, images) in enumerate(rows.items()):
        pen.text((6, HEAD + y * TILE + TILE // 2 - 8), name, fill="black", font=font)
        for x, i in enumerate(picked):
            canvas.paste(_tile(images[i]), (LABEL + x * TILE, HEAD + y * TILE))
    return canvas


def _tile(image: Image.Image) -> Image.Image:
    small = max(image.size) <= TILE
    scale = TILE / max(image.size)
    size = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
    how = Image.Resampling.NEAREST if small else Image.Resampling.LANCZOS
    tile = Image.new("RGB", (TILE, TILE), "white")
    scaled = image.resize(size, how)
    tile.paste(scaled, ((TILE - size[0]) // 2, (TILE - size[1]) // 2))
    return tile
