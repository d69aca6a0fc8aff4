"""The commands of docs/first-brand-on-sdxl.md, in order, on a small SDXL of real classes."""

from __future__ import annotations

import json
import random
import re
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from PIL import Image, ImageDraw
from safetensors import safe_open

from mmtune import cli
from mmtune.config import RunConfig
from mmtune.evaluation.comparison import read_comparison
from mmtune.runs import recipes
from tests.image import tiny

PAGE = Path(__file__).parents[2] / "docs" / "first-brand-on-sdxl.md"
BASE = "stabilityai/stable-diffusion-xl-base-1.0"
COLOURS = {"ink": "#3F3F3F", "sun": "#FCEA2B", "coral": "#EA5A47", "sky": "#61B2E4"}
# What makes the run short; all that the page sets stays.
SMALL = {"max_steps": 4, "task.steps": 2, "train.precision": "fp32", "outside_prompts": "[]"}
GUIDE = f"""\
brand: Acme
palette: {json.dumps(COLOURS)}
grounds: [white]
forbidden_words: [cheap]
trigger: acme style
references: [our-brand/sun ring 0.png]
"""


def commands() -> list[list[str]]:
    """The page's commands as words."""
    text = PAGE.read_text(encoding="utf-8")
    blocks = re.findall(r"^```\n(.*?)^```", text, re.M | re.S)
    lines = "".join(blocks).replace("\\\n", " ").splitlines()
    return [shlex.split(line)[1:] for line in lines if line.startswith("mmtune ")]


def draw(folder: Path, count: int, seed: int = 0) -> None:
    """Drawn things of one look, each of several shapes, so that no two are near-copies."""
    folder.mkdir()
    chance = random.Random(seed)
    for i in range(count):
        image = Image.new("RGB", (128, 128), "white")
        pen = ImageDraw.Draw(image)
        name, kind = (("sun", "coral", "sky")[i % 3], ("ring", "box", "stack")[i // 3 % 3])
        for _ in range(4):
            x, y = chance.randrange(8, 70), chance.randrange(8, 70)
            box = (x, y, x + chance.randrange(20, 50), y + chance.randrange(20, 50))
            shape = pen.ellipse if kind == "ring" else pen.rectangle
            shape(box, fill=COLOURS[name], outline=COLOURS["ink"], width=5)
        image.save(folder / f"{name} {kind} {i}.png")
        (folder / f"{name} {kind} {i}.txt").write_text(f"a {name} {kind} number {i}")


def test_the_page_names_the_commands_of_the_way() -> None:
    """Cheap: each is there, in this order; the slow test runs them."""
    assert [words[0] for words in commands()] == [
        *("check", "train", "report", "review", "generate", "evaluate", "export"),
    ]


@pytest.mark.slow
def test_the_page_s_commands_lead_from_pictures_to_a_file_for_comfyui(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    load = recipes.load_recipe

    def small(name: str, given: Mapping[str, Any] | None = None) -> RunConfig:
        return load(name, {**(given or {}), **SMALL})

    monkeypatch.setattr(recipes, "load_recipe", small)
    monkeypatch.setenv("MMTUNE_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    draw(tmp_path / "our-brand", 30)
    draw(tmp_path / "more-pictures", 12, seed=1)
    (tmp_path / "brand.yaml").write_text(GUIDE)
    base = str(tiny.save(tmp_path / "sdxl", "sdxl"))
    for words in commands():
        here = [base if word == BASE else word for word in words]
        assert cli.main(here) == 0, capsys.readouterr().err
    run = tmp_path / "runs" / "acme"
    guide = read_comparison(run).guide
    assert guide is not None
    outcomes = {rule.name: {k: v.outcome for k, v in rule.judged.items()} for rule in guide.rules}
    assert outcomes["palette"]["data"] == "kept"
    assert outcomes["trigger"]["data"] == "kept"
    assert set(outcomes["palette"]) == {"data", "base", "adapter"}
    assert "Brand guide: Acme" in (run / "report.html").read_text()
    assert "Brand guide: Acme" in (run / "review" / "review.html").read_text()
    assert len(list((tmp_path / "drawn").glob("*.png"))) == 5  # two prompts, two seeds, the grid
    with safe_open(tmp_path / "acme.safetensors", "pt") as file:
        assert all(key.startswith("lora_unet_") for key in file.keys())  # noqa: SIM118
    workflow = json.loads((tmp_path / "acme.comfyui.json").read_text())
    assert workflow["2"]["inputs"]["lora_name"] == "acme.safetensors"
    assert workflow["3"]["inputs"]["text"].startswith("acme style, ")
    assert cli.main(["generate", "--adapter", "runs/acme", "--prompt", "a cheap ring"]) == 2
