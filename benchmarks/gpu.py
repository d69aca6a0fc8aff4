"""What a training step of each image family takes on a GPU, at its published size.

    python benchmarks/gpu.py --minutes 8 --out gpu.md

needs one NVIDIA GPU, no network, no weights and hardly any disk: weights are random and drawn on
the GPU (`published.py`). Families come in the order of their size, each in some ways to hold the
base (`--ways`). The recipe trains a LoRA for a few steps through `mmtune.training.loop.fit`, as
`mmtune train` does, on drawn pictures:

- at rest: bytes that weights of base and adapter hold before a step;
- estimated: what `mmtune train` says before its first whole step, from that of one row;
- measured: the allocator's peak over the steps that follow;
- seconds a step: median, without the first ones.

The table is written after each row, so a run that is stopped keeps what it has. A row that doesn't
fit into the GPU's memory or the time that is left says so. `--ways diffusers` is the diffusers loop
of `image_training.py`, which encodes pictures and captions in every step (UNets only). `--base`
measures a base of yours instead. `--shrink 16 --side 64` tries the same code on a processor.
"""

from __future__ import annotations

import argparse
import gc
import statistics
import sys
import tempfile
import time
import traceback
from dataclasses import dataclass
from pathlib import Path

import published
import torch
from image_training import Model, Watch, theirs
from published import BASES
from shrunk import pictures

import mmtune
from mmtune.data.dataset import Dataset
from mmtune.errors import MmtuneError, first_line
from mmtune.image.diffusion.base import DiffusionBase, load_base
from mmtune.image.image_options import Quantize
from mmtune.image.image_task import ImageTask
from mmtune.prefix.cache import PrefixCache
from mmtune.system.precision import DTYPES
from mmtune.system.processes import pick_device
from mmtune.training.loop import fit
from mmtune.training.preflight import Preflight

THEIRS = "diffusers"
HELD: dict[str, tuple[Quantize, float]] = {  # and bytes of a weight of a linear layer
    "whole": ("none", 2),
    "int8": ("int8", 1),
    "nf4": ("nf4", 0.5),
}
SPARING = "-checkpointing"
WAYS = [*(held + also for held in HELD for also in ("", SPARING)), THEIRS]
DEFAULT_WAYS = ["whole", "whole" + SPARING, "int8" + SPARING, "nf4" + SPARING]
GIB = 2**30
SKIPPED = 2  # steps that no time is taken of
HEAD = (
    *("base", "parameters", "way", "at rest, GiB", "text encoders, GiB", "estimated", "measured"),
    *("estimate off by", "s a step", "mean loss"),
)


@dataclass(frozen=True)
class Measured:
    """One base in one way to hold it. 0 bytes: not measured."""

    resting: int
    estimated: int
    peak: int
    seconds: float  # a step
    loss: float | None  # mean of the steps


@dataclass(frozen=True)
class Row:
    """A line of the table: figures, or the reason why there are none."""

    title: str
    parameters: int
    way: str
    encoders: int  # parameters
    found: Measured | str

    def __str__(self) -> str:
        size = self.parameters
        cells = [self.title, f"{size / 1e9:.2f} B" if size >= 1e9 else f"{size / 1e6:.0f} M"]
        cells.append(self.way)
        if isinstance(self.found, str):
            reason = self.found.replace("|", "/")
            return f"| {' | '.join(cells)} | {reason} |" + " |" * (len(HEAD) - 4)
        done = self.found
        cells += [
            _gib(done.resting),
            _gib(2 * self.encoders) if self.encoders else "in it",
            _gib(done.estimated),
            _gib(done.peak),
            f"{100 * (done.estimated / done.peak - 1):+.0f} %" if done.estimated else "",
            f"{done.seconds:.3f}",
            "" if done.loss is None else f"{done.loss:.3f}",
        ]
        return f"| {' | '.join(cells)} |"


def _gib(size: int) -> str:
    return f"{size / GIB:.2f}" if size else ""


class Peaks(Watch):
    """The clock and, on a GPU, the allocator's peak after each step."""

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
        if torch.cuda.is_available():
            if step > 1:  # the first one made Adam's moments
                self.peak = max(self.peak, torch.cuda.max_memory_allocated())
            self.resting = torch.cuda.memory_allocated()
            torch.cuda.reset_peak_memory_stats()


