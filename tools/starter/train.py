"""The U-Net: trains on the icons, can be stopped anywhere, and exports a pipeline.

    python tools/starter/train.py --work runs/starter --minutes 90
    python tools/starter/train.py --work runs/starter --export assets/starter-icons

Repeating the first command resumes. `--warm-start assets/starter-icons` begins a new run at
the weights of an exported pipeline, with a fresh optimizer.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import random
import shutil
import time
from pathlib import Path

import torch
from icons import ASSETS, HERE, STYLES, Icons, caption, load_icons, made_up_word
from lookup import Lookups
from text import WIDTH, encode, latents_of, load_encoder, tokens, train_text

TEACH = 300  # steps
TIME_IDS = [64.0, 64.0, 0.0, 0.0, 64.0, 64.0]  # SDXL: original size, crop, target size


def make_unet():
    """16x16x12 latents; cross-attention at 4x4 and, once per pixel, at 16x16 on the way up.

    The last up block has cross-attention in both of its places (`only_cross_attention`):
    2 x 8 heads of 12 values, one for each pixel of a region (see lookup.py).
    """
    from diffusers import UNet2DConditionModel

    return UNet2DConditionModel(
        sample_size=16,
        in_channels=12,
        out_channels=12,
        layers_per_block=1,
        block_out_channels=(96, 128, 256),
        down_block_types=("DownBlock2D", "DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D", "CrossAttnUpBlock2D"),
        only_cross_attention=(True, False, False),
        cross_attention_dim=WIDTH,
        attention_head_dim=(8, 8, 4),  # diffusers' name for the number of heads
        addition_embed_type="text_time",
        addition_time_embed_dim=32,
        projection_class_embeddings_input_dim=WIDTH + 6 * 32,
    )


def make_scheduler():
    """DDIM on v, with a last step of pure noise, so that the prompt decides the layout."""
    from diffusers import DDIMScheduler

    return DDIMScheduler(
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        clip_sample=False,
        steps_offset=1,
        prediction_type="v_prediction",
        rescale_betas_zero_snr=True,
        timestep_spacing="trailing",
    )


class Captions:
    """The frozen encoder's states for every caption, computed once.

    `draw(row, rng)` gives the states (36, 192) and the pooled vector (192,) of one of the
    row's captions: three in four name the style, some of the others a word made up.
    """

    TEMPLATES, MADE_UP = 4, 6

    def __init__(self, icons: Icons, tokenizer, encoder) -> None:
        rng = random.Random(1)
        texts: list[str] = []
        for concept in icons.concepts:
            for style in icons.styles:
                texts += [caption(concept, style, t) for t in range(self.TEMPLATES)]
            texts += [caption(concept, None, t) for t in range(self.TEMPLATES)]
            texts += [caption(concept, None, t, made_up_word(rng)) for t in range(self.MADE_UP)]
        self.styles = len(icons.styles)
        self.block = (self.styles + 1) * self.TEMPLATES + self.MADE_UP
        states, pooled = [], []
        with torch.no_grad():
            for ids in tokens(tokenizer, texts).split(128):
                s, p = encode(encoder, ids)
                states.append(s.half())
                pooled.append(p.half())
        self.states, self.pooled = torch.cat(states), torch.cat(pooled)
        self.concept, self.style = icons.concept, icons.style

    def draw(self, row: int, rng: random.Random) -> int:
        start = int(self.concept[row]) * self.block
        plain = start + self.styles * self.TEMPLATES
        kind = rng.random()
        if kind < 0.75:
            # The first form is the one that README and brand recipe use.
            template = 0 if rng.random() < 0.5 else rng.randrange(self.TEMPLATES)
            return start + int(self.style[row]) * self.TEMPLATES + template
        if kind < 0.9:
            return plain + rng.randrange(self.TEMPLATES)
        return plain + self.TEMPLATES + rng.randrange(self.MADE_UP)


def load_text(folder: Path):
    """Tokenizer and frozen encoder from a folder that holds both."""
    from transformers import CLIPTokenizer

    tokenizer, encoder = CLIPTokenizer.from_pretrained(folder / "tokenizer_2"), load_encoder(folder)
    return tokenizer, encoder.eval().requires_grad_(False)


def save(path: Path, state: dict) -> None:
    """Write beside, then rename: a kill leaves the old file or the new one, never half."""
    partial = path.with_suffix(".partial")
    torch.save(state, partial)
    partial.replace(path)


def predict(unet, x, t, states, pooled) -> torch.Tensor:
    """The U-Net's v for noised latents (n, 12, 16, 16), conditioned as SDXL does."""
    time_ids = torch.tensor([TIME_IDS]).repeat(len(x), 1)
    return unet(
        x, t, states, added_cond_kwargs={"text_embeds": pooled, "time_ids": time_ids}
    ).sample


