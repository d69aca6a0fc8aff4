"""Identity of a base: hashes of the content of its files, by part.

The hashes are not of the loaded weights. Those are rounded to the machine's number format, but an
adapter that was trained in bf16 on a GPU belongs to the same base in fp32 on a laptop.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mmtune.errors import BaseModelError
from mmtune.system.hashing import hash_json, hash_tensors
from mmtune.system.stored import damaged, read_json_object
from mmtune.system.tensors import require_finite

if TYPE_CHECKING:
    from torch import Tensor

# Names that diffusers and transformers load; other files of a part are variants.
WEIGHT_FILES = ("diffusion_pytorch_model", "model")
DAMAGED_CURE = "copy or download the base again"
DTYPE_KEYS = ("dtype", "torch_dtype")  # transformers adds the loaded model's to its config


def part_hashes(
    pipeline: Any, denoiser: str, place: Path, variant: str | None = None
) -> dict[str, str]:
    """Hash what a sample depends on besides prompt, sampler and number format, by SHA-256.

    Args:
        pipeline: loaded; its configurations, tokenizers and scheduler are hashed.
        denoiser: `unet` or `transformer`.
        place: the folder that it was loaded from; the weights in its files are hashed. Or the
            single file: the loaded weights are hashed, which must have the file's number format.
        variant: of the weights that were loaded, such as "fp16".

    Returns:
        Hashes of the denoiser, `vae`, `text` and `scheduler`.

    Raises:
        BaseModelError: weights in the files aren't finite.
    """

    def part(name: str) -> str:
        model = getattr(pipeline, name, None)
        if model is None:
            return ""
        config = model.config if isinstance(model.config, dict) else model.config.to_dict()
        facts = {
            key: value
            for key, value in config.items()
            if not key.startswith("_") and "version" not in key and key not in DTYPE_KEYS
        }
        weights = {}
        whole = place.is_file()
        tensors = model.state_dict().items() if whole else stored_tensors(place / name, variant)
        for key, value in tensors:
            source = f"{place}: {name}" if whole else place / name
            require_finite({key: value}, source, BaseModelError, DAMAGED_CURE)
            weights[key] = hash_tensors([(key, value)])
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


def stored_tensors(part: Path, variant: str | None = None) -> Iterator[tuple[str, Tensor]]:
    """Read all weights of a part one after another, in the order of its files.

    Args:
        part: folder as `save_pretrained` writes it, in shards or not.
        variant: of the weights, such as "fp16"; a part without it has plain weights.

    Yields:
        Name and tensor.
    """
    from safetensors import safe_open

    for path in _files(part, variant):
        with safe_open(path, "pt") as file:
            for name in file.keys():  # noqa: SIM118 - it isn't a mapping
                yield name, file.get_tensor(name)


def _files(part: Path, variant: str | None) -> list[Path]:
    if variant is not None:
        own = [
            path
            for name in WEIGHT_FILES
            for path in sorted(part.glob(f"{name}*.safetensors"))
            if f".{variant}." in path.name or f".{variant}-" in path.name
        ]
        if own:
            return own
    for name in WEIGHT_FILES:
        index = part / f"{name}.safetensors.index.json"
        if index.is_file():
            cure = "download the model again"
            with damaged(index, cure, BaseModelError):
                shards = set(read_json_object(index, cure, BaseModelError)["weight_map"].values())
                return [part / shard for shard in sorted(shards)]
        if (whole := part / f"{name}.safetensors").is_file():
            return [whole]
    return sorted(part.glob("*.safetensors"))
