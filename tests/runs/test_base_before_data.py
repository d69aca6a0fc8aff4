"""A base that can't be found is told before data are prepared for it."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import huggingface_hub.constants
import pytest

from mmtune.errors import BaseModelError, ConfigError, MissingExtra
from mmtune.image import MODALITY as IMAGE
from mmtune.runs.pipeline import train
from mmtune.runs.recipes import load_recipe
from mmtune.speech import MODALITY as SPEECH
from tests.conformance.test_stored_runs import STORED

RECIPES = {"speech": "terminology", "image": "brand_style"}
# Whose recipe; the base; what is said.
REFUSED = [
    ("speech", "./nowhere", "neither a folder nor a hub id"),
    ("speech", "team/model", "the hub can't be reached"),
    ("speech", "starter:nothing", "unknown starter"),
    ("speech", ".", "lacks config.json"),
    ("image", "./nowhere", "no such folder"),
    ("image", "team/model", "can't be downloaded from the hub"),
    ("image", "starter:nothing", "unknown starter"),
    ("image", ".", "holds no model_index.json"),
]


@pytest.fixture(autouse=True)
def offline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MMTUNE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)

    def prepare(config: Any) -> Path:
        raise AssertionError("data were prepared")

    for modality in (SPEECH, IMAGE):
        monkeypatch.setattr(modality, "prepare", prepare)


@pytest.mark.parametrize(("modality", "base", "words"), REFUSED)
def test_a_base_that_is_not_there(modality: str, base: str, words: str) -> None:
    with pytest.raises(BaseModelError, match=words):
        train(load_recipe(RECIPES[modality], {"base": base, "data": ".", "out": "runs"}))


def test_a_starter_that_is_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(MissingExtra, match="starter:whisper-base"):
        SPEECH.require_base("starter:whisper-base")


@pytest.mark.parametrize("modality", ["speech", "image"])
def test_a_base_that_is_there(modality: str) -> None:
    base = str(STORED / modality / "base")
    with pytest.raises(AssertionError, match="data were prepared"):
        train(load_recipe(RECIPES[modality], {"base": base, "data": ".", "out": "runs"}))


def test_a_rank_too_small_for_the_adapter_of_init() -> None:
    given = {"init": str(STORED / "speech" / "trained" / "finished"), "rank": "2"}
    with pytest.raises(ConfigError, match=r"lora\.rank = 2: the adapter of --init has rank 4"):
        load_recipe("terminology", given | {"base": str(STORED / "speech" / "base")})
