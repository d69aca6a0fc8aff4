"""FLUX.1 under sd-scripts' names: stacked, taken apart again, and read by diffusers."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from diffusers import FluxPipeline, FluxTransformer2DModel
from peft import LoraConfig
from safetensors.torch import load_file
from torch import Tensor

from mmtune.errors import AdapterError
from mmtune.image.export.kohya_flux_layers import stacked, unstacked
from mmtune.image.export.parity import SOURCE
from mmtune.image.export.weights import Folded, fold
from mmtune.runs.adapters import export
from tests.image import adapters, tiny

FILE = Path("x.safetensors")
MLPS = ["proj_mlp", "ff.net.0.proj", "ff.net.2", "ff_context.net.0.proj", "norm.linear"]
MLPS += [f"single_transformer_blocks.{i}.proj_out" for i in (0, 1)]


def folded(base: Any, targets: list[str], **settings: Any) -> Folded:
    torch.manual_seed(2)
    config = LoraConfig(r=3, target_modules=targets, init_lora_weights=False, **settings)
    base.denoiser.add_adapter(config, adapter_name=SOURCE)
    return fold(base, SOURCE, 0.5)


def changes(state: dict[str, Tensor], below: str) -> dict[str, Tensor]:
    """B A of each module of a state with peft's keys."""
    modules = {key.split(".lora_")[0] for key in state}
    return {
        module.removeprefix(below): state[f"{module}.lora_B.weight"]
        @ state[f"{module}.lora_A.weight"]
        for module in modules
    }


@pytest.mark.parametrize("more", [[], MLPS])
def test_what_is_stacked_comes_apart_again(more: list[str]) -> None:
    base = tiny.loaded("flux-dev")
    ranks = {"attn.to_k": 2, "attn.add_v_proj": 5}  # some parts differ from the others
    found = folded(base, [*base.family.targets, *more], rank_pattern=ranks)
    state = stacked(base, found)
    assert state is not None
    assert not any("to_q" in key for key in state)
    one = state["lora_unet_double_blocks_0_img_attn_qkv.lora_up.weight"]
    assert one.shape == (3 * 16, 3 * 3)
    again = unstacked(state, base, set(found.modules("transformer")), FILE)
    wanted = changes(found.tensors["transformer"], "")
    got = changes(again, "transformer.")
    assert got.keys() == wanted.keys()
    for module, change in wanted.items():
        torch.testing.assert_close(got[module], change, rtol=0, atol=1e-7)
    # One product is the change of the whole: q, k and v below one another.
    down = state["lora_unet_double_blocks_0_img_attn_qkv.lora_down.weight"]
    names = [f"transformer_blocks.0.attn.to_{x}" for x in "qkv"]
    torch.testing.assert_close(one @ down, torch.cat([wanted[n] for n in names]))


def test_diffusers_reads_the_published_width() -> None:
    """Its own converter, which knows no other width, on one block of each kind."""
    with torch.device("meta"):  # names and shapes alone
        transformer = FluxTransformer2DModel(
            in_channels=4,
            num_layers=1,
            num_single_layers=1,
            attention_head_dim=128,
            num_attention_heads=24,
            joint_attention_dim=8,
            pooled_projection_dim=8,
            axes_dims_rope=(16, 56, 56),
        )
    family = SimpleNamespace(denoiser_name="transformer")
    base: Any = SimpleNamespace(family=family, denoiser=transformer, name="x")
    ends = ("to_q", "to_k", "to_v", "to_out.0", "add_q_proj", "add_k_proj", "to_add_out")
    tensors: dict[str, Tensor] = {}
    torch.manual_seed(3)
    for name, module in transformer.named_modules():
        if name.endswith((*ends, "0.proj_out")):
            tensors[f"{name}.lora_A.weight"] = torch.randn(2, module.in_features)
            tensors[f"{name}.lora_B.weight"] = torch.randn(module.out_features, 2)
    found = Folded({"transformer": tensors}, {}, 2)
    state = stacked(base, found)
    assert state is not None
    read = changes(FluxPipeline.lora_state_dict(dict(state)), "transformer.")
    wanted = changes(tensors, "")
    assert len(wanted) == 7 + 3 + 1
    assert wanted.keys() <= read.keys()
    for module, change in read.items():
        if module in wanted:
            torch.testing.assert_close(change, wanted[module], rtol=0, atol=1e-6)
        else:  # what diffusers cuts off of a stack that had no LoRA there
            assert module.endswith(("add_v_proj", "proj_mlp"))
            assert not change.any()


def test_a_module_without_such_a_name_keeps_the_other_keys() -> None:
    base = tiny.loaded("flux-dev")
    assert stacked(base, folded(base, ["to_q", "x_embedder"])) is None


def test_a_file_has_these_keys_and_no_others(tmp_path: Path) -> None:
    adapter = adapters.make(tmp_path / "a", "flux-dev")
    done = export(adapter, "kohya", tmp_path / "x.safetensors", scale=0.7)
    state = load_file(done.path)
    assert done.proof["keys"] == len(state)
    assert {key.partition(".")[0] for key in state} == {
        *(
            f"lora_unet_double_blocks_0_{s}_attn_{x}"
            for s in ("img", "txt")
            for x in ("qkv", "proj")
        ),
        *(f"lora_unet_single_blocks_{i}_linear1" for i in (0, 1)),
    }


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ("unknown", "belongs to no module"),
        ("alpha", "has alpha 99, rank 9"),
        ("mixed", "mix"),
        ("more", "which the adapter doesn't"),
        ("shape", "doesn't fit"),
        ("lost", "has "),
    ],
)
def test_a_file_that_is_not_the_adapter_is_refused(change: str, words: str) -> None:
    base = tiny.loaded("flux-dev")
    found = folded(base, list(base.family.targets))
    state, stem = stacked(base, found), "lora_unet_double_blocks_0_img_attn_qkv"
    assert state is not None
    up = state[f"{stem}.lora_up.weight"]
    if change == "unknown":
        state["lora_unet_double_blocks_9_img_attn_qkv.alpha"] = torch.tensor(1.0)
    elif change == "alpha":
        state[f"{stem}.alpha"] = torch.tensor(99.0)
    elif change == "mixed":
        up[0, -1] = 1
    elif change == "more":
        state["lora_unet_single_blocks_0_linear1.lora_up.weight"][-1, -1] = 1
    elif change == "shape":
        state[f"{stem}.lora_up.weight"] = up[:-1]
    else:
        del state[f"{stem}.lora_down.weight"]
    with pytest.raises(AdapterError, match=words):
        unstacked(state, base, set(found.modules("transformer")), FILE)
