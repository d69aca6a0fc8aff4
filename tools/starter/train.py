"""The U-Net: starts or resumes its training, for as long as it is let.

    python tools/starter/train.py --work FOLDER
    python tools/starter/train.py --pack PACK --gpu --minutes 8 --out PARTS

The rate is constant and what is judged and exported is an average of the weights, so that there
is no length to be decided on. `--cooldown 60000` lets the rate fall to zero over so many samples
in a copy and writes that beside (`cooled.pt`); the run itself goes on from where it was.
Needs torch and numpy alone.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import state as disk
import torch
import torch.nn.functional as F
import vae
from lookup import LENGTH, Lookups
from text import Heads, components_of, losses, regions
from textnet import TextNet
from torch import Tensor
from unet import Shape, UNet

TEACH, HOLD_EVERY = 300, 4  # steps of being told where to look; then one in so many
WORK = Path(os.environ.get("MMTUNE_STARTER") or Path.home() / ".cache" / "mmtune-starter")


@dataclass(frozen=True)
class Plan:
    """What is trained. kind: v_prediction or sample, of which the loss is that of v.

    early: timesteps are 1000 u^early with u uniform; below 1 there are more of the noisy ones.
    """

    channels: int = 24
    kind: str = "sample"
    early: float = 0.7
    rate: float = 1e-3
    batch: int = 32
    average: float = 0.999
    text_rate: float = 0.3  # times rate; 0 leaves the text encoder as it is
    size: int = 16
    widths: tuple[int, ...] = (96, 128, 256)
    heads: tuple[int, ...] = (8, 0, 4)

    @property
    def shape(self) -> Shape:
        return Shape(self.size, self.channels, tuple(self.widths), tuple(self.heads))


def alphas_cumprod() -> Tensor:
    """Of DDIM with `scheduler()`'s settings: scaled linear, rescaled to end in pure noise."""
    betas = torch.linspace(0.00085**0.5, 0.012**0.5, 1000) ** 2
    root = (1 - betas).cumprod(0).sqrt()
    first, last = root[0].clone(), root[-1].clone()
    root = (root - last) * first / (first - last)
    return root**2


def fast(device: str) -> torch.autocast:
    """bfloat16 where it pays."""
    kind = torch.device(device).type
    return torch.autocast(kind, torch.bfloat16, enabled=kind == "cuda" or vae.fast())


@dataclass
class Pack:
    """What training reads: pictures and captions, bases, and the text encoder to begin with."""

    columns: dict[str, np.ndarray]
    basis: dict[str, Tensor]
    components: dict[str, Tensor]
    text: TextNet
    heads: dict[str, Tensor]


def padded(ids: Tensor) -> Tensor:
    """int64 (n, k) -> (n, 36), filled with the end token."""
    return F.pad(ids, (0, LENGTH - ids.shape[1]), value=1)


class Data:
    """Pictures and captions on the device."""

    def __init__(self, pack: Pack, plan: Plan, device: str) -> None:
        self.pixels = torch.from_numpy(pack.columns["pixels"]).to(device)
        self.ids = torch.from_numpy(pack.columns["ids"].astype(np.int16)).to(device)
        self.basis = {name: value.to(device) for name, value in pack.basis.items()}
        self.components = {name: value.to(device) for name, value in pack.components.items()}
        self.channels, self.device = max(plan.channels, vae.FIRST), device

    def add(self, columns: dict[str, np.ndarray]) -> None:
        more = torch.from_numpy(columns["pixels"]).to(self.device)
        ids = torch.from_numpy(columns["ids"].astype(np.int16)).to(self.device)
        self.pixels, self.ids = torch.cat([self.pixels, more]), torch.cat([self.ids, ids])

    def latents(self, rows: Tensor) -> Tensor:
        x = self.pixels[rows].permute(0, 3, 1, 2).float() / 127.5 - 1
        return vae.encode(self.basis, x, self.channels)

    def captions(self, rows: Tensor, which: Tensor) -> Tensor:
        """int64 (n, 36), filled with the end token."""
        return padded(self.ids[rows, which].long())


