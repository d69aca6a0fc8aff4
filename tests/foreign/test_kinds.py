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
    "lora_unet_double_blocks_0_img_attn_qkv": [f"transformer_blocks.0.attn.to_{x}" for x in "qkv"],
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


def linear(rank: int, out: int, ins: int, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(rank, ins, generator=generator), torch.randn(out, rank, generator=generator)


MODULE = "down_blocks.1.attentions.0.transformer_blocks.0.attn2.to_k"
OUT = "down_blocks.1.attentions.0.transformer_blocks.0.attn1.to_out.0"
DOWN, UP = linear(3, 32, 16, 2)
TEXT_DOWN, TEXT_UP = linear(2, 16, 16, 3)
OTHER = MODULE.removesuffix(".to_k")
DIALECTS: dict[str, dict[str, torch.Tensor]] = {
    "peft below the part": {
        f"unet.{MODULE}.lora_A.weight": DOWN,
        f"unet.{MODULE}.lora_B.weight": UP,
        "text_encoder.text_model.encoder.layers.0.self_attn.k_proj.lora_A.weight": TEXT_DOWN,
        "text_encoder.text_model.encoder.layers.0.self_attn.k_proj.lora_B.weight": TEXT_UP,
    },
    "diffusers of 2023": {
        f"unet.{OTHER}.processor.to_k_lora.down.weight": DOWN,
        f"unet.{OTHER}.processor.to_k_lora.up.weight": UP,
        "text_encoder.text_model.encoder.layers.0.self_attn.k_proj.lora_linear_layer.down.weight": (
            TEXT_DOWN
        ),
        "text_encoder.text_model.encoder.layers.0.self_attn.k_proj.lora_linear_layer.up.weight": (
            TEXT_UP
        ),
    },
    "a bare model": {
        f"base_model.model.{MODULE}.lora_A.default.weight": DOWN,
        f"base_model.model.{MODULE}.lora_B.default.weight": UP,
    },
    "OneTrainer": {
        f"lora_unet_{MODULE}".replace(".", "_") + ".lora_down.weight": DOWN,
        f"lora_unet_{MODULE}".replace(".", "_") + ".lora_up.weight": UP,
        "lora_te_encoder_layers_0_self_attn_k_proj.lora_down.weight": TEXT_DOWN,
        "lora_te_encoder_layers_0_self_attn_k_proj.lora_up.weight": TEXT_UP,
    },
    "a linear layer as a convolution": {
        f"lora_unet_{MODULE}".replace(".", "_") + ".lora_down.weight": DOWN[..., None, None],
        f"lora_unet_{MODULE}".replace(".", "_") + ".lora_up.weight": UP[..., None, None],
    },
    "LyCORIS alone": {
        f"lycoris_{MODULE}".replace(".", "_") + ".lora_down.weight": DOWN,
        f"lycoris_{MODULE}".replace(".", "_") + ".lora_up.weight": UP,
    },
}


@pytest.mark.parametrize("dialect", DIALECTS)
def test_names_of_other_programs(dialect: str, tmp_path: Path) -> None:
    file = tmp_path / "theirs.safetensors"
    save_file({key: value.contiguous() for key, value in DIALECTS[dialect].items()}, file)
    state = load_file(MODALITY.own_form(file, str(tiny.saved("sd"))) / WEIGHTS)
    torch.testing.assert_close(state.pop(f"unet.{MODULE}.lora_A.weight"), DOWN)
    torch.testing.assert_close(state.pop(f"unet.{MODULE}.lora_B.weight"), UP)
    text = any("text" in key or "_te_" in key for key in DIALECTS[dialect])
    assert len(state) == 2 * text
    for key, value in state.items():
        assert key.startswith("text_encoder.")
        assert "encoder.layers.0.self_attn.k_proj.lora_" in key
        torch.testing.assert_close(value, TEXT_DOWN if "lora_A" in key else TEXT_UP)


def test_names_of_the_original_sdxl(tmp_path: Path) -> None:
    # In the tiny UNet, the second level's attention is that of input_blocks.3.1.
    named = {
        "lora_unet_input_blocks_3_1_transformer_blocks_0_attn2_to_k": MODULE,
        "lora_unet_middle_block_1_transformer_blocks_0_attn1_to_out_0": (
            "mid_block.attentions.0.transformer_blocks.0.attn1.to_out.0"
        ),
        "lora_te1_text_model_encoder_layers_0_mlp_fc1": "encoder.layers.0.mlp.fc1",
        "lora_te2_text_model_encoder_layers_1_mlp_fc2": "encoder.layers.1.mlp.fc2",
    }
    sizes = {MODULE: (32, 48), "encoder.layers.0.mlp.fc1": (32, 16)}
    sizes["encoder.layers.1.mlp.fc2"] = (32, 64)
    tensors = {}
    for stem, module in named.items():
        down, up = linear(2, *sizes.get(module, (32, 32)), seed=4)
        tensors |= {f"{stem}.lora_down.weight": down, f"{stem}.lora_up.weight": up}
        tensors[f"{stem}.alpha"] = torch.tensor(1.0)
    file = tmp_path / "xl.safetensors"
    save_file(tensors, file)
    state = load_file(MODALITY.own_form(file, str(tiny.saved("sdxl"))) / WEIGHTS)
    parts = {key.partition(".")[0]: key for key in state}
    assert parts.keys() == {"unet", "text_encoder", "text_encoder_2"}
    for stem, module in named.items():
        up = next(v for k, v in state.items() if k.endswith(f"{module}.lora_B.weight"))
        torch.testing.assert_close(up, tensors[f"{stem}.lora_up.weight"] / 2)


def test_mixed_ranks_are_exact_where_diffusers_is_not(tmp_path: Path) -> None:
    """diffusers scales a file without its metadata by the commonest alpha over each rank."""
    modules = [MODULE, OUT]
    modules += [OUT.replace("attn1", "attn2"), MODULE.replace("to_k", "to_v")]
    tensors, wanted = {}, {}
    for place, module in enumerate(modules):
        rank = 20 if module == MODULE else 2
        down, up = linear(rank, 32, 16 if "attn2.to_" in module and "out" not in module else 32, 5)
        stem = f"lora_unet_{module}".replace(".", "_")
        tensors |= {f"{stem}.lora_down.weight": down, f"{stem}.lora_up.weight": up}
        tensors[f"{stem}.alpha"] = torch.tensor(float(rank))
        wanted[module] = up.double() @ down.double()
        assert place or rank == 20
    file = tmp_path / "mixed.safetensors"
    save_file(tensors, file)
    base = tiny.loaded("sd")
    load_adapter(base, MODALITY.own_form(file, str(tiny.saved("sd"))), "ours")
    for _, module, change in changes(base, "ours"):
        torch.testing.assert_close(change, wanted.pop(module), rtol=1e-6, atol=1e-6)
    assert not wanted


REFUSED: dict[str, tuple[dict[str, torch.Tensor], str, str]] = {
    "keys of nothing": (
        {"lora_unet_nowhere.lora_down.weight": DOWN, "lora_unet_nowhere.lora_up.weight": UP},
        "sd",
        "2 of 4 keys belong to no layer",
    ),
    "an embedding": ({"bundle_emb.x.string_to_param": DOWN}, "sd", "1 of 3 keys"),
    "half a pair": (
        {f"lora_unet_{OUT}.lora_up.weight".replace(".", "_", OUT.count(".")): UP},
        "sd",
        "1 of 3 keys",
    ),
    "(IA)³": ({f"unet.{OUT}.on_input": DOWN}, "sd", r"\(IA\)³"),
    "OFT": ({f"unet.{OUT}.oft_blocks": DOWN}, "sd", "OFT"),
    "biases": ({f"unet.{OUT}.lora_B.bias": DOWN}, "sd", "trained biases"),
    "another base": ({f"unet.{OUT}.lora_A.weight": DOWN, f"unet.{OUT}.lora_B.weight": UP}, "sd",
                     "don't fit a weight of 32x32"),
    "columns of DoRA": ({f"unet.{MODULE}.dora_scale": torch.ones(1, 16)}, "sd", "inputs"),
    "a layer twice": (
        {
            f"lora_unet_{MODULE}".replace(".", "_") + ".lora_down.weight": DOWN,
            f"lora_unet_{MODULE}".replace(".", "_") + ".lora_up.weight": UP,
        },
        "sd",
        "twice",
    ),
    "the text encoder of FLUX.1": (
        {
            "lora_te1_text_model_encoder_layers_0_mlp_fc1.lora_down.weight": DOWN,
            "lora_te1_text_model_encoder_layers_0_mlp_fc1.lora_up.weight": UP,
        },
        "flux-dev",
        "belong to no layer",
    ),
    "not finite": ({f"unet.{MODULE}.alpha": torch.tensor(torch.inf)}, "sd", "finite"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_refused_in_words(name: str, tmp_path: Path) -> None:
    more, kind, words = REFUSED[name]
    file = tmp_path / "theirs.safetensors"
    own = {f"unet.{MODULE}.lora_A.weight": DOWN, f"unet.{MODULE}.lora_B.weight": UP}
    tensors = (own if kind == "sd" else {}) | more
    save_file({key: value.clone() for key, value in tensors.items()}, file)
    with pytest.raises(AdapterError, match=words) as caught:
        MODALITY.own_form(file, str(tiny.saved(kind)))
    assert str(file) in caught.value.found
    assert caught.value.cure
    if kind != "sd":
        assert "adapts no text encoder of FLUX.1" in caught.value.cure
    assert not list((tmp_path / "cache").rglob("*.safetensors"))


def test_what_is_no_adapter(tmp_path: Path) -> None:
    for name in ("a", "b"):
        save_file({f"unet.{MODULE}.lora_A.weight": DOWN}, tmp_path / f"{name}.safetensors")
    (tmp_path / "pickled").mkdir()
    (tmp_path / "pickled" / "acme.bin").touch()
    (tmp_path / "acme.pt").touch()
    (tmp_path / "notes.txt").touch()
    cases: list[tuple[str, str]] = [
        (".", "holds 2 .safetensors files.*a.safetensors, b.safetensors"),
        ("pickled", "pickled format"),
        ("acme.pt", "pickled format"),
        ("notes.txt", "mmtune reads .safetensors files"),
    ]
    for name, words in cases:
        with pytest.raises(AdapterError, match=words):
            MODALITY.own_form(tmp_path / name, "base")
    with pytest.raises(ConfigError, match="names no model that it can be loaded on") as caught:
        MODALITY.own_form(tmp_path / "a.safetensors")
    assert "--base BASE" in caught.value.cure
    tensors = {f"unet.{OUT}.lora_A.weight": DOWN}
    said = {"ss_base_model_version": "sdxl_base_v1-0", "ss_sd_model_name": "animals.safetensors"}
    save_file(tensors, tmp_path / "a.safetensors", said)
    with pytest.raises(ConfigError, match=r"says: sdxl_base_v1-0, animals\.safetensors"):
        MODALITY.own_form(tmp_path / "a.safetensors")
    assert MODALITY.own_form(tmp_path / "nowhere") == tmp_path / "nowhere"


def test_a_folder_with_one_file_and_a_damaged_cache(tmp_path: Path) -> None:
    folder = tmp_path / "acme"
    folder.mkdir()
    tensors = {f"unet.{MODULE}.lora_A.weight": DOWN, f"unet.{MODULE}.lora_B.weight": UP}
    save_file(tensors, folder / "v2.safetensors")
    base = str(tiny.saved("sd"))
    own = MODALITY.own_form(folder, base)
    assert read_card(own).name == "acme"
    assert own.parent.parent == tmp_path / "cache"
    assert own.stat().st_mode & 0o077 == 0
    written = (own / WEIGHTS).read_bytes()
    (own / WEIGHTS).write_bytes(written[:-8])
    assert MODALITY.own_form(folder, base) == own
    assert (own / WEIGHTS).read_bytes() == written


def test_diffusers_metadata_holds_the_alpha(tmp_path: Path) -> None:
    """A folder that diffusers wrote: alpha 2 and rank 4, or 2 in its metadata alone."""
    theirs = adapters.make(tmp_path / "theirs", "sd", text=True)
    (theirs / "card.json").unlink()
    own = MODALITY.own_form(theirs, str(tiny.saved("sd")))
    given, made = load_file(theirs / WEIGHTS), load_file(own / WEIGHTS)
    assert given.keys() == made.keys()
    for key, value in made.items():
        torch.testing.assert_close(value, given[key] * (0.5 if "lora_B" in key else 1.0))
    with safe_open(own / WEIGHTS, "pt") as file:
        config = json.loads(file.metadata()["lora_adapter_metadata"])
    assert config["unet.r"] == config["unet.lora_alpha"] == 4


def test_a_rank_above_the_layer_and_common_ranks(monkeypatch: pytest.MonkeyPatch) -> None:
    down, up = linear(5, 4, 6, 7)
    pair = to_pair({"down": down, "up": up, "alpha": torch.tensor(3.0)}, (4, 6))
    assert len(pair.down) == 4
    torch.testing.assert_close(pair.up @ pair.down, up @ down * 3 / 5, rtol=1e-5, atol=1e-5)
    wide = padded(pair, 6)
    assert wide.down.shape == (6, 6)
    torch.testing.assert_close(wide.up @ wide.down, pair.up @ pair.down)
    with pytest.raises(AdapterError, match="too large"):
        to_pair({"down": torch.ones(7, 6), "up": torch.ones(4, 7)}, (4, 6))
    ranks = {"a": 1, "b": 2, "c": 3, "d": 4}
    longest = dict.fromkeys(ranks, 8)
    assert common_rank(ranks, longest, 3) == 0
    assert common_rank(ranks, longest, 2) == 2
    assert common_rank(ranks, longest, 0) == 4
    assert common_rank(ranks, longest | {"a": 2}, 1) == 4
    assert foreign_layers.kind_of(["alpha"]) == ""
