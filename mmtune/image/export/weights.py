"""The adapter's weights for an export, with the strength folded in, and the file's metadata."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mmtune.adapters.adapter_rights import licences_of
from mmtune.adapters.card import versions
from mmtune.adapters.exported import Export
from mmtune.adapters.lora import plain_config
from mmtune.image.diffusion.base import DiffusionBase
from mmtune.image.diffusion.denoiser_lora import active, file_digest
from mmtune.system.base_name import is_checkpoint, split_base
from mmtune.system.hashing import hash_bytes
from mmtune.system.tensors import save_tensors


@dataclass(frozen=True)
class Folded:
    """A LoRA whose strength is multiplied into B: alpha is the rank, so every loader's factor is 1.

    Attributes:
        tensors: fp32 tensors by part of the pipeline (`unet`, `text_encoder`), and by peft's names
            in the part (`….lora_A.weight`).
        configs: peft's configuration of each part, for `lora_adapter_metadata`.
        rank: the largest rank.
    """

    tensors: dict[str, dict[str, Tensor]]
    configs: dict[str, dict[str, Any]]
    rank: int

    @property
    def keys(self) -> set[str]:
        """All keys of a file that uses peft's names."""
        return {f"{part}.{key}" for part, tensors in self.tensors.items() for key in tensors}

    def modules(self, part: str) -> list[str]:
        """List the names of a part's adapted modules."""
        return sorted({key.split(".lora_")[0] for key in self.tensors[part]})


def fold(base: DiffusionBase, name: str, scale: float) -> Folded:
    """Multiply a loaded adapter's B by peft's own factor and by `scale`.

    The factor is alpha / r, or alpha / sqrt(r) for rsLoRA (arXiv 2312.03732). In a file with
    alpha = r and without rsLoRA the factor is 1, so loaders that don't know rsLoRA read it too.

    Args:
        base: holds the adapter.
        name: the adapter's name in the pipeline.
        scale: strength that the export has at a loader's strength of 1.
    """
    from peft import get_peft_model_state_dict

    tensors: dict[str, dict[str, Tensor]] = {}
    configs: dict[str, dict[str, Any]] = {}
    with active(base, {name: scale}, {name: None}):  # peft's factors include the scale
        for part, model in base.adapted.items():
            tensors[part] = {}
            for key, value in get_peft_model_state_dict(model, adapter_name=name).items():
                tensor = value.detach().float()
                module, _, rest = key.partition(".lora_")
                if rest.startswith("B."):
                    tensor = tensor * float(model.get_submodule(module).scaling[name])
                tensors[part][key] = tensor.cpu().contiguous()
            config = plain_config(model.peft_config[name].to_dict())
            ranks = dict(config.get("rank_pattern") or {})
            configs[part] = config | {
                "lora_alpha": config["r"],
                "alpha_pattern": ranks,
                "use_rslora": False,
            }
    rank = max(len(v) for t in tensors.values() for k, v in t.items() if ".lora_A." in k)
    return Folded(tensors, configs, rank)


def origin(request: Export) -> dict[str, str]:
    """Record where an export comes from: adapter, data, base and licence, as strings."""
    card = request.card
    facts = {
        "mmtune.adapter": f"{card.name}@{file_digest(request.adapter)}",
        "mmtune.base": card.base,
        "mmtune.base_hash": card.base_hash,
        "mmtune.dataset": card.dataset,
        "mmtune.scale": f"{request.scale:g}",
        "mmtune.version": versions()["mmtune"],
    }
    if request.licence is not None:
        facts["mmtune.base_licence"] = request.licence.name
    facts |= licences_of(card) | facts  # the base's licence as it was found now
    if request.accepted:
        facts["mmtune.accepted_licence"] = request.accepted.lower()
    return facts


def metadata(request: Export, base: DiffusionBase, folded: Folded, layout: str) -> dict[str, str]:
    """Make a file's metadata: `ss_*` of sd-scripts, `modelspec.*` of ModelSpec 1.0, and `origin`.

    Args:
        layout: address of the code whose names the keys have (`modelspec.implementation`).
    """
    card = request.card
    train = card.settings.get("train") or {}
    file, _ = split_base(card.base)
    facts = {
        "ss_network_module": base.family.export_names.network,
        "ss_network_dim": str(folded.rank),
        "ss_network_alpha": str(folded.rank),
        "ss_sd_model_name": Path(file).name if is_checkpoint(file) else file,
        "ss_output_name": card.name,
        "ss_num_train_images": str(card.rows.get("train", 0)),
        "modelspec.sai_model_spec": "1.0.0",
        "modelspec.implementation": layout,
        "modelspec.title": card.name,
        "modelspec.date": card.created,
        "modelspec.resolution": f"{base.resolution}x{base.resolution}",
    }
    if base.family.is_published_size:
        spec, version = base.family.export_kind()
        facts["ss_base_model_version"] = version
        facts["ss_v2"] = str("-v2-" in spec)
        facts["modelspec.architecture"] = f"{spec}/lora"
    if "lr" in train:
        facts["ss_learning_rate"] = str(train["lr"])
    kind = base.pipeline.scheduler.config.get("prediction_type")
    if kind in ("epsilon", "v_prediction"):
        facts["modelspec.prediction_type"] = "v" if kind == "v_prediction" else kind
    if card.trigger:
        facts["modelspec.trigger_phrase"] = card.trigger
    if request.licence is not None:
        facts["modelspec.license"] = request.licence.name
    return facts | origin(request)


def save(tensors: dict[str, Tensor], path: Path, facts: dict[str, str]) -> None:
    """Write a safetensors file with metadata and the hash of its tensors.

    `modelspec.hash_sha256` (with 0x) and A1111's `sshs_model_hash` cover the file's bytes after
    the header, which don't depend on the metadata.
    """
    from safetensors.torch import save as to_bytes

    tensors = {k: v.detach().to("cpu", torch.float32).contiguous() for k, v in tensors.items()}
    whole = to_bytes(tensors)
    digest = hash_bytes(whole[8 + int.from_bytes(whole[:8], "little") :])
    hashes = {"modelspec.hash_sha256": f"0x{digest}", "sshs_model_hash": digest}
    save_tensors(path, tensors, {"format": "pt"} | facts | hashes)
