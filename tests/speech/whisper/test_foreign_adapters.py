"""Whisper adapters that peft itself wrote, of all kinds that mmtune reads."""

from __future__ import annotations

import copy
import json
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from mmtune.adapters.card import read_card
from mmtune.adapters.integrity import PEFT_CONFIG
from mmtune.adapters.switch import WEIGHTS
from mmtune.errors import AdapterError, ConfigError
from mmtune.speech import MODALITY
from mmtune.speech.whisper.base import load_base
from mmtune.speech.whisper.decoder_lora import load_adapters
from tests.conformance.test_stored_runs import STORED

BASE = str(STORED / "speech" / "base")
TARGETS = ["q_proj", "fc1"]
MIXED = {"rank_pattern": {"fc1": 2}, "alpha_pattern": {"decoder.layers.0.fc1": 9}}
KINDS: dict[str, tuple[str, dict[str, Any], str]] = {
    "lora": ("LoraConfig", {"r": 4, "lora_alpha": 3}, "LoRA"),
    "mixed": ("LoraConfig", {"r": 4, "lora_alpha": 3} | MIXED, "LoRA"),
    "rslora": ("LoraConfig", {"r": 4, "lora_alpha": 3, "use_rslora": True}, "LoRA"),
    "dora": ("LoraConfig", {"r": 4, "lora_alpha": 3, "use_dora": True}, "LoRA with DoRA"),
    "loha": ("LoHaConfig", {"r": 2, "alpha": 5} | MIXED, "LoHa"),
    "lokr": ("LoKrConfig", {"r": 2, "alpha": 5, "decompose_factor": 4}, "LoKr"),
    "lokr_both": ("LoKrConfig", {"r": 1, "alpha": 5, "decompose_both": True}, "LoKr"),
    "lokr_whole": ("LoKrConfig", {"r": 64, "alpha": 5}, "LoKr"),
}


def made(kind: str, folder: Path, base: str = "") -> tuple[Any, Path]:
    """A model of peft with a random adapter, and the folder that peft saves of it."""
    import peft

    name, settings, _ = KINDS[kind]
    if "LoRA" not in KINDS[kind][2]:
        settings = settings | {"init_weights": False}
    else:
        settings = settings | {"init_lora_weights": False}
    torch.manual_seed(0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        config = getattr(peft, name)(target_modules=TARGETS, **settings)
        model = peft.get_peft_model(load_base(BASE).model.float(), config)
    model.peft_config["default"].base_model_name_or_path = base
    model.save_pretrained(str(folder), save_embedding_layers=False)
    return model.base_model.model, folder


def merged(layer: Any, name: str) -> torch.Tensor:
    """The change of a layer's weight, as peft merges it."""
    alone = copy.deepcopy(layer).double()
    before = alone.get_base_layer().weight.clone()
    alone.merge(adapter_names=[name])
    return (alone.get_base_layer().weight - before).detach()


@pytest.mark.parametrize("kind", KINDS)
def test_the_loaded_change_is_peft_s(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MMTUNE_CACHE", str(tmp_path / "cache"))
    theirs, folder = made(kind, tmp_path / "theirs")
    own = MODALITY.own_form(folder, BASE)
    base = load_base(BASE)
    load_adapters(base, {"a": own})
    ours = dict(base.model.named_modules())
    seen = 0
    for name, layer in theirs.named_modules():
        if hasattr(layer, "get_base_layer") and hasattr(layer, "merge"):
            wanted = merged(layer, "default")
            found = merged(ours[name], "adapter0")
            assert (found - wanted).norm() / wanted.norm() < 1e-6, name
            seen += 1
    card = read_card(own)
    assert card.origin["kinds"] == f"{KINDS[kind][2]} x {seen}"
    assert seen > 4
    assert card.base == BASE
    assert MODALITY.own_form(folder, BASE) == own


def test_who_names_the_base(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MMTUNE_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("MMTUNE_ALLOW_DOWNLOAD", raising=False)
    _, folder = made("lora", tmp_path / "theirs", base=BASE)
    assert read_card(MODALITY.own_form(folder)).base == BASE
    config = json.loads((folder / PEFT_CONFIG).read_text())
    for named, kind, words in (
        (None, ConfigError, "names no model that it can be loaded on"),
        ("nobody/whisper-of-theirs", Exception, "not on this machine"),
    ):
        (folder / PEFT_CONFIG).write_text(json.dumps(config | {"base_model_name_or_path": named}))
        with pytest.raises(kind, match=words):
            MODALITY.own_form(folder)
        assert MODALITY.own_form(folder, BASE).is_dir()


def test_what_is_refused_in_words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MMTUNE_CACHE", str(tmp_path / "cache"))
    _, folder = made("lora", tmp_path / "theirs")
    tensors, config = load_file(folder / WEIGHTS), json.loads((folder / PEFT_CONFIG).read_text())
    layer = "base_model.model.model.decoder.layers.0.fc1"
    cases: list[tuple[dict[str, Any], dict[str, Any], str]] = [
        ({f"{layer}.ia3_l": torch.ones(4, 1)}, {}, r"\(IA\)³"),
        ({f"{layer}.prompt": torch.ones(4)}, {}, "1 of .* keys belong to no layer"),
        ({f"{layer}.lora_B.weight": torch.ones(4, 3)}, {}, "don't fit"),
        ({}, {"r": 5}, "its tensor has rank 4"),
        ({}, {"peft_type": "PREFIX_TUNING"}, "peft_type is 'PREFIX_TUNING'"),
        ({}, {"modules_to_save": ["proj_out"]}, "uses modules_to_save"),
        ({}, {"rank_pattern": {"(a+)+!": 4}}, "regular expression"),
    ]
    for more, changed, words in cases:
        save_file({k: v.clone() for k, v in (tensors | more).items()}, folder / WEIGHTS)
        (folder / PEFT_CONFIG).write_text(json.dumps(config | changed))
        with pytest.raises(AdapterError, match=words) as caught:
            MODALITY.own_form(folder, BASE)
        assert caught.value.cure
    (folder / PEFT_CONFIG).unlink()
    save_file(tensors, folder / WEIGHTS)
    with pytest.raises(AdapterError, match="doesn't say its alpha"):
        MODALITY.own_form(folder / WEIGHTS, BASE)
