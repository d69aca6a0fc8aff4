"""How long LoRA on a diffusion model takes to learn a brand, beside diffusers' documented loop.

    python tools/brands/brands.py --out runs/brands
    python benchmarks/image_quality.py --data runs/brands/openmoji/manifest.jsonl

What both are measured by is the denoiser's loss on the held-out pictures, at the same noise and the
same evenly spread timesteps. Theirs (`image_training.theirs`: attention alone, a constant rate)
trains once at each of `--rates`, and the best loss that any of them reaches is the goal. Ours is
the recipe `brand_style` as it is for this base, and once without `keep_layout`, which at the
noisiest timesteps teaches the base's own prediction and so gives this loss away on purpose. The
time of both counts everything but the measuring: theirs up to the step with its best loss, ours,
with the filling of an empty cache, up to the first loss that is no higher.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from image_training import Model, Watch, pixels_of, theirs

import mmtune
from mmtune.data.rows import Row
from mmtune.image.diffusion.base import load_base
from mmtune.image.diffusion.objective import training_schedule
from mmtune.image.image_task import ImageTask
from mmtune.prefix.cache import PrefixCache
from mmtune.training.loop import fit

CPU = torch.device("cpu")
LEVELS = 4  # timesteps of each held-out picture
AT_ONCE = 32


class HeldOut:
    """The loss on pictures that nobody trains on, with noise and timesteps that never change.

    Stable Diffusion 1.x and XL alone; XL's sizes are those of an uncut square.
    """

    def __init__(self, name: str, rows: Sequence[Row], side: int) -> None:
        pipeline = load_base(name, CPU, torch.float32).pipeline
        noise = torch.Generator().manual_seed(0)
        schedule = training_schedule(pipeline.scheduler)
        with torch.no_grad():
            pixels = torch.stack([pixels_of(row.path, side) for row in rows])
            encoded = pipeline.vae.encode(pixels)
            found = getattr(encoded, "latent_dist", None)
            latents = encoded[0] if found is None else found.mode()
            latents = latents * pipeline.vae.config.scaling_factor
            embeds = pipeline.encode_prompt(
                prompt=[row.reference for row in rows],
                device=CPU,
                num_images_per_prompt=1,
                do_classifier_free_guidance=False,
            )
        latents = latents.repeat_interleave(LEVELS, 0)
        spread = (torch.arange(LEVELS) + 0.5) / LEVELS * schedule.config.num_train_timesteps
        self.steps = spread.long().repeat(len(rows))
        drawn = torch.randn(latents.shape, generator=noise)
        self.noisy = schedule.add_noise(latents, drawn, self.steps)
        velocity = schedule.config.prediction_type == "v_prediction"
        self.target = schedule.get_velocity(latents, drawn, self.steps) if velocity else drawn
        self.embeds = embeds[0].repeat_interleave(LEVELS, 0)
        self.added: dict[str, torch.Tensor] = {}
        if len(embeds) > 2:
            sizes = torch.tensor([[side, side, 0, 0, side, side]], dtype=torch.float32)
            self.added = {
                "text_embeds": embeds[2].repeat_interleave(LEVELS, 0),
                "time_ids": sizes.expand(len(latents), -1),
            }

    @torch.no_grad()
    def loss(self, unet: Any) -> float:
        """Mean squared error of the denoiser's prediction."""
        total = 0.0
        for start in range(0, len(self.noisy), AT_ONCE):
            part = slice(start, start + AT_ONCE)
            added = {name: values[part] for name, values in self.added.items()}
            predicted = unet(
                self.noisy[part], self.steps[part], self.embeds[part],
                added_cond_kwargs=added or None, return_dict=False,
            )[0]  # fmt: skip
            total += float((predicted - self.target[part]).square().mean()) * len(predicted)
        return total / len(self.noisy)


@dataclass
class Curve:
    """Loss after seconds of training."""

    name: str
    seconds: list[float] = field(default_factory=list)
    losses: list[float] = field(default_factory=list)
    steps: list[int] = field(default_factory=list)

    @property
    def best(self) -> int:
        """Where the loss is lowest."""
        return min(range(len(self.losses)), key=self.losses.__getitem__)

    def reaches(self, loss: float) -> float | None:
        """Seconds until it is no higher than `loss`; None: never."""
        return next(
            (s for s, found in zip(self.seconds, self.losses, strict=True) if found <= loss), None
        )


