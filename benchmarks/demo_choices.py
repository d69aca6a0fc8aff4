"""The settings of the image demo, chosen on icons that the demo doesn't test on.

    python benchmarks/demo_choices.py [--out runs/demo-choices] [--only NAME ...]

The demo's 40 test icons are left out. Of the other OpenMoji icons 24 are drawn here, 8 are the
validation and the rest train. The rule, which was fixed before the first run: of the settings whose
content has its lower end at 0.4 or above (the check `content` of eval/brand_style.yaml), take the
one with the highest style. One setting is changed at a time, beginning with the recipe's.

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

sys.path.insert(0, str(Path(__file__).parents[1] / "recipes" / "brand_style"))
import openmoji

DRAWN = 24
LEAST_CONTENT = 0.4
EPOCHS = 33  # of 3 steps: 100, as in 20 epochs of the demo's 71 icons
# Each changes one setting of recipes/brand_style/recipe.yaml for the base `starter:icons`.
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
    "steps 30": {"task.steps": 30},
}


def demo_test() -> list[str]:
    """The concepts that the demo tests on."""
    with tempfile.TemporaryDirectory() as folder:
        manifest = openmoji.make_brand(Path(folder))
        rows = mmtune.check(manifest, "image").rows
    return [row.id for row in rows if row.split == "test"]


def figures(comparison: Any) -> dict[str, Any]:
    """The adapter's style, content and prompt match on the drawn captions."""
    wanted = ("style", "content", "prompt match")
    return {
        m.metric: m.adapter
        for m in comparison.measures
        if m.metric in wanted and m.slice == "held-out captions"
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--out", type=Path, default=Path("runs/demo-choices"), metavar="DIR")
    parser.add_argument("--only", nargs="*", choices=list(CHOICES), metavar="NAME")
    options = parser.parse_args()
    out: Path = options.out
    brand = openmoji.make_brand(out / "openmoji", without=demo_test(), test=DRAWN)
    found: dict[str, dict[str, Any]] = {}
    for name in options.only or CHOICES:
        began = time.perf_counter()
        # Full strength alone, and no search for copies: neither is chosen here.
        settings = {"scales": [1.0], "copy_seeds": 0, "seeds": 2, "epochs": EPOCHS}
        folder = name.replace(" ", "-").replace(".", "")
        result = mmtune.train(
            "brand_style", data=brand, out=out, name=folder, **settings | CHOICES[name]
        )
        found[name] = figures(result.comparison)
        shown = "   ".join(f"{metric} {value}" for metric, value in found[name].items())
        print(f"{name:<18} {shown}   {time.perf_counter() - began:.0f} s", flush=True)
    good = {name: each for name, each in found.items() if each["content"].low >= LEAST_CONTENT}
    if good:
        print(f"chosen: {max(good, key=lambda name: good[name]['style'].value)}")
    else:
        print("chosen: none; no setting keeps enough content")


if __name__ == "__main__":
    main()
