"""Folders of images through the whole pipeline: trained, measured, stopped and resumed."""

from __future__ import annotations

import json
import math
import os
import signal
from pathlib import Path

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from mmtune.adapters.card import read_card
from mmtune.errors import AdapterError, ConfigError
from mmtune.image.brand.words_beside import GUIDE_FILE, words_of
from mmtune.image.diffusion.denoiser_lora import WEIGHTS
from mmtune.runs.pipeline import evaluate, train, train_adapter
from mmtune.training.interrupt import Interrupted
from mmtune.training.log import read_log
from mmtune.training.reporter import Reporter
from tests.image import tiny


@pytest.fixture(autouse=True)
def _cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MMTUNE_CACHE", str(tmp_path / "cache"))


@pytest.mark.parametrize("kind", tiny.KINDS)
def test_a_folder_of_images_becomes_a_measured_adapter(tmp_path: Path, kind: str) -> None:
    data = tiny.brand(tmp_path / "brand", size=(50, 40))
    guide = tmp_path / "brand.yaml"
    guide.write_text(
        'palette: {red: "#FF0000", black: "#000000"}\ngrounds: [white]\nforbidden_words: [cheap]\n'
    )
    given = {"brand_guide": str(guide)}
    result = train(tiny.config(tiny.saved(kind), data, tmp_path / "runs", **given))
    adapter = result.folder / "adapter"
    assert (adapter / WEIGHTS).is_file()
    card = read_card(adapter)
    assert card.rows["train"] + card.rows["validation"] + card.rows["test"] == 12
    found = {m.metric: m for m in result.comparison.measures}
    assert found.keys() == {
        "style", "style distance", "nearest training image", "palette", "copies", "KID",
        "content", "off-palette images", "wrong grounds",
    }  # fmt: skip
    assert result.comparison.guide is not None
    rules = {rule.name: rule.judged for rule in result.comparison.guide.rules}
    assert rules["palette"]["data"].broken == 10  # two of twelve are red
    assert rules["ground"]["data"].outcome == rules["forbidden words"]["data"].outcome == "kept"
    assert rules["palette"].keys() == rules["ground"].keys() == {"data", "base", "adapter"}
    assert words_of(None, [adapter]) == {adapter / GUIDE_FILE: ("cheap",)}
    # Four held-out images say little, and a base in a folder brings no model that judges captions.
    assert "4 held-out images are too few; 15 are needed" in found["style"].note
    assert "can't tell copies from new images; 30 are needed" in found["copies"].note
    assert "no model judges captions" in found["content"].note
    assert all(math.isnan(found[m].adapter.value) for m in ("style", "copies", "content"))
    assert card.judged == 1
    distance = found["style distance"]
    assert math.isclose(
        distance.difference.value, distance.adapter.value - distance.base.value, abs_tol=1e-9
    )
    assert distance.adapter.value != distance.base.value
    assert result.comparison.headline.startswith("image    run   style 0 = base, 1 = brand: ")
    # What was said of the time, and what it took, which corrects the next estimate.
    events = {e["event"]: e for e in read_log(result.folder / "log.jsonl") if "event" in e}
    said, took = events["estimate"]["phases"], events["took"]["phases"]
    assert said.keys() == events["range"]["phases"].keys() >= took.keys()
    assert min(took[phase] for phase in said if phase != "choosing the strength") > 0
    assert json.loads((tmp_path / "cache" / "timing.json").read_text()).keys() == {"image cpu 1"}
    with Image.open(result.folder / "grid.png") as grid:
        assert grid.height > 3 * 100
    assert result.comparison.examples
    assert all((result.folder / e["adapter"]).is_file() for e in result.comparison.examples)


class Notes(Reporter):
    def __init__(self) -> None:
        self.said: list[str] = []

    def note(self, text: str) -> None:
        self.said.append(text)