class Bench:
    """Measures bases of one session.

    Args:
        args: of the command.
        root: a folder for pictures and cached features.
    """

    def __init__(self, args: argparse.Namespace, root: Path) -> None:
        self.args, self.root = args, root
        self.began = time.perf_counter()
        self.paces: dict[str, float] = {}  # seconds a parameter of the last row, by way
        self.rows: list[Row] = []
        self.failed = False

    def run(self) -> None:
        """Measure all rows that fit, writing the table after each."""
        for name in [self.args.base] if self.args.base else self.args.families:
            base = BASES.get(name)
            size = base.parameters if base and self.args.shrink == 1 else self._count(name)
            for way in self.args.ways:
                found = self._refused(name, way, size) or self._tried(name, way, size)
                title, encoders = (base.title, base.encoders) if base else (name, 0)
                self.rows.append(Row(title, size, way, encoders, found))
                spent = time.perf_counter() - self.began
                print(f"{self.rows[-1]} ({spent:.0f} s since the start)", flush=True)
                if self.args.out:
                    self.args.out.write_text(self.table() + "\n", encoding="utf-8")

    def _count(self, name: str) -> int:
        if name in BASES:
            with torch.device("meta"):
                model = published.denoiser(name, self.args.shrink)
        else:
            model = load_base(name, torch.device("cpu"), DTYPES[self.args.precision]).denoiser
        return sum(weight.numel() for weight in model.parameters())

    def _refused(self, name: str, way: str, size: int) -> str:
        """Why a row isn't tried; empty: it is."""
        if way == THEIRS and name in BASES and BASES[name].transformer is not None:
            return "not measured: diffusers' loop is written for UNets here"
        left = self.args.minutes * 60 - (time.perf_counter() - self.began)
        # The last row was of the next smaller base, so fixed costs are hardly scaled up.
        needed = self.paces.get(way, max(self.paces.values(), default=0)) * size
        if left <= 0 or needed > left:
            return (
                f"not measured: about {needed:.0f} s are needed, and {max(0, left):.0f} s of "
                f"{self.args.minutes:g} minutes are left"
            )
        if torch.cuda.is_available():
            _, weight = HELD.get(way.removesuffix(SPARING), HELD["whole"])
            free, _ = torch.cuda.mem_get_info()
            if self.args.precision == "fp32" and weight == 2:
                weight = 4
            if weight * size > free:
                return (
                    f"does not fit: its weights take {weight * size / GIB:.1f} GiB or more, and "
                    f"the GPU has {free / GIB:.1f} GiB free"
                )
        return ""

    def _tried(self, name: str, way: str, size: int) -> Measured | str:
        began = time.perf_counter()
        try:
            found: Measured | str = self._measure(name, way)
        except torch.OutOfMemoryError as error:
            found = f"does not fit: {first_line(error)}"
        except MmtuneError as error:
            found = f"not measured: {first_line(error)}"
        except Exception as error:  # the other rows are still worth the machine's time
            traceback.print_exc()
            self.failed = True
            found = f"failed: {type(error).__name__}: {first_line(error)}"
        gc.collect()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats()
        if not isinstance(found, str):
            self.paces[way] = (time.perf_counter() - began) / size
        return found

    def _measure(self, name: str, way: str) -> Measured:
        args = self.args
        device, dtype = pick_device(), DTYPES[args.precision]
        quantized = HELD[way.removesuffix(SPARING)][0] if way != THEIRS else "none"
        if name in BASES:
            base = published.build(name, dtype, device, quantized, args.shrink)
            side = args.side or published.side(name)
        else:
            base = load_base(name, device, dtype, quantized)
            side = args.side or base.resolution
        folder = self.root / f"pictures-{side}"
        if not folder.exists():
            pictures(folder, args.rows, side)
        dataset = mmtune.check(folder, "image", strict=True)
        if way == THEIRS:
            return self._beside(base, dataset, side)
        return self._ours(base, dataset, folder, side, way.endswith(SPARING))

    def _ours(
        self, base: DiffusionBase, dataset: Dataset, data: Path, side: int, sparing: bool
    ) -> Measured:
        """The recipe, for a few steps."""
        args = self.args
        config = mmtune.load_recipe(
            "brand_style",
            base=base.name,
            data=str(data),
            name="run",
            resolution=str(side),
            batch_size=str(args.batch),
            micro_batch=str(args.batch),
            max_steps=str(args.steps + SKIPPED),
            epochs="1000",
            precision=args.precision,
            rank=str(args.rank),
            scales="[1.0]",
            gradient_checkpointing=str(sparing).lower(),
        )
        task = ImageTask(config, dataset, base, PrefixCache(self.root / "cache"))
        watch = Peaks()
        with tempfile.TemporaryDirectory(dir=self.root) as folder:
            fit(task, dataset.split("train"), [], config.train, Path(folder), watch)
        if watch.facts is None:
            raise RuntimeError("the loop gave no estimate")
        seconds = statistics.median(watch.times(SKIPPED).wall)
        needed = watch.facts.needed_bytes
        return Measured(watch.resting, needed, watch.peak, seconds, statistics.fmean(watch.losses))

    def _beside(self, base: DiffusionBase, dataset: Dataset, side: int) -> Measured:
        """diffusers' loop."""
        model = Model(base.name, base.name, side)
        rows = dataset.split("train")
        times = theirs(self.args, model, rows, rank=self.args.rank, pipeline=base.pipeline)
        peak = torch.cuda.max_memory_allocated() if torch.cuda.is_available() else 0
        return Measured(0, 0, peak, times.step(), None)

    def table(self) -> str:
        """Markdown for docs/scale.md."""
        args = self.args
        device = torch.cuda.get_device_name() if torch.cuda.is_available() else "a processor"
        shrunk = f"All sizes are divided by {args.shrink}. " if args.shrink > 1 else ""
        side = f"{args.side} pixels" if args.side else "pictures of the published side"
        lines = [
            f"| {' | '.join(HEAD)} |",
            "|---" * len(HEAD) + "|",
            *(str(row) for row in self.rows),
            "",
            f"{side[0].upper()}{side[1:]}, {args.precision}, batch {args.batch} in one forward, "
            f"LoRA of rank {args.rank} as the recipe brand_style has it (diffusers' loop: on the "
            f"attention), {args.steps} steps after {SKIPPED}; {device}, torch {torch.__version__}. "
            f"{shrunk}Weights are random unless a base is named. "
            '"Text encoders" are not measured: they rest on the same GPU in bf16, beside what is '
            "at rest, and captions are random embeddings of the published widths. "
            '"In it": they are part of the figure.',
        ]
        return "\n".join(lines)


