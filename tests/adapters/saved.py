"""Write an adapter of each modality with fixed random weights: `python saved.py FOLDER`."""

from __future__ import annotations

import sys
from pathlib import Path

import torch
from peft import LoraConfig

from mmtune.adapters.integrity import seal_adapter
from mmtune.config import LoraOptions
from mmtune.image.diffusion.base import load_base as load_pipeline
from mmtune.image.diffusion.denoiser_lora import save_adapter
from mmtune.speech.whisper.base import load_base as load_whisper
from mmtune.speech.whisper.decoder_lora import attach

STORED = Path(__file__).parents[1] / "conformance" / "stored"


def write(folder: Path) -> None:
    """Write `folder`/image and `folder`/speech, as a run does."""
    torch.manual_seed(0)
    base = load_pipeline(str(STORED / "image" / "base"), torch.device("cpu"), torch.float32)
    targets = ["to_q", "to_k", "to_v", "to_out.0", "conv1", "conv2"]  # PEFT makes a set of them
    base.denoiser.add_adapter(LoraConfig(r=2, target_modules=targets), adapter_name="trained")
    (folder / "image").mkdir(parents=True)
    save_adapter(base, "trained", folder / "image")
    whisper = load_whisper(str(STORED / "speech" / "base"))
    whisper.name = "base"
    model = attach(whisper, LoraOptions(rank=2), 0)
    model.peft_config["default"].exclude_modules = {"fc1x", "fc2x", "q_projx"}
    model.save_pretrained(str(folder / "speech"), save_embedding_layers=False)
    for each in ("image", "speech"):
        seal_adapter(folder / each)


if __name__ == "__main__":
    write(Path(sys.argv[1]))
