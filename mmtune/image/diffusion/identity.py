"""Which base an adapter was trained on: hashes of its files' content, by part.

Not of the loaded weights: those are rounded to the number format that suits the machine, and an
adapter that was trained in bf16 on a GPU belongs to the same base in fp32 on a laptop.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mmtune.system.hashing import hash_json, hash_tensors

if TYPE_CHECKING:
    from torch import Tensor

# As diffusers and transformers name them; other files of a part are variants that aren't loaded.
NAMES = ("diffusion_pytorch_model", "model")
FORMATS = ("dtype", "torch_dtype")  # of the loaded model, which transformers adds to its config


def part_hashes(pipeline: Any, denoiser: str, folder: Path) -> dict[str, str]:
    """SHA-256 of what a sample depends on, besides prompt, sampler and number format.

    Args:
        pipeline: as loaded: configurations, tokenizers, scheduler.
        denoiser: `unet` or `transformer`.
        folder: that it was loaded from: weights.

    Returns:
        By part: the denoiser, `vae`, `text`, `scheduler`.
    """

    def part(name: str) -> str:
        model = getattr(pipeline, name, None)
        if model is None:
            return ""
        config = model.config if isinstance(model.config, dict) else model.config.to_dict()
        facts = {
            key: value
            for key, value in config.items()
            if not key.startswith("_") and "version" not in key and key not in FORMATS
        }
        weights = {key: hash_tensors([(key, value)]) for key, value in stored(folder / name)}
        return hash_json([json.loads(json.dumps(facts, default=str)), weights])

    def vocabulary(name: str) -> list[Any]:
        tokenizer = getattr(pipeline, name, None)
        if tokenizer is None:
            return []
        template = getattr(tokenizer, "chat_template", None)
        facts = [tokenizer.get_vocab(), tokenizer.model_max_length]
        return facts if template is None else [*facts, template]

    text = [part("text_encoder"), part("text_encoder_2")]
    text += [hash_json([vocabulary("tokenizer"), vocabulary("tokenizer_2")])]
    if hasattr(pipeline, "text_encoder_3"):
        text += [part("text_encoder_3"), hash_json(vocabulary("tokenizer_3"))]
    zeros = bool(pipeline.config.get("force_zeros_for_empty_prompt", False))
    scheduler = {k: v for k, v in pipeline.scheduler.config.items() if k != "_diffusers_version"}
    return {
        denoiser: part(denoiser),
        "vae": part("vae"),
        "text": hash_json([*text, zeros]),
        "scheduler": hash_json(json.loads(json.dumps(scheduler, default=str))),
    }


def stored(part: Path) -> Iterator[tuple[str, Tensor]]:
    """Name and tensor of all weights in a part's safetensors files, one after another.

    Args:
        part: a folder as `save_pretrained` writes it, in shards or not.
    """
    from safetensors import safe_open

    for path in _files(part):
        with safe_open(path, "pt") as file:
            for name in file.keys():  # noqa: SIM118 - it isn't a mapping
                yield name, file.get_tensor(name)


def _files(part: Path) -> list[Path]:
    for name in NAMES:
        index = part / f"{name}.safetensors.index.json"
        if index.is_file():
            shards = json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()
            return [part / shard for shard in sorted(set(shards))]
        if (whole := part / f"{name}.safetensors").is_file():
            return [whole]
    return sorted(part.glob("*.safetensors"))
