"""Ways to damage an adapter, and adapters of stored runs with a card that names their content."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import torch

from mmtune.adapters.integrity import adapter_files, content_hash
from mmtune.system.tensors import load_tensors, read_metadata, save_tensors

STORED = Path(__file__).parents[1] / "conformance" / "stored"
WEIGHTS = {"speech": "adapter_model.safetensors", "image": "pytorch_lora_weights.safetensors"}
SETTINGS = "adapter_config.json"


def seal(folder: Path) -> None:
    """Let the card name the files' content, as the cards of today do."""
    files = {path.name: content_hash(path) for path in adapter_files(folder)}
    change_card(folder, files)


def change_card(folder: Path, files: dict[str, str]) -> None:
    path = folder / "card.json"
    card = json.loads(path.read_text(encoding="utf-8"))
    path.write_text(json.dumps(card | {"files": files}, indent=2), encoding="utf-8")


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[-3] ^= 0x40
    path.write_bytes(data)


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-7])


def not_a_number(path: Path) -> None:
    """NaN in an adapter whose card names no content: of an earlier version."""
    tensors, facts = load_tensors(path), read_metadata(path)
    name = sorted(tensors)[0]
    tensors[name].view(-1)[1] = torch.nan
    save_tensors(path, tensors, facts)
    if (path.parent / "card.json").exists():
        change_card(path.parent, {})


def other_strength(path: Path) -> None:
    """Another alpha, which no weight shows: it stands in the metadata, or in PEFT's settings."""
    if path.name == WEIGHTS["image"]:
        facts = read_metadata(path)
        config = json.loads(facts["lora_adapter_metadata"])
        config["unet.lora_alpha"] += 1
        facts["lora_adapter_metadata"] = json.dumps(config)
        save_tensors(path, load_tensors(path), facts)
        return
    path = path.with_name(SETTINGS)
    values = json.loads(path.read_text(encoding="utf-8"))
    path.write_text(json.dumps(values | {"lora_alpha": values["lora_alpha"] + 1}))


DAMAGES: dict[str, Callable[[Path], None]] = {
    "a flipped bit": flip,
    "NaN": not_a_number,
    "cut off": cut,
    "missing": Path.unlink,
    "another alpha": other_strength,
}