def examples(latents, rows: list[int], captions: Captions, rng, generator, drop: float = 0.1):
    """Noised latents, timesteps, states and pooled vectors of `rows`, and the v to predict."""
    picks = [captions.draw(i, rng) for i in rows]
    states, pooled = captions.states[picks].float(), captions.pooled[picks].float()
    empty = torch.rand(len(rows), generator=generator) < drop
    states[empty], pooled[empty] = 0, 0  # what SDXL calls an empty prompt
    x = latents[rows]
    noise = torch.randn(x.shape, generator=generator)
    # More of the noisy steps: there the prompt decides what the picture will be.
    t = (torch.rand(len(rows), generator=generator) ** 0.5 * 1000).long().clamp(max=999)
    alphas = make_scheduler().alphas_cumprod[t].view(-1, 1, 1, 1)
    a, s = alphas.sqrt(), (1 - alphas).sqrt()
    return (a * x + s * noise, t, states, pooled), a * noise - s * x


def idle_cores(mine: int) -> int:
    """How many threads to use, at least 1: the cores that nobody else keeps busy.

    Two threads that share one core wait for each other most of the time; measured on two
    cores with other work on them, one thread was twice as fast.
    """
    cores = os.cpu_count() or 1
    others = os.getloadavg()[0] - mine
    return max(1, min(cores, round(cores - others)))


def train(args: argparse.Namespace) -> None:
    """Train until `--minutes` of training time are used; checkpoints to `work`/unet.pt."""
    from diffusers import AutoencoderTiny, UNet2DConditionModel

    work: Path = args.work
    icons = load_icons(work, args.npm)
    text = work / "text"
    if not (text / "text_encoder_2" / "config.json").exists():
        if args.warm_start:  # a U-Net only knows the encoder that it was trained with
            for part in ("tokenizer_2", "text_encoder_2"):
                shutil.copytree(args.warm_start / part, text / part, dirs_exist_ok=True)
        else:
            train_text(work, args.source, minutes=6, npm=args.npm)
    tokenizer, encoder = load_text(text)
    captions = Captions(icons, tokenizer, encoder)
    vae = AutoencoderTiny.from_pretrained(args.source, subfolder="vae", torch_dtype=torch.float32)
    latents = latents_of(vae, icons.pixels)
    rows = icons.indices(held_out=False)

    torch.manual_seed(args.seed)
    if args.warm_start:
        unet = UNet2DConditionModel.from_pretrained(
            args.warm_start, subfolder="unet", torch_dtype=torch.float32
        )
    else:
        unet = make_unet()
    unet.train()
    optimizer = torch.optim.AdamW(
        unet.parameters(), args.rate, betas=(0.9, 0.99), weight_decay=0.01, fused=True
    )
    ema, step, used, loss_sum = None, 0, 0.0, 0.0
    checkpoint = work / "unet.pt"
    if checkpoint.exists():
        state = torch.load(checkpoint, weights_only=True)
        unet.load_state_dict(state["unet"])
        optimizer.load_state_dict(state["optimizer"])
        ema, step, used = state["ema"], state["step"], state["used"]
        print(f"resumed at step {step}, {used / 60:.1f} minutes", flush=True)
    lookups = Lookups(unet)
    if step == 0 and not args.warm_start:
        heads = torch.load(text / "heads.pt", weights_only=True)["heads"]
        lookups.read_pictures(heads["region.weight"], captions.states[:200].float())
    ema = {k: v.clone() for k, v in unet.state_dict().items()} if ema is None else ema

    # Seeded by the step, so that a resumed run doesn't repeat the batches of its beginning.
    rng, generator = random.Random(step), torch.Generator().manual_seed(args.seed + step)
    order: list[int] = []
    budget, last, saved = 60 * args.minutes, time.monotonic(), time.monotonic()
    while used < budget:
        cosine = 0.5 + 0.5 * math.cos(math.pi * used / budget)
        rate = args.rate * min(1, (step + 1) / 200) * cosine
        optimizer.param_groups[0]["lr"] = max(rate, args.rate / 1000)
        while len(order) < args.batch:
            order += rng.sample(rows.tolist(), len(rows))
        batch, order = order[: args.batch], order[args.batch :]
        inputs, target = examples(latents, batch, captions, rng, generator)
        loss = (predict(unet, *inputs) - target).square().mean()
        # Firmly while heads find their tokens, then only so much that they don't lose them.
        hold = 0.3 if step < TEACH else 0.01
        optimizer.zero_grad()
        (loss + hold * lookups.loss()).backward()
        torch.nn.utils.clip_grad_norm_(unet.parameters(), 1.0)
        optimizer.step()
        step += 1
        decay = min(0.999, (1 + step) / (10 + step))
        values = list(unet.state_dict().values())
        torch._foreach_lerp_(list(ema.values()), values, 1 - decay)

        now = time.monotonic()
        # A process that was stopped for a while was not training.
        used, last, loss_sum = used + min(now - last, 60), now, loss_sum + loss.item()
        if step % 20 == 0:
            print(
                f"{step} samples {step * args.batch} min {used / 60:.1f} "
                f"loss {loss_sum / 20:.4f} looks right {min(lookups.right.values()):.2f} "
                f"threads {torch.get_num_threads()}",
                flush=True,
            )
            loss_sum = 0.0
            if not args.threads:
                torch.set_num_threads(idle_cores(torch.get_num_threads()))
        if now - saved > 60 * args.save_every or used >= budget:
            save(
                checkpoint,
                {
                    "unet": unet.state_dict(),
                    "ema": ema,
                    "step": step,
                    "used": used,
                    "optimizer": optimizer.state_dict(),
                },
            )
            saved = now


