"""How good is the starter so far? What it draws from fixed captions and noise, judged.

    python tools/starter/judge.py --work FOLDER
    python tools/starter/judge.py --work FOLDER --pipeline assets/starter-icons
    python tools/starter/judge.py --work FOLDER --run runs/demo/brand_style

Adds a line to `judge.tsv` in the work folder, and a sheet to `sheets`:

- named: of the held-out (thing, style) pairs, the share that a classifier names right. It is
  trained on the pool, which holds none of them; the real icons' share is the ceiling;
- KID of 240 pictures, of captions that the pool doesn't hold, against 2,000 of the pool's kind;
- two attributes: "a blue car on navy": whether thing and ground have the colours asked for.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from pathlib import Path

import numpy as np
import pool
import torch
import torch.nn.functional as F
from colours import WORDS, main_word, words_of
from icons import caption, load_icons, words
from sets import concepts, read, training_sets
from torch import nn
from vae import to_tensor

FRESH = 9000  # the number of the pool's file that no training sees
DRAWN = 240  # pictures for KID


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


def classifier(work: Path, minutes: float) -> nn.Module:
    """Train the classifier on the pool, which holds no held-out pair; cached in `work`/judge.pt."""
    torch.manual_seed(0)
    path = work / "judge.pt"
    if path.exists():
        net = make_classifier(len(concepts()))
        net.load_state_dict(torch.load(path, weights_only=True))
        return net.eval()
    rows = pool.load(pool.files(work)[:10])
    pixels, y = rows["pixels"], torch.from_numpy(rows["concept"])
    net = make_classifier(len(concepts()))
    generator = torch.Generator().manual_seed(0)
    optimizer = torch.optim.AdamW(net.parameters(), 3e-3, weight_decay=0.05)
    begin, done, step = time.process_time(), 0.0, 0
    while done < 1:
        done = min(1.0, (time.process_time() - begin) / (60 * minutes))
        optimizer.param_groups[0]["lr"] = 3e-3 * (0.5 + 0.5 * math.cos(math.pi * done)) + 1e-6
        pick = torch.randint(len(y), (64,), generator=generator)
        logits = net(augment(to_tensor(pixels[pick.numpy()]), generator))
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
def features(net: nn.Module, pixels: np.ndarray) -> np.ndarray:
    """Means over the picture of what each stage of the classifier sees: (n, 416)."""
    found = []
    for part in np.array_split(pixels, len(pixels) // 256 + 1):
        x, means = to_tensor(part), []
        for i, layer in enumerate(list(net)[:24]):
            x = layer(x)
            if i % 6 == 5:
                means.append(x.mean((2, 3)))
        found.append(torch.cat(means, 1))
    return torch.cat(found).double().numpy()


def kid(real: np.ndarray, drawn: np.ndarray) -> float:
    """Unbiased squared MMD with the cubic kernel; features in units of the real ones' spread."""
    mean, spread = real.mean(0), real.std(0) + 1e-6
    x, y = (real - mean) / spread, (drawn - mean) / spread

    def kernel(a: np.ndarray, b: np.ndarray) -> np.ndarray:
        return (a @ b.T / a.shape[1] + 1) ** 3

    def within(a: np.ndarray) -> float:
        k = kernel(a, a)
        return float((k.sum() - np.trace(k)) / (len(a) * (len(a) - 1)))

    return within(x) + within(y) - 2 * float(kernel(x, y).mean())


@torch.no_grad()
def named(net: nn.Module, pixels: np.ndarray) -> np.ndarray:
    """The concept that the classifier sees in each: (n, 64, 64, 3) uint8 -> int64 (n,).

    The icon and its mirror image vote together.
    """
    x = to_tensor(pixels)
    return (net(x).softmax(1) + net(x.flip(3)).softmax(1)).argmax(1).numpy()


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


def fresh(work: Path, npm: Path | None) -> dict[str, np.ndarray]:
    """Pictures and captions of the pool's kind that no training sees."""
    path = work / "fresh.npz"
    if not path.exists():
        from icons import install

        sets = training_sets(install(npm or work / "npm", read("sets.json")["sets"]))
        np.savez_compressed(path, **pool.draw_file(sets, pool.tokenizer_in(work), FRESH))
    with np.load(path) as data:
        return dict(data)


COLOURS = ("red", "orange", "yellow", "green", "blue", "purple", "pink", "brown")
GROUNDS = ("navy", "yellow", "light blue", "black", "green", "pink")
THINGS = ("automobile", "house", "bird", "umbrella", "fish", "cat", "dress", "butterfly")


