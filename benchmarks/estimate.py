"""What `mmtune train` says before training that the whole command will take, and what it took.

    python benchmarks/estimate.py [--steps 30] [--pictures 4] [--out /tmp/estimate] [--history]

Trains the demo's speech and image adapters in an empty cache, whole or shortened, and
prints the seconds of each phase as they were said after the first steps and as they were. On a
machine that does other work as well, both change with its load, which is printed too.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1] / "recipes" / "brand_style"))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--steps", type=int, metavar="N", help="train for N steps (default: all)")
    parser.add_argument(
        "--pictures",
        type=int,
        metavar="N",
        help="draw N pictures of one seed, in 8 steps of the sampler, for each measurement",
    )
    parser.add_argument("--out", type=Path, metavar="DIR", help="folder of the runs")
    parser.add_argument(
        "--only", choices=("speech", "image"), help="train one adapter (default: both)"
    )
    parser.add_argument(
        "--history", action="store_true", help="train each twice; the second knows the first"
    )
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        out: Path = options.out or Path(scratch) / "runs"
        os.environ["MMTUNE_CACHE"] = str(Path(scratch) / "cache")  # before mmtune reads it
        for number in range(1 + options.history):
            for kind in [options.only] if options.only else ["speech", "image"]:
                run(kind, out, f"{kind}-{number}", options.steps, options.pictures)


def run(kind: str, out: Path, name: str, steps: int | None, pictures: int | None) -> None:
    """Train one adapter of the demo, and print its table."""
    import mmtune
    from mmtune.training.log import read_log

    given: dict[str, Any] = {"max_steps": steps} if steps else {}
    if kind == "speech":
        given |= {"terms": "medical", "scales": [1.0], "probes": 0}
        given |= {"joined": 0, "nonspeech": 0, "timestamps": 0}
    else:
        from openmoji import make_brand

        given |= {"data": make_brand(out / "openmoji"), "scales": [0.5, 0.75, 1.0]}
        if pictures:
            given |= {"scale_images": pictures, "validation_images": pictures, "seeds": 1}
            given |= {"copy_captions": pictures, "copy_seeds": 1, "task.steps": 8}
    before = os.getloadavg()[0]
    recipe = {"speech": "terminology", "image": "brand_style"}[kind]
    folder = mmtune.train(recipe, out=out, name=name, **given).folder
    events = {e["event"]: e for e in read_log(folder / "log.jsonl") if "event" in e}
    first, said, took = (events[key]["phases"] for key in ("range", "estimate", "took"))
    print(f"\n{name}: load {before:.1f} before, {os.getloadavg()[0]:.1f} after")
    print(f"{'phase':<24}{'first':>8}{'said':>8}{'took':>8}{'said/took':>11}")
    for phase in said:
        show(phase, first[phase], said[phase], took.get(phase, 0.0))
    show("whole command", sum(first.values()), sum(said.values()), sum(took.values()))


def show(phase: str, first: float, said: float, took: float) -> None:
    """Print one line of the table."""
    ratio = f"{said / took:.2f}" if took else ""
    print(f"{phase:<24}{first:>8.1f}{said:>8.1f}{took:>8.1f}{ratio:>11}", flush=True)


if __name__ == "__main__":
    main()