def error(plan: Plan, out: Tensor, x: Tensor, noise: Tensor, alpha: Tensor) -> Tensor:
    """The mean squared error of v; of a predicted latent as if v had been predicted."""
    if plan.kind == "v_prediction":
        return (out - (alpha.sqrt() * noise - (1 - alpha).sqrt() * x)).square().mean()
    # v is known up to the latent, whose error counts 1 / (1 - alpha) times: at most 20.
    return ((out - x).square() / (1 - alpha).clamp(min=0.05)).mean()


def part_of(weights: dict[str, Tensor], name: str) -> dict[str, Tensor]:
    """The weights of `unet`, `text` or `heads` among all."""
    return {k.removeprefix(f"{name}."): v for k, v in weights.items() if k.startswith(f"{name}.")}


class Training:
    """Weights, average and optimizer, and how far they are."""

    def __init__(
        self, plan: Plan, text: TextNet, heads: dict[str, Tensor], device: str, seed: int = 0
    ) -> None:
        torch.manual_seed(seed)
        self.plan, self.device, self.seed = plan, device, seed
        self.warm, self.teach, self.decay = 200, TEACH, plan.average
        self.unet = UNet(plan.shape).to(device).train()
        self.text, self.heads = text.to(device).train(), Heads().to(device)
        self.heads.load_state_dict(heads)
        groups = [{"params": list(self.unet.parameters())}]
        if plan.text_rate:
            groups.append({"params": [*self.text.parameters(), *self.heads.parameters()]})
        else:
            self.text.requires_grad_(False)
        self.optimizer = torch.optim.AdamW(
            groups, plan.rate, betas=(0.9, 0.99), weight_decay=0.01, fused=True
        )
        self.average = {k: v.detach().clone() for k, v in self.weights().items()}
        self.step, self.samples, self.used, self.begun = 0, 0, 0.0, 0
        self.lookups, self.region = Lookups(self.unet), torch.ones((), device=device)
        self.alphas = alphas_cumprod().to(device)

    def weights(self) -> dict[str, Tensor]:
        """Those of the U-Net, of the text encoder and of its heads, under one name each."""
        parts = {"unet": self.unet, "text": self.text, "heads": self.heads}
        return {f"{n}.{k}": v for n, part in parts.items() for k, v in part.state_dict().items()}

    def load(self, weights: dict[str, Tensor]) -> None:
        for name, part in (("unet", self.unet), ("text", self.text), ("heads", self.heads)):
            part.load_state_dict(part_of(weights, name))

    def state(self) -> dict:
        return {
            "plan": asdict(self.plan),
            "weights": self.weights(),
            "average": self.average,
            "optimizer": self.optimizer.state_dict(),
            **self.progress(),
        }

    @torch.no_grad()
    def begin(self, data: Data) -> None:
        """Let the attention that looks up the text's picture bring it (lookup.py)."""
        some = torch.arange(min(200, len(data.pixels)), device=self.device)
        states = self.text(data.captions(some, torch.zeros_like(some)))[0]
        self.lookups.read_pictures(self.heads.region.weight, states.float())

    def progress(self) -> dict:
        return {"step": self.step, "samples": self.samples, "used": self.used, "begun": self.begun}

    def carried(self) -> dict:
        packed = disk.packed(self.weights(), self.average)
        return {"plan": asdict(self.plan), **self.progress(), **packed}

    def resume(self, state: dict) -> None:
        """From `state()` exactly; from `carried()` with an optimizer that begins anew."""
        if "optimizer" in state:
            weights, average = state["weights"], state["average"]
            self.optimizer.load_state_dict(state["optimizer"])
            self.begun = state["begun"]
        else:
            weights, average = disk.unpacked(state)
            self.begun = state["step"]
        self.load(weights)
        self.average = {k: v.to(self.device, copy=True) for k, v in average.items()}
        self.step, self.samples, self.used = state["step"], state["samples"], state["used"]

    def example(self, data: Data, n: int):
        """Noised latents, timesteps, states, pooled; latents, noise, alpha; the text's loss.

        What is drawn depends on seed and step alone.
        """
        generator = torch.Generator(self.device).manual_seed(self.seed * 1_000_003 + self.step)
        torch.manual_seed(self.step)
        here = {"generator": generator, "device": self.device}
        rows = torch.randint(len(data.pixels), (n,), **here)
        which = torch.randint(data.ids.shape[1], (n,), **here)
        with fast(self.device):
            states, pooled = self.text(data.captions(rows, which))
        states, pooled, every = states.float(), pooled.float(), data.latents(rows)
        text_loss = torch.zeros((), device=self.device)
        if self.plan.text_rate:
            first = every[:, : vae.FIRST]
            whole = components_of(data.components, first)
            text_loss, region = losses(self.heads, states, pooled, regions(first), whole)
            self.region = 0.98 * self.region + 0.02 * region.detach()
        told = (torch.rand(n, **here) >= 0.1).float()  # zeros are SDXL's empty prompt
        states, pooled = states * told[:, None, None], pooled * told[:, None]
        x = every[:, : self.plan.channels]
        noise = torch.randn(x.shape, **here)
        t = (torch.rand(n, **here) ** self.plan.early * 1000).long().clamp(max=999)
        alpha = self.alphas[t].view(-1, 1, 1, 1)
        noised = alpha.sqrt() * x + (1 - alpha).sqrt() * noise
        return (noised, t, states, pooled), (x, noise, alpha), text_loss

    def one(self, data: Data, batch: int, factor: float = 1.0) -> float:
        """One step; returns its loss."""
        warm = min(1.0, (self.step - self.begun + 1) / self.warm)
        for group, share in zip(
            self.optimizer.param_groups, (1, self.plan.text_rate), strict=False
        ):
            group["lr"] = self.plan.rate * warm * factor * share
        inputs, of, text_loss = self.example(data, batch)
        teach = self.step < self.teach
        self.lookups.on = teach or self.step % HOLD_EVERY == 0
        with fast(self.device):
            out = self.unet(*inputs)
        loss = error(self.plan, out.float(), *of)
        whole = loss + text_loss
        if self.lookups.on:
            # Firmly while heads find their tokens, then only so much that they don't lose them.
            whole = whole + (0.3 if teach else 0.01 * HOLD_EVERY) * self.lookups.loss()
        self.optimizer.zero_grad()
        whole.backward()
        torch.nn.utils.clip_grad_norm_(self.unet.parameters(), 1.0)
        if self.plan.text_rate:
            torch.nn.utils.clip_grad_norm_(self.text.parameters(), 1.0)
        self.optimizer.step()
        self.step += 1
        self.samples += batch
        decay = min(self.decay, (1 + self.step) / (10 + self.step))
        values = list(self.weights().values())
        torch._foreach_lerp_(list(self.average.values()), values, 1 - decay)
        return float(loss.detach())