def two_attributes() -> list[tuple[str, str, str, str]]:
    """(caption, thing, its colour, its ground): each thing in five colours, on other grounds."""
    found = []
    for i, thing in enumerate(THINGS):
        for k in range(5):
            colour = COLOURS[(i + k) % len(COLOURS)]
            ground = GROUNDS[(i + 2 * k) % len(GROUNDS)]
            if ground == colour:
                ground = "black"
            name = "car" if thing == "automobile" else thing
            found.append((f"a {colour} {name} on {ground}", thing, colour, ground))
    return found


ALIKE = {("navy", "black"), ("light blue", "blue"), ("pink", "purple"), ("brown", "orange")}


def follows(picture: np.ndarray, colour: str, ground: str) -> tuple[bool, bool]:
    """Whether thing and ground of a picture (64, 64, 3) have the colours asked for.

    The ground is what most of the border shows; the thing what isn't of the ground's colour.
    """
    x = picture / 255
    border = np.concatenate([x[0], x[-1], x[:, 0], x[:, -1]])
    middle = np.median(border, axis=0)
    names = list(WORDS)
    shown = names[int(words_of(middle[None])[0])]
    thing = x[np.abs(x - middle).max(2) > 0.2]
    main = main_word(thing) or ""

    def same(a: str, b: str) -> bool:
        return a == b or (a, b) in ALIKE or (b, a) in ALIKE

    return same(main, colour), same(shown, ground)


class Checkpoint:
    """Draws from the average of a work folder's weights, without diffusers."""

    def __init__(self, work: Path, which: str = "") -> None:
        import textnet
        import train
        import vae
        from state import unpacked
        from unet import UNet

        found = [work / which] if which else [work / "unet.pt", work / "carry" / "unet.pt"]
        path = next(p for p in found if p.exists())
        state = torch.load(path, weights_only=True, mmap=True)
        self.plan = train.Plan(**state["plan"])
        self.samples, self.minutes = state["samples"], state["used"] / 60
        average = state["average"] if "optimizer" in state else unpacked(state)[1]
        self.unet = UNet(self.plan.shape).eval()
        self.unet.load_state_dict(train.part_of(average, "unet"))
        self.text = textnet.of_own(train.part_of(average, "text")).eval()
        self.tokenizer = pool.tokenizer_in(work)
        self.basis = torch.load(work / "basis.pt", weights_only=True)
        folder = work / f"vae-{self.plan.channels}"
        self.vae = None
        if (folder / "config.json").exists():
            from diffusers import AutoencoderTiny

            self.vae = AutoencoderTiny.from_pretrained(folder, torch_dtype=torch.float32)
        self.linear, self.scale = vae.decode_linear, vae.SCALE

    @torch.no_grad()
    def draw(self, captions: list[str], steps: int, guidance: float, seed: int = 0) -> np.ndarray:
        from sample import sampled
        from text import tokens
        from train import fast

        pictures = []
        generator = torch.Generator().manual_seed(seed)
        size = self.plan.shape.size
        for start in range(0, len(captions), 40):
            some = captions[start : start + 40]
            states, pooled = self.text(tokens(self.tokenizer, some))
            noise = torch.randn(len(some), self.plan.channels, size, size, generator=generator)
            with fast("cpu"):
                z = sampled(self.unet, self.plan, states, pooled, noise, steps, guidance)
            x = self.linear(self.basis, z) if self.vae is None else self.decoded(z)
            pictures.append(((x.clamp(-1, 1) + 1) * 127.5).round().byte().permute(0, 2, 3, 1))
        return torch.cat(pictures).numpy()

    def decoded(self, z: torch.Tensor) -> torch.Tensor:
        return self.vae.decode(z / self.scale).sample.float()


class Pipeline:
    """Draws with an exported pipeline."""

    def __init__(self, folder: Path) -> None:
        from diffusers import StableDiffusionXLPipeline

        self.pipe = StableDiffusionXLPipeline.from_pretrained(folder, torch_dtype=torch.float32)
        self.pipe.set_progress_bar_config(disable=True)
        self.samples, self.minutes = 0, 0.0

    def draw(self, captions: list[str], steps: int, guidance: float, seed: int = 0) -> np.ndarray:
        generator = torch.Generator().manual_seed(seed)
        options = {"num_inference_steps": steps, "guidance_scale": guidance, "output_type": "np"}
        pictures = [
            self.pipe(captions[start : start + 40], generator=generator, **options).images
            for start in range(0, len(captions), 40)
        ]
        return (np.concatenate(pictures) * 255).round().astype(np.uint8)


