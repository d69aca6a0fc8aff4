"""Teach a diffusion model the look of a brand, and draw prompts of yours in it.

    python recipes/brand_style/brand_style.py --data ./our-brand "a red apple" "a teapot"

A LoRA is trained on pictures with captions. Base and adapter draw the captions of pictures that no
training saw, from the same noise, and the report compares them. Then they draw your prompts.
"""

from __future__ import annotations

import argparse
import sys

import mmtune


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("prompts", nargs="*", metavar="PROMPT", help="what to draw afterwards")
    parser.add_argument(
        "--data", required=True, metavar="PATH", help="pictures: a folder, or a manifest.jsonl"
    )
    parser.add_argument("--base", default="starter:icons", help="diffusion model to adapt")
    parser.add_argument("--trigger", metavar="PHRASE", help="put before every caption and prompt")
    parser.add_argument("--name", default="brand_style", help="of the run's folder below runs/")
    parser.add_argument(
        "--scale", type=float, help="strength when drawing prompts (default: judged)"
    )
    parser.add_argument(
        "--seeds", type=int, nargs="+", default=[0], help="one picture of each prompt for each seed"
    )
    parser.add_argument(
        "--set", nargs="*", default=[], metavar="KEY=VALUE", help="other settings, such as epochs=5"
    )
    options = parser.parse_args()

    settings = {"data": options.data, "base": options.base, "name": options.name}
    settings |= dict(pair.split("=", 1) for pair in options.set)
    if options.trigger:
        settings["trigger"] = options.trigger

    result = mmtune.train("brand_style", **settings)
    print(result)

    if options.prompts:
        # grid.png shows the base's pictures above the adapter's.
        images = mmtune.generate(
            options.prompts,
            adapter=result.folder,
            scale=options.scale,
            seeds=options.seeds,
            grid=True,
            out=result.folder / "prompts",
        )
        print(images)


if __name__ == "__main__":
    try:
        main()
    except mmtune.MmtuneError as error:
        sys.exit(f"error: {error}")
