"""What to denoise: latents of few or many components, v or the picture, compared on equal samples.

    python tools/starter/compare.py --work FOLDER --samples 6400 --only 24-sample,12-v

Each candidate is trained from the ground with the same text encoder, pictures, captions and
noise, at two rates, then judged as judge.py does. Adds lines to `compare.tsv`.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

import judge
import numpy as np
import torch
import vae
from icons import caption, load_icons
from pack import of_work
from sample import sampled
from text import tokens
from torch import Tensor
from train import Data, Plan, Training, fast

# name -> plan, and the power of the components' sizes that is divided by (vae.fit_basis)
CANDIDATES = {
    "12-v": (Plan(channels=12, kind="v_prediction", early=0.5), 0.0),  # as the first starter
    "12-v-even": (Plan(channels=12, kind="v_prediction", early=0.7), 0.5),
    "24-v-even": (Plan(channels=24, kind="v_prediction", early=0.7), 0.5),
    "24-sample-even": (Plan(channels=24, kind="sample", early=0.7), 0.5),
    "48-sample": (Plan(channels=48, kind="sample", early=0.7), 0.0),  # blocks of 4x4 pixels
    "48-sample-even": (Plan(channels=48, kind="sample", early=0.7), 0.5),
}


def with_power(basis: dict[str, Tensor], reader: Tensor, power: float):
    """The basis with other gains, and the reader of regions to go with it."""
    if power:
        return basis, reader
    variance = basis["gain"] ** -4  # fitted with power 0.5, up to a factor
    gain = torch.ones_like(basis["gain"]) / variance[: vae.FIRST].mean().sqrt()
    gain = gain * (basis["gain"][: vae.FIRST] ** 2 * variance[: vae.FIRST]).mean().sqrt()
    ratio = (gain / basis["gain"])[: vae.FIRST]
    return basis | {"gain": gain}, reader * ratio.repeat_interleave(16)[:, None]


@torch.no_grad()
def draw(training: Training, basis, tokenizer, captions, steps: int) -> np.ndarray:
    plan = training.plan
    training.load(training.average)
    training.lookups.on = False
    generator = torch.Generator().manual_seed(0)
    found = []
    for i in range(0, len(captions), 50):
        states, pooled = training.text(tokens(tokenizer, captions[i : i + 50]))
        noise = torch.randn(len(states), plan.channels, plan.size, plan.size, generator=generator)
        with fast("cpu"):
            z = sampled(training.unet, plan, states, pooled, noise, steps, 3.0)
        x = vae.decode_linear(basis, z.float()).clamp(-1, 1)
        found.append(((x + 1) * 127.5).round().byte().permute(0, 2, 3, 1))
    return torch.cat(found).numpy()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--samples", type=int, default=6400)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--only", default="", help="names, separated by commas")
    parser.add_argument("--rates", default="1e-3,5e-4")
    args = parser.parse_args()
    torch.set_num_threads(1)
    pack, tokenizer = of_work(args.work), judge.pool.tokenizer_in(args.work)
    net, icons = judge.classifier(args.work, 5), load_icons(args.work)
    fresh = judge.fresh(args.work, None)
    real = judge.features(net, fresh["pixels"])
    held_out = icons.indices(True)
    asked = [
        caption(icons.concepts[icons.concept[i]], icons.styles[icons.style[i]]) for i in held_out
    ]
    asked += judge.words_back(tokenizer, fresh["ids"][:60, 0])
    folder = args.work / "compare"
    folder.mkdir(exist_ok=True)
    for name in args.only.split(",") if args.only else CANDIDATES:
        plan, power = CANDIDATES[name]
        basis, reader = with_power(pack.basis, pack.heads["region.weight"], power)
        for rate in map(float, args.rates.split(",")):
            plan = replace(plan, rate=rate, average=0.99, text_rate=0)
            training = Training(plan, pack.text, pack.heads, "cpu")
            training.warm, training.teach = 50, 150
            data = Data(replace(pack, basis=basis), plan, "cpu")
            training.heads.region.weight.data.copy_(reader)
            training.begin(data)
            losses = []
            while training.samples < args.samples:
                losses.append(training.one(data, args.batch))
            pictures = draw(training, basis, tokenizer, asked, 20)
            np.savez_compressed(folder / f"{name}-{rate:g}.npz", pictures=pictures)
            n = len(held_out)
            named = judge.named(net, pictures)
            right = float((named[:n] == icons.concept[held_out]).mean())
            other = float((named[n:] == fresh["concept"][:60]).mean())
            distance = judge.kid(real, judge.features(net, pictures))
            line = [name, rate, training.samples, round(float(np.mean(losses[-50:])), 4)]
            line += [round(right, 3), round(other, 3), round(distance, 3)]
            with (args.work / "compare.tsv").open("a") as file:
                file.write("\t".join(map(str, line)) + "\n")
            print(*line, flush=True)
            judge.sheet(pictures, asked, folder / f"{name}-{rate:g}.png")


if __name__ == "__main__":
    main()
