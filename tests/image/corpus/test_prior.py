"""Prior preservation: the base's own images as rows beside the brand's."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import pytest
from PIL import Image

from mmtune.adapters.card import read_card
from mmtune.config import RunConfig
from mmtune.data.check import check
from mmtune.errors import ConfigError
from mmtune.image import MODALITY
from mmtune.image.corpus.prior import captions_to_draw, draw_prior
from mmtune.image.corpus.prompt import prompt_of
from mmtune.runs.pipeline import train
from tests.image import tiny


class Drawn:
    """A base that draws one coloured square for each prompt and seed."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, int]] = []

    def __call__(self, prompts: Sequence[str], seeds: Sequence[int]) -> list[Image.Image]:
        self.asked += zip(prompts, seeds, strict=True)
        images = []
        for seed in seeds:
            image = Image.new("RGB", (32, 32), (seed * 37 % 256, seed * 91 % 256, 40))
            image.putpixel((seed % 32, seed // 32 % 32), (255, 255, 255))
            images.append(image)
        return images


def run(tmp_path: Path, **over: str) -> RunConfig:
    return tiny.config(tiny.saved("sd"), tiny.brand(tmp_path / "brand"), tmp_path, **over)


def test_rows_are_drawn_once_and_pass_the_check(tmp_path: Path) -> None:
    config = run(tmp_path, prior="10", trigger="acme", prior_weight="0.5")
    dataset = check(MODALITY.prepare(config), MODALITY, config.data)
    draw = Drawn()
    folder = draw_prior(config, dataset, draw)
    assert folder == config.folder / "data" / "prior"
    rows = check(folder, MODALITY).split("train")
    assert len(rows) == len(draw.asked) == len(set(draw.asked)) == 10
    trained = {row.reference for row in dataset.split("train")}
    assert {row.reference for row in rows} == trained
    assert all(row.weight == 0.5 for row in rows)
    assert all(prompt_of(row, "acme") == row.reference for row in rows)
    assert draw_prior(config, dataset, draw) == folder
    assert len(draw.asked) == 10
    again = run(tmp_path, prior="10", trigger="acme", guidance="3.0")
    draw_prior(again, dataset, draw)
    assert len(draw.asked) == 20
    assert json.loads((folder / "prior.json").read_text())["guidance"] == 3.0


def test_none_unless_asked_for(tmp_path: Path) -> None:
    config = run(tmp_path)
    assert MODALITY.extend(config, check(MODALITY.prepare(config), MODALITY, config.data)) is None


def test_captions_must_not_mean_two_looks(tmp_path: Path) -> None:
    def options(**over: str) -> object:
        return run(tmp_path, prior="4", **over).task

    with pytest.raises(ConfigError, match=r"taught two looks\n.*--trigger"):
        captions_to_draw(options(), ["a"])  # type: ignore[arg-type]
    assert captions_to_draw(options(trigger="acme"), ["a", "acme b", "a"]) == ["a"]  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="every caption holds the trigger"):
        captions_to_draw(options(trigger="acme"), ["acme b"])  # type: ignore[arg-type]
    file = tmp_path / "captions.txt"
    file.write_text("a photo of  a dog\n\na photo of a dog\na cat\n")
    given = options(prior_captions=str(file))
    assert captions_to_draw(given, ["x"]) == ["a photo of a dog", "a cat"]  # type: ignore[arg-type]
    file.write_text("an acme dog\n")
    with pytest.raises(ConfigError, match="holds the trigger 'acme'"):
        captions_to_draw(options(prior_captions=str(file), trigger="acme"), [])  # type: ignore[arg-type]
    file.write_text("\n")
    with pytest.raises(ConfigError, match="holds no captions"):
        captions_to_draw(given, [])  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="no such file"):
        options(prior_captions=str(tmp_path / "missing.txt"))


def test_a_run_trains_on_what_its_base_drew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MMTUNE_CACHE", str(tmp_path / "cache"))
    config = run(tmp_path, prior="4", trigger="acme", max_steps="2", copy_seeds="0", scales="[1.0]")
    result = train(config)
    card = read_card(result.folder / "adapter")
    assert card.rows["added"] == 4
    assert card.trigger == "acme"
    images = sorted((config.folder / "data" / "prior" / "images").glob("*.png"))
    assert len({path.read_bytes() for path in images}) == 4
