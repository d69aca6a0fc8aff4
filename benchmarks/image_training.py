"""How much faster LoRA on a diffusion model trains here than as diffusers documents it.

    python benchmarks/image_training.py --repeats 5 --out image_training.md

Both sides train the same weights with LoRA of the same rank on the same modules, on the same
pictures and captions, in the same number format, with the same batch and AdamW:

- theirs: the loop of diffusers' `train_text_to_image_lora.py` and `…_lora_sdxl.py`. Each step opens
  the pictures, encodes them with the autoencoder and the captions with the text encoders, and then
  trains. And a variant that encodes the captions once, before it begins.
- ours: `mmtune.training.loop.fit` on stored latents and embeddings. Storing them is timed apart.

The models:

- `sd` and `sdxl`: Stable Diffusion 1.5 and SDXL with their own depths and all widths and the
  resolution divided (`--shrink`, `--side`), random weights. How the cost of the encoders relates to
  that of the denoiser is printed beside what it is in the published sizes (floating-point
  operations, counted by PyTorch).
- `starter:icons`, or any other base by `--models`: as it is.

In each repeat all sides run once, in an order that changes, so that what else the machine does hits
all of them; a ratio is of one repeat, and the median over repeats is given with its range. The
first steps of a side are not counted. The ceiling is what no cache can exceed: 1 + encode / train,
both measured within their own loop, in that repeat. CPU seconds depend less on what else runs, but
they count threads that wait for one another: on a busy machine set OMP_NUM_THREADS=1.
"""

from __future__ import annotations

import argparse
import platform
import random
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from shrunk import NATIVE, SHRINK, make, pictures, share
from timing import finish, spread

from mmtune.data.check import check
from mmtune.data.rows import Row
from mmtune.image.diffusion.base import load_base
from mmtune.image.image_task import ImageTask
from mmtune.image.pictures.pixels import open_image
from mmtune.prefix.cache import PrefixCache
from mmtune.runs.modalities import find_modality
from mmtune.runs.recipes import configure
from mmtune.system.precision import DTYPES
from mmtune.system.processes import pick_device
from mmtune.training.loop import fit
from mmtune.training.reporter import Reporter

OURS, THEIRS, TEXT_ONCE = "mmtune", "diffusers", "diffusers, captions encoded once"
LORA = ["to_k", "to_q", "to_v", "to_out.0"]  # diffusers' scripts
RANK, LR = 4, 1e-4
TEST = 0.2  # of the pictures; ImageTask wants some held out


@dataclass(frozen=True)
class Model:
    """A folder that both sides load."""

    name: str
    folder: str
    side: int  # pixels
    note: str = ""


@dataclass
class Times:
    """Seconds of the counted steps of one run, by the clock and of the CPU."""

    wall: list[float] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)
    encode: list[tuple[float, float]] = field(default_factory=list)  # of each step, theirs only

    def step(self, of: str = "wall") -> float:
        """Median."""
        return statistics.median(getattr(self, of))

    def ceiling(self, of: str = "wall") -> float:
        """What a loop without encoding could reach: step / (step - encode), of medians."""
        encode = statistics.median(pair[of == "cpu"] for pair in self.encode)
        return self.step(of) / (self.step(of) - encode)


def now() -> tuple[float, float]:
    """The clock and this process's CPU time, when the accelerator has finished."""
    finish()
    return time.perf_counter(), time.process_time()


# --- the two sides ---


def ours(args: argparse.Namespace, model: Model, data: Path, root: Path) -> tuple[Times, float]:
    """Our loop on a filled cache, and seconds that filling took (0 where it was filled)."""
    config = configure(
        {
            "recipe": "benchmark",
            "modality": "image",
            "name": "run",
            "base": model.folder,
            "data": {"path": str(data), "validation": 0, "test": TEST},
            "lora": {"rank": RANK, "alpha": RANK, "targets": LORA},
            "train": {
                "epochs": 1000,
                "max_steps": args.warmup + args.steps,
                "batch_size": args.batch,
                "lr": LR,
                "warmup": 0,
                "precision": args.precision,
                "checkpoint_every": 10**6,
            },
            "task": {"resolution": model.side, "caption_dropout": 0, "min_snr": None},
        },
        "benchmark",
        {},
    )
    modality = find_modality("image")
    dataset = check(data, modality, config.data)
    base = load_base(model.folder, pick_device(), DTYPES[args.precision])
    task = ImageTask(config, dataset, base, PrefixCache(root / "cache"))
    rows = dataset.split("train")
    began = now()[0]
    filled = task.features.fill(part for row in rows for part in task.variants(row))
    seconds = now()[0] - began if filled else 0.0
    watch = Watch()
    with tempfile.TemporaryDirectory(dir=root) as folder:
        fit(task, rows, [], config.train, Path(folder), watch)
    return watch.times(args.warmup), seconds


