"""The settings of brand_style for the starter, chosen on three brands that nothing is tested on.

    python tools/brands/icon_sets.py --work FOLDER --out runs/brands --role choosing
    python benchmarks/brand_choices.py --brands runs/brands [--out runs/brand-choices]

Trains each brand with each way to train, and measures the first way with each way to draw. The
rule: of the ways whose mean content is at least 0.9, take the one with the highest mean style.
"Content" is where the adapter's prompt match lies between the brand's own pictures with others'
captions (0) and with their own (1); the figure of that name in the report needs more pictures than
there are here. One setting is changed at a time. Repeating it resumes.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Mapping
from pathlib import Path
from statistics import fmean
from typing import Any

import mmtune

LEAST_CONTENT = 0.9
STEPS = 100
# Full strength alone, and no search for copies: neither is chosen here.
FIXED: dict[str, Any] = {"scales": [1.0], "copy_seeds": 0, "seeds": 2}
WAYS_TO_TRAIN: dict[str, dict[str, Any]] = {
    "recipe": {},
    "keep_layout 0.15": {"keep_layout": 0.15},
    "rate 1.5e-3": {"lr": 1.5e-3},
    "rate 6e-3": {"lr": 6e-3},
    "rank 32": {"rank": 32, "alpha": 32},
    "attention alone": {"targets": ["to_q", "to_k", "to_v", "to_out.0"]},
}
WAYS_TO_DRAW: dict[str, dict[str, Any]] = {
    "guidance 3": {"task.guidance": 3.0},
    "guidance 7": {"task.guidance": 7.0},
    "12 sampling steps": {"task.steps": 12},
}


def figures(comparison: Any) -> tuple[float, float]:
    """The adapter's style and content on the captions that are kept back."""
    found = {m.metric: m for m in comparison.measures if m.slice == "held-out captions"}
    match = found["prompt match"]
    others = match.references["real, others' captions"].value
    content = (match.adapter.value - others) / (match.references["real"].value - others)
    return found["style"].adapter.value, content


def folder_name(brand: str, way: str) -> str:
    return f"{brand}-{way}".replace(" ", "-").replace(".", "")


def train(brand: Path, way: str, settings: Mapping[str, Any], out: Path) -> Any:
    """The comparison of a run with as many steps as the demo has."""
    given = FIXED | {"train.max_steps": STEPS, "epochs": 1000} | settings
    name = folder_name(brand.parent.name, way)
    return mmtune.train("brand_style", data=brand, out=out, name=name, **given).comparison


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--brands", type=Path, default=Path("runs/brands"), metavar="DIR")
    parser.add_argument("--names", nargs="+", default=["lucide", "icon-park", "fxemoji"])
    parser.add_argument("--out", type=Path, default=Path("runs/brand-choices"), metavar="DIR")
    parser.add_argument("--base", help="instead of the starter")
    ways = [*WAYS_TO_TRAIN, *WAYS_TO_DRAW]
    parser.add_argument("--only", nargs="+", choices=ways, default=ways, metavar="WAY")
    options = parser.parse_args()
    out: Path = options.out
    base = {"base": options.base} if options.base else {}
    found: dict[str, list[tuple[float, float]]] = {}
    for way in options.only:
        began = time.perf_counter()
        for name in options.names:
            brand = options.brands / name / "manifest.jsonl"
            if way in WAYS_TO_TRAIN:
                comparison = train(brand, way, base | WAYS_TO_TRAIN[way], out)
            else:
                comparison = mmtune.evaluate(
                    out / folder_name(name, "recipe"),
                    data=brand,
                    out=out / folder_name(name, way),
                    settings=FIXED | WAYS_TO_DRAW[way],
                ).comparison
            found.setdefault(way, []).append(figures(comparison))
        style, content = (fmean(each[i] for each in found[way]) for i in range(2))
        each = "  ".join(
            f"{name} {s:.2f} {c:.2f}"
            for name, (s, c) in zip(options.names, found[way], strict=True)
        )
        seconds = time.perf_counter() - began
        print(
            f"{way:<18} style {style:.2f} content {content:.2f}   {each}   {seconds:.0f} s",
            flush=True,
        )
    means = {w: (fmean(s for s, _ in f), fmean(c for _, c in f)) for w, f in found.items()}
    good = {way: style for way, (style, content) in means.items() if content >= LEAST_CONTENT}
    print(f"chosen: {max(good, key=good.__getitem__) if good else 'none keeps enough content'}")


if __name__ == "__main__":
    main()
