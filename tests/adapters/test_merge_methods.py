"""Merge methods: one table for help, checks and cards; and one of a third party."""

from __future__ import annotations

import re

import pytest
import torch
from peft import LoraConfig, get_peft_model
from torch import Tensor, nn

from mmtune import cli
from mmtune.adapters.members import METHODS, Member, MergeMethod, Mixing, check_mixing
from mmtune.adapters.merge import MERGED, distance, merge_layers
from mmtune.errors import ConfigError


def test_the_table_says_what_each_method_needs() -> None:
    assert all(METHODS[name].name == name and METHODS[name].meaning for name in METHODS)
    assert {n for n in METHODS if not METHODS[n].equal_ranks} == {"cat", "svd"}
    assert {n for n in METHODS if METHODS[n].random} == {"dare_linear", "dare_ties"}
    assert {n for n in METHODS if METHODS[n].prunes} == {
        *("ties", "dare_linear", "dare_ties", "magnitude_prune")
    }


def test_the_help_lists_every_method(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        cli.parse(["compose", "--help"])
    shown = re.sub(r"\s+", " ", capsys.readouterr().out)
    for name in METHODS:
        assert f"{name} ({METHODS[name].meaning})" in shown


def average(pairs: list[tuple[Tensor, Tensor]], weights: list[float], mixing: Mixing):  # type: ignore[no-untyped-def]
    """The mean update instead of the sum, exactly."""
    down = torch.cat([a for a, _ in pairs])
    up = torch.cat([b * w / len(pairs) for (_, b), w in zip(pairs, weights, strict=True)], 1)
    return down, up


def two_adapters() -> nn.Module:
    torch.manual_seed(0)
    model = get_peft_model(
        nn.Sequential(nn.Linear(6, 5), nn.Linear(5, 4)),
        LoraConfig(r=2, lora_alpha=6, target_modules=["0", "1"], init_lora_weights=False),
        "a",
    )
    config = LoraConfig(r=3, lora_alpha=3, target_modules=["1"], init_lora_weights=False)
    model.add_adapter("b", config)
    return model


def test_a_registered_method_merges(monkeypatch: pytest.MonkeyPatch) -> None:
    METHODS.add("average", MergeMethod("average", "the mean update", combine=average))
    try:
        check_mixing(Mixing("average"))
        model = two_adapters()
        member = Member.__new__(Member)
        parts = dict.fromkeys("ab", member)
        for key, value in {"folder": "x", "weight": 2.0}.items():
            object.__setattr__(member, key, value)
        merge_layers(model.base_model, parts, Mixing("average"))
        layer = model.base_model.model[1]
        wanted = (2 * layer.get_delta_weight("a") + 2 * layer.get_delta_weight("b")) / 2
        torch.testing.assert_close(layer.get_delta_weight(MERGED), wanted)
        alone = model.base_model.model[0]
        torch.testing.assert_close(alone.get_delta_weight(MERGED), 2 * alone.get_delta_weight("a"))
        assert distance([model], MERGED, parts) > 0.1  # half of the sum in one of the layers
    finally:
        METHODS.remove("average")
    with pytest.raises(ConfigError, match="--method average: no such way"):
        check_mixing(Mixing("average"))