def pipeline(work: Path, source: Path):
    """The StableDiffusionXLPipeline of the checkpoint's EMA weights, in fp32."""
    from diffusers import AutoencoderTiny, StableDiffusionXLPipeline

    state = torch.load(work / "unet.pt", weights_only=True, mmap=True)
    unet = make_unet()
    unet.load_state_dict(state["ema"])
    tokenizer, encoder = load_text(work / "text")
    vae = AutoencoderTiny.from_pretrained(source, subfolder="vae", torch_dtype=torch.float32)
    pipe = StableDiffusionXLPipeline(
        vae=vae,
        text_encoder=None,
        text_encoder_2=encoder,
        tokenizer=None,
        tokenizer_2=tokenizer,
        unet=unet.eval(),
        scheduler=make_scheduler(),
        force_zeros_for_empty_prompt=True,
        add_watermarker=False,
    )
    pipe.set_progress_bar_config(disable=True)
    return pipe


def export(work: Path, source: Path, to: Path) -> None:
    """Write the pipeline in fp16, and concepts.json for the brand recipe, to `to`."""
    to.mkdir(parents=True, exist_ok=True)
    pipeline(work, source).to(dtype=torch.float16).save_pretrained(to)
    for path in to.glob("*/config.json"):  # where a part was loaded from is nobody's business
        config = json.loads(path.read_text())
        config.pop("_name_or_path", None)
        path.write_text(json.dumps(config, indent=2) + "\n")
    spec = json.loads((HERE / "concepts.json").read_text())
    spec["style_words"] = STYLES
    (to / "concepts.json").write_text(json.dumps(spec, indent=1) + "\n")
    size = sum(f.stat().st_size for f in to.rglob("*") if f.is_file())
    print(f"{to}: {size / 1e6:.1f} MB")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--work", type=Path, default=Path("runs/starter"))
    parser.add_argument("--npm", type=Path, help="a folder where the sets are installed already")
    parser.add_argument(
        "--from", dest="source", type=Path, default=ASSETS, help="a pipeline whose VAE to use"
    )
    parser.add_argument("--warm-start", type=Path, help="a pipeline to start from")
    parser.add_argument("--minutes", type=float, default=90, help="of training, over all starts")
    parser.add_argument("--rate", type=float, default=1e-3)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=0, help="0: the cores that are idle")
    parser.add_argument("--save-every", type=float, default=4, help="minutes")
    parser.add_argument("--export", type=Path, help="write the pipeline here instead of training")
    args = parser.parse_args()
    torch.set_num_threads(args.threads or idle_cores(0))
    if args.export:
        export(args.work, args.source, args.export)
    else:
        train(args)


if __name__ == "__main__":
    main()
