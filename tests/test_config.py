"""Settings: order of precedence, unknown keys, what errors say."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml
from hypothesis import example, given
from hypothesis import strategies as st

from mmtune.config import RunConfig, leaves, read_yaml
from mmtune.errors import ConfigError
from mmtune.runs.recipes import configure
from mmtune.settings.naming import resolve
from mmtune.settings.reading import merge, nest

RECIPE = {
    "recipe": "terminology",
    "modality": "speech",
    "base": "starter:whisper-tiny.en",
    "train": {"lr": 0.002, "epochs": 7},
}


def test_the_command_line_wins_over_the_file_and_the_file_over_the_defaults() -> None:
    config = configure(RECIPE, "recipe.yaml", {"lr": "0.5", "data": "./here"})
    assert (config.train.lr, config.train.epochs, config.train.batch_size) == (0.5, 7, 16)
    assert config.data.path == Path("here")
    assert config.name == "terminology"
    assert config.folder == Path("runs/terminology")


@pytest.mark.parametrize(
    ("key", "hint"),
    [("learning_rat", "train.lr"), ("epoch", "train.epochs"), ("train.rl", "train.lr"),
     ("ranks", "lora.rank")],
)  # fmt: skip
def test_an_unknown_setting_is_an_error_with_a_hint(key: str, hint: str) -> None:
    with pytest.raises(ConfigError, match=key) as caught:
        configure(RECIPE, "recipe.yaml", {key: "1"})
    assert hint in caught.value.cure


@pytest.mark.parametrize(
    ("values", "found"),
    [
        ({"train": {"lrr": 1}}, "train.lrr"),
        ({"trian": {}}, "trian"),
        ({"train": {"lr": "fast"}}, "train.lr = 'fast'"),
        ({"train": {"keep": 1}}, "train.keep = 1"),
        ({"lora": {"rank": 0}}, "lora.rank = 0"),
        ({"task": {"wimdow": 3}}, "task.wimdow"),
        ({"modality": "speach"}, "speach"),
    ],
)
def test_a_wrong_value_names_file_and_setting(values: dict[str, object], found: str) -> None:
    with pytest.raises(ConfigError, match=r"recipe\.yaml") as caught:
        configure(merge(RECIPE, values), "recipe.yaml", {})
    assert found in caught.value.found
    assert caught.value.cure


def test_settings_are_frozen_and_survive_a_round_trip(tmp_path: Path) -> None:
    config = configure(RECIPE, "recipe.yaml", {"clip": "null", "seed": "3"})
    with pytest.raises(Exception, match="frozen"):
        config.train.lr = 1.0  # type: ignore[misc]
    path = tmp_path / "config.yaml"
    path.write_text(config.dump())
    assert configure(read_yaml(path), str(path), {}) == config
    assert config.train.clip is None


@pytest.mark.parametrize("text", ["- a\n- b\n", "a: [1\n", ""])
def test_a_file_that_is_no_mapping_is_named(tmp_path: Path, text: str) -> None:
    path = tmp_path / "odd.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=r"odd\.yaml"):
        read_yaml(path)


@given(st.lists(st.text("abc", min_size=1), min_size=1, max_size=4), st.integers())
def test_nest_makes_one_leaf(parts: list[str], value: int) -> None:
    found: object = nest(".".join(parts), value)
    for part in parts:
        assert isinstance(found, dict)
        assert list(found) == [part]
        found = found[part]
    assert found == value


@pytest.mark.parametrize(
    ("key", "value", "wrong"),
    [
        ("encoder_layers", "most", "valid integer.* or: Input should be 'all'"),
        ("encoder_layers", "-1", "greater than or equal to 0 or: "),
        ("lora.targets", "[1]", "valid string"),
    ],
)
def test_a_setting_of_several_types_is_named_by_its_name(key: str, value: str, wrong: str) -> None:
    asked = rf"^--{key} {re.escape(value)} \((task|lora)\.\w+\): .*{wrong}"
    with pytest.raises(ConfigError, match=asked):
        configure(RECIPE, "x", {key: value})
    section, name = resolve(key, [*leaves(RunConfig), "task.encoder_layers"]).split(".")
    with pytest.raises(ConfigError, match=rf"^x: {section}\.{name} = \S+: .*{wrong}"):
        configure(merge(RECIPE, {section: {name: yaml.safe_load(value)}}), "x", {})
    assert (
        configure(RECIPE, "x", {"encoder_layers": "all"}).task.model_dump()["encoder_layers"]
        == "all"
    )


@given(st.text(min_size=1).filter(lambda text: text not in {"~", "null"}))
@example("2024")
@example("my #1 folder")
@example("@brand: new")
@example("[a, b")
@example("no")
def test_paths_and_words_are_taken_as_they_stand(text: str) -> None:
    config = configure(RECIPE, "x", {"data": text, "tracker": text})
    assert (config.data.path, config.train.tracker) == (Path(text), text)


def test_a_colour_and_a_phrase_can_be_given() -> None:
    words = {"background": "#00ff00", "trigger": "style: flat", "palette": "['#ff0000']"}
    task = configure(RECIPE | {"modality": "image"}, "x", words).task.model_dump()
    assert task["background"] == "#00ff00"
    assert task["trigger"] == "style: flat"
    assert task["palette"] == ("#ff0000",)
    with pytest.raises(ConfigError, match=r"^--scales \[1 \(train\.scales\)"):
        configure(RECIPE, "x", {"scales": "[1"})