def words_back(tokenizer, ids: np.ndarray) -> list[str]:
    """The captions that were tokenized."""
    texts = tokenizer.batch_decode(ids.astype(np.int64), skip_special_tokens=True)
    return [text.replace(" ,", ",").strip() for text in texts]


def judge(args: argparse.Namespace) -> dict:
    """Figures for `--pipeline`, or for the checkpoint in `--work`."""
    net = classifier(args.work, args.minutes)
    icons, other = load_icons(args.work, args.npm), fresh(args.work, args.npm)
    held_out = icons.indices(True)
    real = float((named(net, icons.pixels[held_out]) == icons.concept[held_out]).mean())
    drawer = Pipeline(args.pipeline) if args.pipeline else Checkpoint(args.work, args.state)
    rows = np.tile(held_out, args.seeds)
    captions = [
        caption(icons.concepts[icons.concept[i]], icons.styles[icons.style[i]]) for i in rows
    ]
    pairs = drawer.draw(captions, args.steps, args.guidance)
    seen_as = named(net, pairs)
    asked = two_attributes()
    pictures = drawer.draw([a[0] for a in asked], args.steps, args.guidance, 1)
    follow = np.array([follows(p, a[2], a[3]) for p, a in zip(pictures, asked, strict=True)])
    thing = np.array([concepts().index(a[1]) for a in asked])
    things = named(net, pictures) == thing
    texts = words_back(pool.tokenizer_in(args.work), other["ids"][:DRAWN, 0])
    some = drawer.draw(texts, args.steps, args.guidance, 2)
    figures = {
        "samples": drawer.samples,
        "minutes": round(drawer.minutes, 1),
        "guidance": args.guidance,
        "steps": args.steps,
        "named": round(float((seen_as == icons.concept[rows]).mean()), 3),
        "named, real icons": round(real, 3),
        "KID": round(kid(features(net, other["pixels"]), features(net, some)), 4),
        "fresh named": round(float((named(net, some) == other["concept"][:DRAWN]).mean()), 3),
        "thing's colour": round(float(follow[:, 0].mean()), 3),
        "ground's colour": round(float(follow[:, 1].mean()), 3),
        "thing with both": round(float((things & follow.all(1)).mean()), 3),
    }
    table = args.work / "judge.tsv"
    if not table.exists():
        table.write_text("\t".join(figures) + "\n")
    with table.open("a") as file:
        file.write("\t".join(str(v) for v in figures.values()) + "\n")
    folder = args.work / "sheets"
    folder.mkdir(exist_ok=True)
    n = len(held_out)
    labels = [
        (" " if a == b else "x ") + icons.concepts[b]
        for a, b in zip(seen_as[:n], icons.concept[held_out], strict=True)
    ]
    labels += [a[0].removeprefix("a ") for a in asked] + texts[:64]
    path = folder / f"{args.name or drawer.samples}.png"
    sheet(np.concatenate([pairs[:n], pictures, some[:64]]), labels, path)
    print(json.dumps(figures, indent=1))
    print(path)
    return figures


def judge_run(args: argparse.Namespace) -> dict[str, float]:
    """Of a brand run's captions, the share that is named in base, adapter and brand pictures."""
    from PIL import Image

    net = classifier(args.work, args.minutes)
    found = json.loads((args.run / "comparison.json").read_text())["examples"]
    known = [words(concept) for concept in concepts()]
    wanted = np.array([known.index(each["prompt"]) for each in found])
    figures: dict[str, float] = {"captions": len(found)}
    for name in ("base", "adapter", "brand"):
        pictures = np.stack(
            [np.asarray(Image.open(args.run / each[name]).convert("RGB")) for each in found]
        )
        figures[name] = float((named(net, pictures) == wanted).mean())
    print(json.dumps(figures, indent=1))
    return figures


def main() -> None:
    from train import WORK

    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--work", type=Path, default=WORK)
    parser.add_argument("--npm", type=Path, help="a folder where the sets are installed already")
    parser.add_argument("--pipeline", type=Path, help="a saved pipeline; else the checkpoint")
    parser.add_argument("--state", default="", help="a file in --work, such as cooled.pt")
    parser.add_argument("--run", type=Path, help="a brand_style run whose pictures to name")
    parser.add_argument(
        "--minutes", type=float, default=12, help="of processor time, for the classifier, once"
    )
    parser.add_argument("--seeds", type=int, default=2, help="samples for each held-out pair")
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--guidance", type=float, default=3.0)
    parser.add_argument("--name", help="of the sheet; else the number of samples")
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    judge_run(args) if args.run else judge(args)


if __name__ == "__main__":
    main()
