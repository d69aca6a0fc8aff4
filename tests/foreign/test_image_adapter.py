"""A diffusion adapter from somebody else: the config in its metadata is read and never run."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from mmtune.errors import AdapterError
from mmtune.image.diffusion.denoiser_lora import WEIGHTS, load_adapter
from tests.image import adapters, tiny

NEVER = r"(([a-z_.0-9])+)+!"  # takes longer than the universe on a name of a layer
KEY = "lora_adapter_metadata"


@pytest.fixture(scope="module")
def ours(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("ours") / "adapter"
    adapters.make(folder, "sd")
    return folder


def changed(
    folder: Path, to: Path, values: dict[str, Any], tensors: Callable[[str], Any] | None = None
) -> Path:
    shutil.copytree(folder, to)
    with safe_open(to / WEIGHTS, "pt") as file:
        metadata = file.metadata()
    own = json.loads(metadata[KEY]) | {f"unet.{name}": value for name, value in values.items()}
    weights = load_file(to / WEIGHTS)
    if tensors is not None:
        weights = {key: tensors(key) for key in weights}
    save_file(weights, to / WEIGHTS, metadata | {KEY: json.dumps(own)})
    return to


IGNORED = {
    "targets": {"target_modules": NEVER},
    "excluded": {"exclude_modules": NEVER},
    "layers": {"layers_pattern": NEVER, "layers_to_transform": [0]},
    "the start": {"init_lora_weights": "pissa"},
}


def test_what_the_config_has_no_say_in(ours: Path, tmp_path: Path) -> None:
    base = tiny.loaded("sd")
    everything = {name: value for each in IGNORED.values() for name, value in each.items()}
    folder = changed(ours, tmp_path / "theirs", everything)
    start = time.monotonic()
    load_adapter(base, ours, "ours")
    load_adapter(base, folder, "theirs")
    assert time.monotonic() - start < 20
    layers = [m for m in base.denoiser.modules() if hasattr(m, "scaling")]
    assert layers
    for layer in layers:
        assert layer.scaling["ours"] == layer.scaling["theirs"] == 0.5  # alpha 2, rank 4
        for half in ("lora_A", "lora_B"):
            pair = getattr(layer, half)
            assert torch.equal(pair["ours"].weight, pair["theirs"].weight)


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "ranks": ({"rank_pattern": {NEVER: 4}}, "regular expression"),
    "alphas": ({"alpha_pattern": {NEVER: 4}}, "regular expression"),
    "another rank": ({"r": 10**9}, "its tensor has rank 4"),
    "no finite alpha": ({"lora_alpha": float("nan")}, "not a finite number"),
    "whole modules": ({"modules_to_save": ["conv_in"]}, "uses modules_to_save"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_the_config_may_not_hold(name: str, ours: Path, tmp_path: Path) -> None:
    values, told = REFUSED[name]
    start = time.monotonic()
    with pytest.raises(AdapterError, match=told):
        load_adapter(tiny.loaded("sd"), changed(ours, tmp_path / "theirs", values), "theirs")
    assert time.monotonic() - start < 20


def test_a_file_larger_than_the_base_is_refused(ours: Path, tmp_path: Path) -> None:
    folder = changed(ours, tmp_path / "theirs", {}, lambda key: torch.ones(4000, 400).half())
    with pytest.raises(AdapterError, match="more than its base"):
        load_adapter(tiny.loaded("sd"), folder, "theirs")


def test_a_rank_larger_than_a_layer_is_refused(ours: Path, tmp_path: Path) -> None:
    sides = {key: value.shape for key, value in load_file(ours / WEIGHTS).items()}

    def wide(key: str) -> torch.Tensor:
        shape = sides[key]
        half = (300, shape[1]) if "lora_A" in key else (shape[0], 300)
        return torch.ones(*half, *shape[2:])

    folder = changed(ours, tmp_path / "theirs", {"r": 300}, wide)
    with pytest.raises(AdapterError, match=r"too large for a layer|more than its base"):
        load_adapter(tiny.loaded("sd"), folder, "theirs")


def test_a_pickled_file_is_refused(tmp_path: Path) -> None:
    torch.save({"unet.x": torch.ones(1)}, tmp_path / "pytorch_lora_weights.bin")
    with pytest.raises(AdapterError, match="can hold code"):
        load_adapter(tiny.loaded("sd"), tmp_path, "theirs")