def shapes(folder: Path) -> Path:
    """Two boxes and six balls to train on, with two rows for validation."""
    tiny.brand(folder)
    names = [path.stem for path in sorted(folder.glob("*.png"))]
    balls, boxes = ([n for n in names if n.endswith(shape)] for shape in ("ball", "box"))
    rows = [
        {"image": f"{n}.png", "caption": n, "group": {"shape": n.split()[1]}, "split": split}
        for n, split in (
            *((n, "train") for n in (*balls, *boxes[:2])),
            *((n, "validation") for n in boxes[2:4]),
            *((n, "test") for n in boxes[4:]),
        )
    ]
    (folder / "manifest.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


@pytest.mark.slow
def test_groups_are_balanced_in_a_run(tmp_path: Path) -> None:
    data = shapes(tmp_path / "brand")
    base, notes = tiny.saved("sd"), Notes()
    balanced = tiny.config(base, data, tmp_path / "runs", balance="shape")
    train_adapter(balanced, notes)
    assert [line for line in notes.said if line.startswith("balance")] == [
        "balance    shape box has 2 rows; each is seen 2 times an epoch",
        "balance    shape ball has 6 rows; each is seen 0.667 times an epoch",
    ]
    assert read_card(balanced.folder / "adapter").settings["train"]["balance"] == "shape"
    plain = tiny.config(base, data, tmp_path / "runs", name="plain")
    train_adapter(plain)
    steps = [[e["step"] for e in read_log(c.folder / "log.jsonl") if "loss" in e]
             for c in (balanced, plain)]  # fmt: skip
    assert steps[0] == steps[1] == [1, 2, 3, 4], "balance takes no longer"
    weights = [load_file(c.folder / "adapter" / WEIGHTS) for c in (balanced, plain)]
    assert any(not torch.equal(weights[0][name], weights[1][name]) for name in weights[0])
    with pytest.raises(ConfigError, match=r"other settings: train\.balance was 'shape', now None"):
        train_adapter(tiny.config(base, data, tmp_path / "runs"))


def test_a_label_that_no_image_has_is_told_before_the_base_is_loaded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = shapes(tmp_path / "brand")
    monkeypatch.setattr("mmtune.image.diffusion.base.load_base", None)
    base = Path(__file__).parents[1] / "conformance" / "stored" / "image" / "base"
    config = tiny.config(base, data, tmp_path / "runs", balance="shapes")
    with pytest.raises(ConfigError, match="no training row has the label 'shapes'") as caught:
        train_adapter(config)
    assert "shape" in caught.value.cure


def test_a_base_that_changed_is_not_compared_with(tmp_path: Path) -> None:
    base = tiny.save(tmp_path / "base", "sd")
    config = tiny.config(base, tiny.brand(tmp_path / "brand"), tmp_path / "runs", max_steps="1")
    train(config)
    pipeline = tiny.pipeline("sd")
    with torch.no_grad():
        pipeline.unet.conv_out.bias += 0.1
    pipeline.save_pretrained(base)
    with pytest.raises(AdapterError, match="with other weights or settings"):
        evaluate(config)


class Stop(Reporter):
    def step(self, step: int, total: int, loss: float, lr: float) -> None:
        if step == 3:
            os.kill(os.getpid(), signal.SIGTERM)


def test_a_stopped_run_ends_with_the_same_adapter(tmp_path: Path) -> None:
    data = tiny.brand(tmp_path / "brand")
    settings = tiny.config(tiny.saved("sd"), data, tmp_path / "whole", flip="true")
    whole = train(settings)
    config = settings.model_copy(update={"out": tmp_path / "stopped"})
    with pytest.raises(Interrupted):
        train(config, Stop())
    assert not (config.folder / "adapter").exists()
    resumed = train(config)
    ours, theirs = (load_file(r.folder / "adapter" / WEIGHTS) for r in (resumed, whole))
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)
    assert any(bool(w.any()) for name, w in ours.items() if "up" in name)
    assert (resumed.folder / "grid.png").read_bytes() == (whole.folder / "grid.png").read_bytes()


def test_the_comparison_is_the_same_with_the_base_that_was_trained_on(tmp_path: Path) -> None:
    """`train` reuses the loaded base and its features, `evaluate` loads afresh."""
    config = tiny.config(
        tiny.saved("sdxl-one-encoder"), tiny.brand(tmp_path / "brand"), tmp_path, dora="true"
    )
    trained = train(config).comparison
    samples = {p: p.read_bytes() for p in sorted((config.folder / "samples").rglob("*.png"))}
    assert samples
    for path in samples:
        path.unlink()
    assert evaluate(config, fresh=True).to_json() == trained.to_json()
    assert {p: p.read_bytes() for p in samples} == samples