def idle_cores(mine: int) -> int:
    """How many threads to use, at least 1: the cores that nobody else keeps busy.

    Two threads that share one core wait for each other most of the time; measured on two
    cores with other work on them, one thread was twice as fast.
    """
    cores = os.cpu_count() or 1
    others = os.getloadavg()[0] - mine
    return max(1, min(cores, round(cores - others)))


def load_pack(path: Path) -> Pack:
    """What pack.py wrote, or what is in a work folder."""
    from pack import read

    return read(path)


def pool_files(args: argparse.Namespace) -> list[Path]:
    return [] if args.pack else sorted((args.work / "pool").glob("pool-????.npz"))


def run(args: argparse.Namespace, log) -> None:
    known = pool_files(args)
    pack = load_pack(args.pack or args.work)
    plan = Plan(**json.loads(args.plan)) if args.plan else Plan()
    checkpoint, carry = args.work / "unet.pt", args.work / "carry" / "unet.pt"
    device = args.device or ("cuda" if args.gpu else "cpu")
    found = next((p for p in (checkpoint, carry) if p.exists()), None)
    saved = torch.load(found, weights_only=True, map_location=device) if found else None
    if saved:
        plan = Plan(**saved["plan"])
    batch = args.batch or plan.batch
    data = Data(pack, plan, device)
    training = Training(plan, pack.text, pack.heads, device, args.seed)
    del pack
    if saved:
        training.resume(saved)
        log(f"resumed {found.name} at {training.samples} samples, {training.used / 60:.1f} minutes")
    else:
        training.begin(data)
    if args.cooldown:  # the latest weights are the best
        training.decay = min(plan.average, 0.99)
    del saved
    begin, last, written = time.monotonic(), time.monotonic(), time.monotonic()
    used, told, found, first = training.used, training.samples, [], training.samples
    told_at, usual = used, 5.0  # usual: seconds of a step
    while True:
        factor = 1 - (training.samples - first) / args.cooldown if args.cooldown else 1.0
        found.append(training.one(data, batch, factor))
        now = time.monotonic()
        # A process that was stopped for a while was not training.
        took = min(now - last, 4 * usual)
        usual += 0.1 * (took - usual)
        training.used += took
        last = now
        done = (
            now - begin > 60 * args.minutes
            or (args.samples and training.samples >= args.samples)
            or (args.cooldown and training.samples - first >= args.cooldown)
        )
        if training.step % args.log_every == 0 or done:
            speed = (training.samples - told) / max(training.used - told_at, 1e-9)
            right = min(training.lookups.right.values(), default=0.0)
            log(
                f"samples {training.samples} minutes {training.used / 60:.1f} "
                f"loss {np.mean(found):.4f} text {float(training.region):.3f} "
                f"samples/s {speed:.1f} looks right {right:.2f}"
            )
            told, told_at, found = training.samples, training.used, []
            if not args.threads:
                torch.set_num_threads(idle_cores(torch.get_num_threads()))
        if now - written > 60 * args.save_every or done:
            if args.cooldown:
                disk.save(args.work / "cooled.pt", training.carried())
            elif args.gpu:
                disk.save(carry, training.carried())
                if args.out:
                    disk.split(carry, args.out)
            else:
                disk.save(checkpoint, training.state())
                disk.save(carry, training.carried())
                disk.copy_missing(args.work, carry.parent, again=True)
            written = now
            for path in pool_files(args):  # drawn while this ran
                if path not in known:
                    data.add(dict(np.load(path)))
                    known.append(path)
                    log(f"{len(data.pixels)} pictures")
        if done:
            return


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--work", type=Path, default=WORK)
    parser.add_argument("--pack", type=Path, help="a pack (pack.py) instead of the folder's pool")
    parser.add_argument("--plan", help="settings of a new run, as JSON; see Plan")
    parser.add_argument("--gpu", action="store_true", help="bfloat16 on the first GPU")
    parser.add_argument("--device", help="instead of what --gpu says")
    parser.add_argument("--out", type=Path, help="with --gpu: the checkpoint in parts goes here")
    parser.add_argument("--minutes", type=float, default=1e9, help="of this start")
    parser.add_argument("--samples", type=int, default=0, help="stop at so many, over all starts")
    parser.add_argument("--batch", type=int, default=0, help="0: the plan's")
    parser.add_argument("--cooldown", type=int, default=0, help="samples to let the rate fall over")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=1, help="0: the cores that are idle")
    parser.add_argument("--save-every", type=float, default=4, help="minutes")
    parser.add_argument("--log-every", type=int, default=20, help="steps")
    args = parser.parse_args()
    torch.set_num_threads(args.threads or idle_cores(0))
    args.work.mkdir(parents=True, exist_ok=True)

    def log(line: str) -> None:
        line = f"{time.strftime('%Y-%m-%d %H:%M:%S')} {line}"
        print(line, flush=True)

    name = "cooldown.pid" if args.cooldown else "train.pid"
    try:
        with disk.Lock(args.work / name):
            run(args, log)
    except disk.Busy as busy:
        print(busy)


if __name__ == "__main__":
    main()
