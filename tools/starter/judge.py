"""Does a sample show what its caption names? A classifier of the real icons answers.

    python tools/starter/judge.py --work runs/starter --pipeline assets/starter-icons
    python tools/starter/judge.py --work runs/starter --run runs/demo/brand_style

The classifier never sees a held-out (concept, style) pair, nor a sample. Its accuracy on
the real held-out icons, printed first, is the ceiling to read the other figures against.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from icons import ASSETS, Icons, caption, load_icons, words
from torch import nn


def make_classifier(classes: int) -> nn.Module:
    """(n, 3, 64, 64) in [-1, 1] -> logits (n, classes)."""
    layers: list[nn.Module] = []
    for i, o in ((3, 32), (32, 64), (64, 128), (128, 192)):
        layers += [
            nn.Conv2d(i, o, 3, 2, 1, bias=False),
            nn.BatchNorm2d(o),
            nn.ReLU(),
            nn.Conv2d(o, o, 3, 1, 1, groups=o // 32, bias=False),
            nn.BatchNorm2d(o),
            nn.ReLU(),
        ]
    layers += [nn.Flatten(), nn.Dropout(0.5), nn.Linear(192 * 16, classes)]
    return nn.Sequential(*layers)


def augment(x: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Turn, scale, move, mirror, recolour, blur and noise: (n, 3, 64, 64) -> the same."""
    n = len(x)

    def uniform(low: float, high: float, *shape: int) -> torch.Tensor:
        return torch.rand(n, *shape, generator=generator) * (high - low) + low

    angle, scale = uniform(-0.35, 0.35), uniform(0.8, 1.25)
    mirror = uniform(-1, 1).sign()
    cos, sin = angle.cos() * scale, angle.sin() * scale
    theta = torch.stack(
        [
            torch.stack([cos * mirror, -sin, uniform(-0.15, 0.15)], 1),
            torch.stack([sin * mirror, cos, uniform(-0.15, 0.15)], 1),
        ],
        1,
    )
    grid = F.affine_grid(theta, list(x.shape), align_corners=False)
    x = 1 + F.grid_sample(x - 1, grid, align_corners=False)  # outside is white
    x = 1 + (x - 1) * uniform(0.7, 1.3, 3)[:, :, None, None]
    soft = F.avg_pool2d(F.pad(x, (1, 1, 1, 1), value=1.0), 3, 1)
    x = torch.lerp(x, soft, uniform(0, 1)[:, None, None, None])
    # Some in grey: a concept is a shape, whatever colour a style gives it.
    grey = (uniform(0, 1) < 0.2).view(-1, 1, 1, 1)
    x = torch.where(grey, x.mean(1, keepdim=True), x)
    return x + 0.08 * torch.randn(x.shape, generator=generator)