def main() -> None:
    """Measure, print and write the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--minutes", type=float, default=8, help="start no row that needs longer")
    parser.add_argument("--families", nargs="+", choices=list(BASES), default=list(BASES))
    parser.add_argument("--base", help="measure this base instead, with its own weights")
    parser.add_argument(
        "--ways", nargs="+", choices=WAYS, default=DEFAULT_WAYS, help="ways to hold the base"
    )
    parser.add_argument("--side", type=int, help="pixels (default: the published ones)")
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--rank", type=int, default=16)
    parser.add_argument("--steps", type=int, default=5, help="counted in each row")
    parser.add_argument("--rows", type=int, default=12, help="number of drawn pictures")
    parser.add_argument("--precision", choices=list(DTYPES), default="bf16")
    parser.add_argument("--shrink", type=int, default=1, help="divide all sizes (a power of two)")
    parser.add_argument("--out", type=Path, help="write the table to this file after each row")
    args = parser.parse_args()
    args.warmup = SKIPPED  # of `theirs`
    if not torch.cuda.is_available() and args.shrink == 1 and not args.base:
        parser.error(
            "no NVIDIA GPU was found, and these sizes need one; to try this command on a "
            "processor, give --shrink 16 --side 64 --precision fp32"
        )
    args.families = [name for name in BASES if name in args.families]  # smallest first
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(args, Path(folder))
        bench.run()
    print(bench.table())
    sys.exit(1 if bench.failed else 0)


if __name__ == "__main__":
    main()
