"""What a training step of an image base takes on a GPU, beside what was estimated before it.

    python benchmarks/image_memory.py --model sdxl --side 1024 --batch 4 --out image_memory.md

For each way to hold the base (bf16, int8, NF4; with gradient checkpointing or without) the recipe
trains a LoRA for a few steps through `mmtune.training.loop.fit`, as `mmtune train` does, on drawn
pictures:

- resting: bytes that weights of base and adapter hold before a step;
- estimated: what `mmtune train` says before its first whole step, from that of one row;
- measured: the allocator's peak over the steps that follow;
- seconds a step, without the first ones.

`sd` and `sdxl` are Stable Diffusion 1.5 and SDXL in their own sizes (`--shrink 1`) with random
weights, which hold and compute as much as trained ones; or name any base. The diffusers loop of
`image_training.py` runs beside them in the same precision and batch, encoding every step.
"""

from __future__ import annotations

import argparse
import gc
import statistics
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import torch
from image_training import THEIRS, Model, Watch, now, theirs
from shrunk import NATIVE, make, pictures

import mmtune
from mmtune.image.diffusion.base import load_base
from mmtune.image.image_task import ImageTask
from mmtune.prefix.cache import PrefixCache
from mmtune.system.precision import DTYPES
from mmtune.system.processes import pick_device
from mmtune.training.loop import fit
from mmtune.training.preflight import Preflight

WAYS = {
    "whole": {},
    "whole, checkpointing": {"gradient_checkpointing": "true"},
    "int8": {"quantize": "int8"},
    "int8, checkpointing": {"quantize": "int8", "gradient_checkpointing": "true"},
    "nf4": {"quantize": "nf4"},
    "nf4, checkpointing": {"quantize": "nf4", "gradient_checkpointing": "true"},
}
GIB = 2**30
SKIPPED = 2  # steps that no time is taken of


@dataclass(frozen=True)
class Measured:
    """One way to hold the base."""

    name: str
    resting: int  # bytes; 0 where it wasn't read
    estimated: int  # bytes; 0 where nothing estimates
    peak: int  # bytes
    seconds: float  # a step
    loss: float  # mean of the steps

    def row(self) -> str:
        """Of the table."""
        sizes = self.resting, self.estimated, self.peak
        cells = [f"{size / GIB:.2f}" if size else "" for size in sizes]
        cells.append(f"{100 * (self.estimated / self.peak - 1):+.0f} %" if self.estimated else "")
        cells += [f"{self.seconds:.3f}", f"{self.loss:.3f}"]
        return f"| {self.name} | {' | '.join(cells)} |"


class Peaks(Watch):
    """The clock and the allocator's peak after each step."""

    def __init__(self) -> None:
        super().__init__()
        self.facts: Preflight | None = None
        self.resting = self.peak = 0
        self.losses: list[float] = []

    def preflight(self, facts: Preflight) -> None:
        """The estimate."""
        self.facts = facts

    def step(self, step: int, total: int, loss: float, lr: float) -> None:
        """A step was made."""
        super().step(step, total, loss, lr)
        self.losses.append(loss)
        if step > 1:  # the first one made Adam's moments
            self.peak = max(self.peak, torch.cuda.max_memory_allocated())
        self.resting = torch.cuda.memory_allocated()
        torch.cuda.reset_peak_memory_stats()


def ours(args: argparse.Namespace, model: Model, data: Path, root: Path, way: str) -> Measured:
    """The recipe, for a few steps."""
    given = {
        "base": model.folder,
        "data": str(data),
        "name": "run",
        "resolution": str(model.side),
        "batch_size": str(args.batch),
        "micro_batch": str(args.batch),
        "max_steps": str(args.steps + SKIPPED),
        "epochs": "1000",
        "precision": args.precision,
        "rank": str(args.rank),
        "scales": "[1.0]",
        **WAYS[way],
    }
    config = mmtune.load_recipe("brand_style", **given)
    dataset = mmtune.check(data, "image", strict=True)
    quantized = WAYS[way].get("quantize", "none")
    base = load_base(model.folder, pick_device(), DTYPES[args.precision], quantized)  # type: ignore[arg-type]
    task = ImageTask(config, dataset, base, PrefixCache(root / "cache"))
    watch = Peaks()
    with tempfile.TemporaryDirectory(dir=root) as folder:
        fit(task, dataset.split("train"), [], config.train, Path(folder), watch)
    if watch.facts is None:
        raise RuntimeError("the loop gave no estimate")
    seconds = statistics.median(watch.times(SKIPPED).wall)
    loss = statistics.fmean(watch.losses)
    return Measured(way, watch.resting, watch.facts.needed_bytes, watch.peak, seconds, loss)


def beside(args: argparse.Namespace, model: Model, data: Path) -> Measured:
    """diffusers' loop, which encodes in every step."""
    rows = mmtune.check(data, "image", strict=True).split("train")
    args.warmup = SKIPPED
    torch.cuda.reset_peak_memory_stats()
    times = theirs(args, model, rows, rank=args.rank)
    peak = torch.cuda.max_memory_allocated()
    return Measured(THEIRS, 0, 0, peak, times.step(), float("nan"))


def table(found: list[Measured], args: argparse.Namespace, side: int) -> str:
    """Markdown for docs/scale.md."""
    lines = [
        "| base | resting, GiB | estimated | measured | estimate off by | s a step | mean loss |",
        "|---|---|---|---|---|---|---|",
        *(each.row() for each in found),
        "",
        f"{args.model}, {side} pixels, {args.precision}, batch {args.batch} in one forward, LoRA "
        f"of rank {args.rank}, {args.steps} steps after {SKIPPED}; {torch.cuda.get_device_name()}, "
        f"torch {torch.__version__}.",
    ]
    return "\n".join(lines)


def main() -> None:
    """Measure each way, print and write the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--model", default="sdxl", help="sd, sdxl (random weights), or a base")
    parser.add_argument("--shrink", type=int, default=1, help="divides all widths of sd and sdxl")
    parser.add_argument("--side", type=int, help="pixels (default: the published ones)")
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--rank", type=int, default=16)
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--rows", type=int, default=24, help="of drawn pictures")
    parser.add_argument("--ways", nargs="+", choices=list(WAYS), default=list(WAYS))
    parser.add_argument("--precision", choices=list(DTYPES), default="bf16")
    parser.add_argument("--out", type=Path, help="write the table to this file")
    args = parser.parse_args()
    if not torch.cuda.is_available():
        parser.error("this measures a GPU's memory, and there is none")
    with tempfile.TemporaryDirectory() as folder:
        root, found = Path(folder), []
        began = time.perf_counter()
        if args.model in NATIVE:
            make(args.model, args.shrink, root / "base", torch.float16)
            model = Model(args.model, str(root / "base"), args.side or NATIVE[args.model])
        else:
            side = load_base(args.model, torch.device("cpu"), torch.float32).resolution
            model = Model(args.model, args.model, args.side or side)
        print(f"made in {time.perf_counter() - began:.0f} s", flush=True)
        data = pictures(root / "pictures", args.rows, model.side)
        for way in [*args.ways, THEIRS]:
            gc.collect()
            torch.cuda.empty_cache()
            began = now()[0]
            found.append(
                beside(args, model, data) if way == THEIRS else ours(args, model, data, root, way)
            )
            print(f"{found[-1].row()} ({now()[0] - began:.0f} s in all)", flush=True)
            if args.out:
                args.out.write_text(table(found, args, model.side) + "\n", encoding="utf-8")
    print(table(found, args, model.side))


if __name__ == "__main__":
    main()
