"""The settings of the image demo, chosen on icons that the demo doesn't test on.

    python benchmarks/demo_choices.py [--out runs/demo-choices] [--only NAME ...]

The demo's 40 test icons are left out. Of the other OpenMoji icons 24 are drawn here, 8 are the
validation and the rest train. The rule: of the settings whose content has its lower end at 0.4 or
above, take the one with the highest style. "Content" is where the adapter's prompt match lies
between the brand's own pictures with others' captions (0) and with their own (1); the figure of
that name in the report needs more pictures than there are here. One setting is changed at a time.

There are fewer training icons here, so each epoch has fewer steps: 33 epochs are as many steps as
the demo's 20. Repeating it resumes. On two cores each of the trainings takes about five minutes.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import mmtune
from mmtune.metrics.bootstrap import Interval

sys.path.insert(0, str(Path(__file__).parents[1] / "recipes" / "brand_style"))
import openmoji

DRAWN = 24
LEAST_CONTENT = 0.4
EPOCHS = 33  # of 3 steps: 100, as in 20 epochs of the demo's 71 icons
# Each changes one setting of what recipes/brand_style/recipe.yaml had for the base `starter:icons`
# before the choice.
BEFORE = {"keep_layout": 0.25, "lr": 3e-3, "epochs": EPOCHS, "task.steps": 20}
CHOICES: dict[str, dict[str, Any]] = {
    "recipe": {},
    "keep_layout 0": {"keep_layout": 0.0},
    "keep_layout 0.15": {"keep_layout": 0.15},
    "keep_layout 0.4": {"keep_layout": 0.4},
    "lr 1.5e-3": {"lr": 1.5e-3},
    "lr 6e-3": {"lr": 6e-3},
    "half the epochs": {"epochs": EPOCHS // 2},
    "twice the epochs": {"epochs": 2 * EPOCHS},
    "steps 12": {"task.steps": 12},
}


def demo_test() -> list[str]:
    """The concepts that the demo tests on."""
    with tempfile.TemporaryDirectory() as folder:
        manifest = openmoji.make_brand(Path(folder))
        rows = mmtune.check(manifest, "image").rows
    return [row.id for row in rows if row.split == "test"]


def figures(comparison: Any) -> tuple[Any, Any]:
    """The adapter's style and content on the drawn captions, each with its interval."""
    found = {m.metric: m for m in comparison.measures if m.slice == "held-out captions"}
    match = found["prompt match"]
    others = match.references["real, others' captions"].value
    gap = match.references["real"].value - others
    content = [
        (end - others) / gap for end in (match.adapter.value, match.adapter.low, match.adapter.high)
    ]
    return found["style"].adapter, Interval(*content)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--out", type=Path, default=Path("runs/demo-choices"), metavar="DIR")
    parser.add_argument("--only", nargs="*", choices=list(CHOICES), metavar="NAME")
    options = parser.parse_args()
    out: Path = options.out
    brand = openmoji.make_brand(out / "openmoji", without=demo_test(), test=DRAWN)
    found: dict[str, tuple[Any, Any]] = {}
    for name in options.only or CHOICES:
        began = time.perf_counter()
        # Full strength alone, and no search for copies: neither is chosen here.
        settings = {"scales": [1.0], "copy_seeds": 0, "seeds": 2} | BEFORE
        folder = name.replace(" ", "-").replace(".", "")
        result = mmtune.train(
            "brand_style", data=brand, out=out, name=folder, **settings | CHOICES[name]
        )
        found[name] = figures(result.comparison)
        style, content = found[name]
        seconds = time.perf_counter() - began
        print(f"{name:<18} style {style}   content {content}   {seconds:.0f} s", flush=True)
    good = {name: each for name, each in found.items() if each[1].low >= LEAST_CONTENT}
    if good:
        print(f"chosen: {max(good, key=lambda name: good[name][0].value)}")
    else:
        print("chosen: none; no setting keeps enough content")


if __name__ == "__main__":
    main()
