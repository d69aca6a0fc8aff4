"""Teach a diffusion model the look of a brand, and show how much of it was learned.

    python recipes/brand_style/brand_style.py [--data ./our-brand] [--key value …]

Without --data the brand is OpenMoji, drawn into runs/openmoji. A LoRA is trained on the UNet; then
base and adapter draw the captions of images that no training saw, from the same noise.
`mmtune train brand_style --data FOLDER` does the same.
"""

from __future__ import annotations

import sys
from pathlib import Path

from openmoji import make_brand

from mmtune.cli.run_commands import split_settings
from mmtune.errors import MmtuneError
from mmtune.image.sampling.generate import generate
from mmtune.runs.pipeline import train
from mmtune.runs.recipes import load_recipe


def main() -> None:
    _, given = split_settings(["brand_style", *sys.argv[1:]])
    if "data" not in given:
        given["data"] = str(make_brand(Path("runs/openmoji")))
    config = load_recipe("brand_style", given)
    result = train(config)

    for measure in result.comparison.measures:
        print(f"{measure.metric:<24}{measure.items:>5}  base {measure.base}  "
              f"adapter {measure.adapter}  {measure.note}")  # fmt: skip
    print(result.comparison.headline)

    # A prompt of your own, with the adapter at three strengths and the same noise.
    for weight in (0.0, 0.6, 1.0):
        files = generate(
            ["a red apple"],
            result.folder / "try",
            base=config.base,
            adapter=result.folder / "adapter",
            weight=weight,
            steps=config.task.steps,
            guidance=config.task.guidance,
        )
        print(f"weight {weight}: {files[0]}")
    print(f"adapter {result.folder / 'adapter'}   report {result.folder / 'report.html'}")
    for line in result.verdict.lines() if result.verdict is not None else ():
        print(line)


if __name__ == "__main__":
    try:
        main()
    except MmtuneError as error:
        sys.exit(f"error: {error}")
