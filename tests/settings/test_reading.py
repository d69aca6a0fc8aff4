"""Settings as Python values, and lists as text."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from mmtune.config import RunConfig
from mmtune.errors import ConfigError
from mmtune.runs.recipes import configure, load_recipe

RECIPE = {"recipe": "mine", "modality": "image", "base": "b"}


def task(config: RunConfig) -> dict[str, Any]:
    return config.task.model_dump()


def test_python_values_of_all_types(tmp_path: Path) -> None:
    settings = {
        "data": tmp_path,
        "epochs": 3,
        "lora": {"rank": 8, "alpha": 16},
        "train.lr": 5e-4,
        "train": {"clip": None, "scales": [0.5, 1]},
        "cache": False,
        "base": tmp_path / "whisper",
        "targets": ["q_proj", "v_proj"],
        "task": {"mix": {"joined": 0}},
        "mix.nonspeech": 0.1,
        "views": "2",
    }
    config = load_recipe("dialect", settings)
    assert (config.data.path, config.cache) == (tmp_path, False)
    assert config.base == str(tmp_path / "whisper")
    assert (config.lora.rank, config.lora.alpha) == (8, 16)
    assert config.lora.targets == ("q_proj", "v_proj")
    assert (config.train.epochs, config.train.lr, config.train.clip) == (3, 5e-4, None)
    assert config.train.scales == (0.5, 1)
    assert config.train.batch_size == 16, "the recipe's"
    assert (task(config)["mix"]["joined"], task(config)["mix"]["nonspeech"]) == (0, 0.1)
    assert task(config)["encoder_layers"] == 2, "the recipe's"
    assert task(config)["views"] == 2
    assert yaml.safe_load(config.dump())["lora"]["targets"] == ["q_proj", "v_proj"]


def test_numbers_of_numpy() -> None:
    config = configure(
        RECIPE, "x", {"epochs": np.int64(3), "lr": np.float32(0.5), "scales": np.array([0.5, 1])}
    )
    assert (config.train.epochs, config.train.lr, config.train.scales) == (3, 0.5, (0.5, 1))
    assert type(yaml.safe_load(config.dump())["train"]["epochs"]) is int


@pytest.mark.parametrize(
    ("settings", "wrong"),
    [
        ({"epochs": "many"}, r"--epochs many \(train\.epochs\)"),
        ({"epochs": 0}, r"epochs = 0 \(train\.epochs\)"),
        ({"epochs": 2.5}, r"train\.epochs"),
        ({"epochs": True}, r"epochs = True \(train\.epochs\): it is a number"),
        ({"epochs": "true"}, r"--epochs true \(train\.epochs\): it is a number"),
        ({"epochs": [3]}, r"train\.epochs"),
        ({"epochs": {"x": 3}}, r"train\.epochs"),
        ({"lr": None}, r"train\.lr"),
        ({"base": 3}, r"base = 3 \(base\)"),
        ({"targets": 3}, r"lora\.targets"),
        ({"targets": [3]}, r"lora\.targets"),
        ({"scales": True}, r"train\.scales"),
        ({"scales": ""}, r"train\.scales"),
        ({"cache": "perhaps"}, r"\(cache\)"),
        ({"lora": 8}, r"'lora' is a section"),
        ({"lora": {"rnak": 8}}, r"'lora\.rnak'\n.*lora\.rank"),
        ({"task": {"mix": {"joind": 1}}}, r"'task\.mix\.joind'\n.*task\.mix\.joined"),
        ({"lora": {"rank": 8}, "lora.rank": 4}, r"one setting, lora\.rank"),
        ({"lr": 1, "learning_rate": 1}, r"lr and learning_rate are one setting, train\.lr"),
    ],
)
def test_a_wrong_value_names_the_setting(settings: dict[str, Any], wrong: str) -> None:
    with pytest.raises(ConfigError, match=wrong):
        load_recipe("dialect", settings)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("q_proj,v_proj", ("q_proj", "v_proj")),
        ("q_proj, v_proj", ("q_proj", "v_proj")),
        ("[q_proj, v_proj]", ("q_proj", "v_proj")),
        ("['a, b', c]", ("a, b", "c")),
        ("q_proj", ("q_proj",)),
        ("no,2024", ("no", "2024")),
        ("[]", ()),
        ("", ()),
    ],
)
def test_lists_of_words(text: str, found: tuple[str, ...]) -> None:
    assert configure(RECIPE, "x", {"targets": text}).lora.targets == found
    assert configure(RECIPE | {"lora": {"targets": text}}, "x").lora.targets == found


def test_lists_of_numbers_colours_and_choices() -> None:
    for text in ("0.5,1", "[0.5, 1]", "5e-1, 1"):
        assert configure(RECIPE, "x", {"scales": text}).train.scales == (0.5, 1)
    assert configure(RECIPE, "x", {"scales": "1"}).train.scales == (1.0,)
    assert configure(RECIPE, "x", {"scales": 1}).train.scales == (1.0,)
    colours = task(configure(RECIPE, "x", {"palette": "#ff0000,00ff00"}))["palette"]
    assert colours == ("#ff0000", "00ff00")
    ways = {"beside": "prompt,adapter + prompt"}
    assert task(load_recipe("terminology", ways))["beside"] == ("prompt", "adapter + prompt")
    with pytest.raises(ConfigError, match=r"--scales 1,much \(train\.scales\)"):
        configure(RECIPE, "x", {"scales": "1,much"})


def test_a_base_by_another_name_takes_what_suits_it() -> None:
    values = RECIPE | {"lr": 1, "bases": {"b": {"learning_rate": 2}, "c": {"train": {"lr": 3}}}}
    assert configure(values, "x").train.lr == 2
    assert configure(values, "x", {"model_name_or_path": "c"}).train.lr == 3
    assert configure(values, "x", {"base": "d"}).train.lr == 1
    with pytest.raises(ConfigError, match=r"^x: unknown setting 'train\.lrr'"):
        configure(RECIPE | {"bases": {"b": {"train": {"lrr": 2}}}}, "x")


def test_a_section_without_content_sets_nothing() -> None:
    assert configure(RECIPE | {"lora": None, "task": None, "data": None}, "x").lora.rank == 16
    assert configure(RECIPE | {"data": {"path": "a"}}, "x", {"data": None}).data.path is None


@pytest.mark.parametrize("name", ["dialect", "brand_style"])
def test_settings_that_an_earlier_version_wrote_are_read(name: str) -> None:
    path = Path(__file__).with_name(f"earlier_{name}.yaml")
    earlier, now = (
        yaml.safe_load(text) for text in (path.read_text(), load_recipe(str(path)).dump())
    )

    def kept(before: object, after: object) -> bool:  # later versions have more settings
        if isinstance(before, dict) and isinstance(after, dict):
            return all(key in after and kept(before[key], after[key]) for key in before)
        return before == after

    assert kept(earlier, now)