def to_tensor(pixels: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(pixels).permute(0, 3, 1, 2).float() / 127.5 - 1


def classifier(work: Path, icons: Icons, minutes: float) -> nn.Module:
    """Train the classifier on the icons that aren't held out; cached in `work`/judge.pt."""
    torch.manual_seed(0)
    net = make_classifier(len(icons.concepts))
    path = work / "judge.pt"
    if path.exists():
        net.load_state_dict(torch.load(path, weights_only=True))
        return net.eval()
    rows = icons.indices(held_out=False)
    x, y = to_tensor(icons.pixels[rows]), torch.from_numpy(icons.concept[rows])
    generator = torch.Generator().manual_seed(0)
    optimizer = torch.optim.AdamW(net.parameters(), 3e-3, weight_decay=0.05)
    begin, done, step = time.monotonic(), 0.0, 0
    while done < 1:
        done = min(1.0, (time.monotonic() - begin) / (60 * minutes))
        optimizer.param_groups[0]["lr"] = 3e-3 * (0.5 + 0.5 * math.cos(math.pi * done)) + 1e-6
        pick = torch.randint(len(y), (64,), generator=generator)
        logits = net(augment(x[pick], generator))
        loss = F.cross_entropy(logits, y[pick], label_smoothing=0.1)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        step += 1
        if step % 200 == 0:
            print(f"classifier {step} {done:.2f} {loss.item():.3f}", flush=True)
    torch.save(net.state_dict(), path)
    return net.eval()


@torch.no_grad()
def named(net: nn.Module, pixels: np.ndarray) -> np.ndarray:
    """The concept that the classifier sees in each: (n, 64, 64, 3) uint8 -> int64 (n,).

    The icon and its mirror image vote together.
    """
    x = to_tensor(pixels)
    return (net(x).softmax(1) + net(x.flip(3)).softmax(1)).argmax(1).numpy()


def sample(pipe, captions: list[str], steps: int, guidance: float, seed: int = 0) -> np.ndarray:
    """One picture for each caption: uint8 (n, 64, 64, 3)."""
    generator = torch.Generator().manual_seed(seed)
    options = {"num_inference_steps": steps, "guidance_scale": guidance, "generator": generator}
    pictures = [
        pipe(captions[start : start + 32], output_type="np", **options).images
        for start in range(0, len(captions), 32)
    ]
    return (np.concatenate(pictures) * 255).round().astype(np.uint8)


def sheet(pictures: np.ndarray, labels: list[str], path: Path, columns: int = 12) -> None:
    """A PNG of pictures, each above its label."""
    from PIL import Image, ImageDraw, ImageFont

    rows = math.ceil(len(pictures) / columns)
    page = Image.new("RGB", (columns * 76, rows * 86), "white")
    pen, font = ImageDraw.Draw(page), ImageFont.load_default(size=9)
    for i, (picture, label) in enumerate(zip(pictures, labels, strict=True)):
        left, top = i % columns * 76 + 6, i // columns * 86 + 2
        page.paste(Image.fromarray(picture), (left, top))
        pen.text((left + 32, top + 72), label[:16], fill="black", font=font, anchor="mm")
    page.quantize(128).save(path, optimize=True)


def judge(args: argparse.Namespace) -> dict:
    """Figures for `--pipeline`, or for the checkpoint in `--work` if none is named."""
    from diffusers import StableDiffusionXLPipeline

    icons = load_icons(args.work, args.npm)
    net = classifier(args.work, icons, args.minutes)
    held_out, seen = icons.indices(True), icons.indices(False)
    right = named(net, icons.pixels[held_out]) == icons.concept[held_out]
    figures = {
        "real held-out icons": float(right.mean()),
        "guidance": args.guidance,
        "steps": args.steps,
    }
    print(figures, flush=True)
    if args.pipeline:
        pipe = StableDiffusionXLPipeline.from_pretrained(args.pipeline, torch_dtype=torch.float32)
        pipe.set_progress_bar_config(disable=True)
    else:
        from train import pipeline

        pipe = pipeline(args.work, args.source)
    some = np.random.default_rng(0).permutation(seen)[: args.seeds * len(held_out)]
    for name, rows in (("held-out pairs", np.tile(held_out, args.seeds)), ("seen pairs", some)):
        captions = [
            caption(icons.concepts[icons.concept[i]], icons.styles[icons.style[i]]) for i in rows
        ]
        pictures = sample(pipe, captions, args.steps, args.guidance)
        seen_as = named(net, pictures)
        figures[name] = float((seen_as == icons.concept[rows]).mean())
        figures[name + ", n"] = len(rows)
        labels = [
            (" " if a == b else "x ") + icons.concepts[b]
            for a, b in zip(seen_as, icons.concept[rows], strict=True)
        ]
        if args.sheet:
            n = min(len(rows), 84)
            sheet(pictures[:n], labels[:n], args.sheet / f"{name.replace(' ', '-')}.png")
    if args.plain:
        captions = [caption(c, None) for c in icons.concepts]
        pictures = sample(pipe, captions, args.steps, args.guidance)
        figures["plain captions"] = float((named(net, pictures) == np.arange(len(captions))).mean())
        if args.sheet:
            sheet(pictures, icons.concepts, args.sheet / "plain.png")
    print(json.dumps(figures, indent=1))
    return figures


def judge_run(args: argparse.Namespace) -> dict[str, float]:
    """Of a brand run's captions, the share that is named in base, adapter and brand pictures."""
    from PIL import Image

    icons = load_icons(args.work, args.npm)
    net = classifier(args.work, icons, args.minutes)
    found = json.loads((args.run / "comparison.json").read_text())["examples"]
    concepts = [words(concept) for concept in icons.concepts]
    wanted = np.array([concepts.index(each["prompt"]) for each in found])
    figures: dict[str, float] = {"captions": len(found)}
    for name in ("base", "adapter", "brand"):
        pictures = np.stack([np.asarray(Image.open(each[name]).convert("RGB")) for each in found])
        figures[name] = float((named(net, pictures) == wanted).mean())
    print(json.dumps(figures, indent=1))
    return figures


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--work", type=Path, default=Path("runs/starter"))
    parser.add_argument("--npm", type=Path, help="a folder where the sets are installed already")
    parser.add_argument("--pipeline", type=Path, help="a saved pipeline; else the checkpoint")
    parser.add_argument("--run", type=Path, help="a brand_style run whose pictures to name")
    parser.add_argument(
        "--from",
        dest="source",
        type=Path,
        default=ASSETS,
        help="a pipeline whose VAE to use with a checkpoint",
    )
    parser.add_argument("--minutes", type=float, default=4, help="to train the classifier")
    parser.add_argument("--seeds", type=int, default=3, help="samples for each held-out pair")
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--guidance", type=float, default=3.5)
    parser.add_argument("--plain", action="store_true", help="also captions without a style")
    parser.add_argument("--sheet", type=Path, help="a folder for PNG sheets of the samples")
    parser.add_argument("--threads", type=int, default=2)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    if args.sheet:
        args.sheet.mkdir(parents=True, exist_ok=True)
    judge_run(args) if args.run else judge(args)


if __name__ == "__main__":
    main()