class Watch(Reporter):
    """The clock after each step."""

    def __init__(self) -> None:
        self.ticks: list[tuple[float, float]] = []

    def step(self, step: int, total: int, loss: float, lr: float) -> None:
        """A step was made."""
        self.ticks.append(now())

    def times(self, warmup: int) -> Times:
        """Between the ticks, without the first steps."""
        pairs = list(zip(self.ticks, self.ticks[1:], strict=False))[max(0, warmup - 1) :]
        return Times([b[0] - a[0] for a, b in pairs], [b[1] - a[1] for a, b in pairs])


def theirs(
    args: argparse.Namespace,
    model: Model,
    rows: Sequence[Row],
    text_once: bool = False,
    *,
    lr: float = LR,
    rank: int = RANK,
    after: Callable[[int, Any], None] = lambda step, unet: None,
    pipeline: Any = None,
) -> Times:
    """The loop of diffusers' scripts; `after` each step, while no time is counted, is called.

    A loaded `pipeline` is trained in place of the model's folder.
    """
    from accelerate import Accelerator
    from diffusers import DDPMScheduler
    from diffusers.training_utils import cast_training_params
    from peft import LoraConfig

    accelerator = Accelerator(mixed_precision="no" if args.precision == "fp32" else args.precision)
    device, dtype = accelerator.device, DTYPES[args.precision]
    if pipeline is None:
        pipeline = load_base(model.folder, device, dtype).pipeline
    unet, vae = pipeline.unet, pipeline.vae
    torch.manual_seed(0)
    unet.add_adapter(
        LoraConfig(r=rank, lora_alpha=rank, init_lora_weights="gaussian", target_modules=LORA)
    )
    cast_training_params(unet, dtype=torch.float32)
    weights = [p for p in unet.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(weights, lr=lr, weight_decay=1e-2)
    unet, optimizer = accelerator.prepare(unet, optimizer)
    schedule = DDPMScheduler.from_config(pipeline.scheduler.config)

    @torch.no_grad()
    def text(captions: list[str]) -> tuple[Any, Any]:
        found = pipeline.encode_prompt(
            prompt=captions,
            device=device,
            num_images_per_prompt=1,
            do_classifier_free_guidance=False,
        )
        return found[0], found[2] if len(found) > 2 else None

    stored = {row.id: text([row.reference]) for row in rows} if text_once else {}
    order = random.Random(0)
    done = Times()
    unet.train()
    for step in range(args.warmup + args.steps):
        batch = order.sample(list(rows), args.batch)
        began = now()
        pixels = torch.stack([pixels_of(row.path, model.side) for row in batch])
        with torch.no_grad():
            encoded = vae.encode(pixels.to(device, dtype))
        latents = encoded.latent_dist.sample() if hasattr(encoded, "latent_dist") else encoded[0]
        latents = latents * vae.config.scaling_factor
        if text_once:
            embeds = torch.cat([stored[row.id][0] for row in batch])
            pooled = [stored[row.id][1] for row in batch]
            pooled = torch.cat(pooled) if pooled[0] is not None else None
        else:
            embeds, pooled = text([row.reference for row in batch])
        encoded_at = now()
        noise = torch.randn_like(latents)
        steps = torch.randint(0, schedule.config.num_train_timesteps, (len(batch),), device=device)
        noisy = schedule.add_noise(latents, noise, steps)
        target = noise
        if schedule.config.prediction_type == "v_prediction":
            target = schedule.get_velocity(latents, noise, steps)
        added = None
        if pooled is not None:
            sizes = torch.tensor([[model.side, model.side, 0, 0, model.side, model.side]])
            added = {
                "text_embeds": pooled,
                "time_ids": sizes.to(device, dtype).expand(len(batch), -1),
            }
        predicted = unet(noisy, steps, embeds, added_cond_kwargs=added, return_dict=False)[0]
        loss = torch.nn.functional.mse_loss(predicted.float(), target.float())
        accelerator.backward(loss)
        accelerator.clip_grad_norm_(weights, 1.0)
        optimizer.step()
        optimizer.zero_grad()
        loss.item()  # the scripts log it in each step
        ended = now()
        if step >= args.warmup:
            done.wall.append(ended[0] - began[0])
            done.cpu.append(ended[1] - began[1])
            done.encode.append((encoded_at[0] - began[0], encoded_at[1] - began[1]))
        after(step + 1, unet)
    return done


def pixels_of(path: Path, side: int) -> torch.Tensor:
    """The scripts' transforms: resize the shorter side, cut the centre, scale to [-1, 1]."""
    image = open_image(path)
    scale = side / min(image.size)
    size = max(side, round(image.width * scale)), max(side, round(image.height * scale))
    image = image.resize(size, Image.Resampling.BILINEAR)
    left, top = (size[0] - side) // 2, (size[1] - side) // 2
    values = np.asarray(image.crop((left, top, left + side, top + side)), np.float32)
    return torch.from_numpy(values / 127.5 - 1).permute(2, 0, 1)


# --- the table ---


@dataclass
class Result:
    """All repeats of one model."""

    model: Model
    runs: dict[str, list[Times]]
    fill: float  # seconds
    rows: int


def measure(args: argparse.Namespace, model: Model, root: Path) -> Result:
    """All sides, `args.repeats` times."""
    data = args.data or pictures(root / f"pictures-{model.side}", args.rows, model.side)
    options = configure(
        {"recipe": "b", "modality": "image", "name": "b", "base": model.folder,
         "data": {"path": str(data), "validation": 0, "test": TEST}}, "b", {},
    ).data  # fmt: skip
    rows = check(data, find_modality("image"), options).split("train")
    result = Result(model, {name: [] for name in (THEIRS, TEXT_ONCE, OURS)}, 0.0, len(rows))

    def run(name: str) -> Times:
        if name != OURS:
            return theirs(args, model, rows, name == TEXT_ONCE)
        times, seconds = ours(args, model, data, root)
        result.fill = result.fill or seconds
        return times

    names = list(result.runs)
    for repeat in range(args.repeats):
        turn = repeat % len(names)
        for name in names[turn:] + names[:turn]:
            times = run(name)
            result.runs[name].append(times)
            print(f"{model.name}, {name}: {1 / times.step():.3f} steps/s", flush=True)
    return result


def lines(result: Result) -> list[str]:
    """Rows of the table for one model."""
    made = result.runs[OURS]
    written = []
    for name, runs in result.runs.items():
        rate = spread([1 / t.step() for t in runs], 3)
        cells = ["", "", ""]
        if name != OURS:
            pairs = list(zip(runs, made, strict=True))
            ratio = {of: [t.step(of) / m.step(of) for t, m in pairs] for of in ("wall", "cpu")}
            top = {of: [t.ceiling(of) for t in runs] for of in ("wall", "cpu")}
            reached = [r / c for r, c in zip(ratio["wall"], top["wall"], strict=True)]
            cells = [
                f"{spread(ratio['wall'])}x; CPU {spread(ratio['cpu'])}x",
                f"{spread(top['wall'])}x; CPU {spread(top['cpu'])}x",
                spread(reached),
            ]
        written.append(f"| {result.model.name}, {name} | {rate} | {' | '.join(cells)} |")
    return written


def table(results: Sequence[Result], args: argparse.Namespace) -> str:
    """Markdown for docs/results.md."""
    written = [
        "| | steps/s | mmtune is so many times as fast | ceiling | share of it |",
        "|---|---|---|---|---|",
        *(line for result in results for line in lines(result)),
        "",
    ]
    for result in results:
        # Epochs after which storing has paid for itself, by the steps that it makes shorter.
        saved = [t.step() - m.step() for t, m in zip(
            result.runs[THEIRS], result.runs[OURS], strict=True
        )]  # fmt: skip
        epoch = statistics.median(saved) * result.rows / args.batch
        paid = f"paid for after {result.fill / epoch:.1f} epochs" if epoch > 0 else "never paid for"
        written.append(
            f"- {result.model.name}: {result.model.side} pixels, {result.rows} pictures, stored "
            f"once in {result.fill:.1f} s, {paid}{result.model.note}"
        )
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else platform.machine()
    written += [
        "",
        f"{args.precision}, batch {args.batch}, rank {RANK} on {', '.join(LORA)}; medians of "
        f"{args.steps} steps after {args.warmup}, {args.repeats} repeats (median and range); "
        f"{device}, {torch.get_num_threads()} threads; torch {torch.__version__.split('+')[0]}.",
    ]
    return "\n".join(written)


def main() -> None:
    """Measure all models, print and write the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument(
        "--models", nargs="*", default=["sd", "sdxl", "starter:icons"],
        help="sd, sdxl (shrunk), or bases",
    )  # fmt: skip
    parser.add_argument("--data", type=Path, help="images (default: shapes that are drawn)")
    parser.add_argument("--rows", type=int, default=24, help="of drawn images")
    parser.add_argument("--shrink", type=int, help="of sd and sdxl (default: 4 and 8)")
    parser.add_argument("--side", type=int, help="pixels of sd and sdxl (default: 256 and 512)")
    parser.add_argument("--batch", type=int, default=2)
    parser.add_argument("--steps", type=int, default=10, help="counted in each run")
    parser.add_argument("--warmup", type=int, default=2, help="steps before them; 1 or more")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--precision", choices=("fp32", "bf16", "fp16"), default="fp32")
    parser.add_argument("--out", type=Path, help="write the table to this file")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        root, results = Path(folder), []
        for name in args.models:
            if name in NATIVE:
                shrink, side = args.shrink or SHRINK[name], args.side or NATIVE[name] // 2
                make(name, shrink, root / name)
                kept, real = share(name, shrink, side), share(name, 1, NATIVE[name])
                note = f"; encoders cost {kept:.2f} passes of the denoiser, as published {real:.2f}"
                model = Model(name, str(root / name), side, note)
            else:
                side = load_base(name, torch.device("cpu"), torch.float32).resolution
                model = Model(name, name, side)
            results.append(measure(args, model, root))
        text = table(results, args)
    print(text)
    if args.out:
        args.out.write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
