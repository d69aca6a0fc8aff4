"""Adapters of other programs: each layer's change in the loaded model is that of the file."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from mmtune.adapters import foreign_layers
from mmtune.adapters.card import read_card
from mmtune.adapters.foreign_layers import common_rank, padded, to_pair
from mmtune.errors import AdapterError, ConfigError
from mmtune.image import MODALITY
from mmtune.image.diffusion.denoiser_lora import WEIGHTS, load_adapter
from tests.foreign.adapters.make import applied
from tests.image import adapters, tiny

FILES = Path(__file__).parent / "adapters"
KINDS = {
    "kohya": "LoRA x 5",
    "locon": "LoRA x 5",
    "locon_tucker": "LoRA x 5",
    "loha": "LoHa x 5",
    "loha_tucker": "LoHa x 5",
    "lokr": "LoKr x 5",
    "lokr_both": "LoKr x 5",
    "lokr_whole": "LoKr x 5",
    "rslora": "LoRA x 5",
    "full": "whole difference x 4",
    "dora": "LoRA with DoRA x 5",
    "kohya_flux": "LoRA x 4",
}
FLUX = {  # the base's modules that are one layer in the file
    "lora_unet_double_blocks_0_img_attn_qkv": [
        f"transformer_blocks.0.attn.to_{x}" for x in "qkv"
    ],
    "lora_unet_double_blocks_0_txt_mlp_0": ["transformer_blocks.0.ff_context.net.0.proj"],
    "lora_unet_single_blocks_0_linear1": [
        *(f"single_transformer_blocks.0.attn.to_{x}" for x in "qkv"),
        "single_transformer_blocks.0.proj_mlp",
    ],
    "lora_unet_single_blocks_0_linear2": ["single_transformer_blocks.0.proj_out"],
}


@pytest.fixture(autouse=True)
def cached(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MMTUNE_CACHE", str(tmp_path / "cache"))


@cache
def base_of(kind: str) -> Any:
    return tiny.loaded(kind)


def changes(base: Any, name: str) -> Iterator[tuple[str, str, torch.Tensor]]:
    """Part, module and change of weight of each layer, as peft itself merges it."""
    for part, model in base.adapted.items():
        for module, layer in model.named_modules():
            if name not in getattr(layer, "lora_A", {}):
                continue
            alone = copy.deepcopy(layer).double()
            before = alone.get_base_layer().weight.clone()
            alone.merge(adapter_names=[name])
            yield part, module, (alone.get_base_layer().weight - before).detach()


@pytest.mark.parametrize("name", KINDS)
def test_the_loaded_change_is_that_of_the_program(name: str) -> None:
    kind = "flux-dev" if "flux" in name else "sd"
    source = FILES / f"{name}.safetensors"
    before = source.read_bytes()
    folder = MODALITY.own_form(source, str(tiny.saved(kind)))
    card, base = read_card(folder), base_of(kind)
    load_adapter(base, folder, name)
    expected = {
        key.partition("/")[2]: value
        for key, value in load_file(FILES / "expected.safetensors").items()
        if key.startswith(f"{name}/")
    }
    found: dict[str, torch.Tensor] = {}
    for part, module, change in changes(base, name):
        stem = f"lora_unet_{module}" if part != "text_encoder" else f"lora_te_text_model_{module}"
        stem = stem.replace(".", "_").replace("text_model_text_model", "text_model")
        found[module if kind != "sd" else stem] = change
    if kind != "sd":
        joined = {
            stem: torch.cat([found.pop(module) for module in modules])
            for stem, modules in FLUX.items()
        }
        assert not found
        found = joined
    assert found.keys() == expected.keys()
    for layer, change in found.items():
        wanted = expected[layer]
        distance = (applied(change) - wanted).norm() / wanted.norm()
        assert distance < 1e-6, (layer, float(distance))
    assert card.origin["kinds"] == KINDS[name]
    assert card.origin["file"] == source.name
    assert (card.recipe, card.name, card.base_hash) == ("none", name, "")
    assert source.read_bytes() == before
    again = MODALITY.own_form(source, str(tiny.saved(kind)))
    assert again == folder
