"""Write the starter as a diffusers pipeline in half precision.

    python tools/starter/export.py --work FOLDER --to assets/starter-icons

Takes the average of the weights, from the checkpoint or, with --state, from `cooled.pt`.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import torch
from icons import STYLES
from judge import Checkpoint
from sample import scheduler
from sets import read
from text import make_encoder
from textnet import theirs
from train import WORK
from unet import config


def pipeline(checkpoint: Checkpoint):
    """The StableDiffusionXLPipeline of a checkpoint, in fp32."""
    from diffusers import StableDiffusionXLPipeline, UNet2DConditionModel

    unet = UNet2DConditionModel(**config(checkpoint.plan.shape))
    unet.load_state_dict(checkpoint.unet.state_dict())
    encoder = make_encoder(len(checkpoint.text.token.weight))
    encoder.load_state_dict(theirs(checkpoint.text.state_dict()))
    pipe = StableDiffusionXLPipeline(
        vae=checkpoint.vae,
        text_encoder=None,
        text_encoder_2=encoder.eval(),
        tokenizer=None,
        tokenizer_2=checkpoint.tokenizer,
        unet=unet.eval(),
        scheduler=scheduler(checkpoint.plan.kind),
        force_zeros_for_empty_prompt=True,
        add_watermarker=False,
    )
    pipe.set_progress_bar_config(disable=True)
    return pipe


def export(work: Path, which: str, to: Path) -> None:
    """Write the pipeline, and concepts.json for the brand recipe, to `to`."""
    checkpoint = Checkpoint(work, which)
    if checkpoint.vae is None:
        raise SystemExit("there is no decoder yet: python tools/starter/vae.py")
    to.mkdir(parents=True, exist_ok=True)
    pipeline(checkpoint).to(dtype=torch.float16).save_pretrained(to)
    for path in to.glob("*/config.json"):  # where a part was loaded from is nobody's business
        facts = json.loads(path.read_text())
        facts.pop("_name_or_path", None)
        path.write_text(json.dumps(facts, indent=2) + "\n")
    spec = read("concepts.json") | {"style_words": STYLES}
    (to / "concepts.json").write_text(json.dumps(spec, indent=1) + "\n")
    size = sum(f.stat().st_size for f in to.rglob("*") if f.is_file())
    print(f"{to}: {size / 1e6:.1f} MB, {checkpoint.samples} samples")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--work", type=Path, default=WORK)
    parser.add_argument("--state", default="", help="a file in --work, such as cooled.pt")
    parser.add_argument("--to", type=Path, required=True)
    args = parser.parse_args()
    torch.set_num_threads(1)
    export(args.work, args.state, args.to)


if __name__ == "__main__":
    main()