def their_curve(
    args: argparse.Namespace, model: Model, rows: Sequence[Row], held_out: HeldOut, rate: float
) -> Curve:
    """diffusers' loop at a rate."""
    curve = Curve(f"diffusers, rate {rate:g}")

    def after(step: int, unet: Any) -> None:
        if step % args.every == 0:
            curve.losses.append(held_out.loss(unet))
            curve.steps.append(step)

    args.warmup = 0
    times = theirs(args, model, rows, lr=rate, rank=args.rank, after=after)
    curve.seconds = [sum(times.wall[:step]) for step in curve.steps]
    return curve


def our_curve(
    args: argparse.Namespace, model: Model, held_out: HeldOut, root: Path, keep_layout: float | None
) -> Curve:
    """The recipe, from an empty cache."""
    given = {"base": model.name, "data": str(args.data), "precision": args.precision}
    given["validate_every"] = "100000"
    given |= {} if keep_layout is None else {"keep_layout": str(keep_layout)}
    config = mmtune.load_recipe("brand_style", **given)
    curve = Curve("mmtune" if keep_layout is None else f"mmtune, keep_layout {keep_layout:g}")
    base = load_base(model.name, CPU, torch.float32)
    dataset = mmtune.check(args.data, "image", strict=True)
    began = time.perf_counter()
    spent = 0.0

    class Measured(Watch):
        def step(self, step: int, total: int, loss: float, lr: float) -> None:
            nonlocal began, spent
            spent += time.perf_counter() - began
            if step % args.every == 0:
                curve.losses.append(held_out.loss(base.pipeline.unet))
                curve.steps.append(step)
                curve.seconds.append(spent)
            began = time.perf_counter()

    with tempfile.TemporaryDirectory(dir=root) as folder:
        task = ImageTask(config, dataset, base, PrefixCache(Path(folder) / "cache"))
        fit(task, dataset.split("train"), [], config.train, Path(folder) / "run", Measured())
    return curve


def main() -> None:
    """Train all, print and write the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="images with a test split")
    parser.add_argument("--base", default="starter:icons")
    parser.add_argument("--rates", type=float, nargs="+", default=[1e-4, 1e-3, 3e-3])
    parser.add_argument("--steps", type=int, default=120, help="of theirs, at each rate")
    parser.add_argument("--every", type=int, default=5, help="steps between measurements")
    parser.add_argument("--batch", type=int, default=16, help="theirs; ours is the recipe's")
    parser.add_argument("--rank", type=int, default=16, help="theirs; ours is the recipe's")
    parser.add_argument("--out", type=Path, help="write the table to this file")
    args = parser.parse_args()
    args.precision = "fp32"
    side = load_base(args.base, CPU, torch.float32).resolution
    model = Model(args.base, args.base, side)
    dataset = mmtune.check(args.data, "image", strict=True)
    rows = dataset.split("train")
    held_out = HeldOut(args.base, dataset.split("test"), side)
    start = held_out.loss(load_base(args.base, CPU, torch.float32).pipeline.unet)
    curves = []
    with tempfile.TemporaryDirectory() as folder:
        for rate in args.rates:
            curves.append(their_curve(args, model, rows, held_out, rate))
            print(curves[-1], flush=True)
        goal = min(curves, key=lambda curve: curve.losses[curve.best])
        for layout in (None, 0.0):
            curves.append(our_curve(args, model, held_out, Path(folder), layout))
            print(curves[-1], flush=True)
    text = table(curves, goal, start)
    print(text)
    if args.out:
        args.out.write_text(text + "\n", encoding="utf-8")


def table(curves: Sequence[Curve], goal: Curve, start: float) -> str:
    """Markdown for docs/results.md."""
    wanted, needed = goal.losses[goal.best], goal.seconds[goal.best]
    lines = [
        "| | best loss | at step | seconds a step | seconds to theirs at its best | of theirs |",
        "|---|---|---|---|---|---|",
        f"| base | {start:.4f} | | | | |",
    ]
    for curve in curves:
        reached = curve.reaches(wanted)
        cells = ("never", "") if reached is None else (f"{reached:.1f}", f"{reached / needed:.2f}")
        each = curve.seconds[-1] / curve.steps[-1]
        lines.append(
            f"| {curve.name} | {curve.losses[curve.best]:.4f} | {curve.steps[curve.best]} "
            f"of {curve.steps[-1]} | {each:.2f} | {' | '.join(cells)} |"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    main()
