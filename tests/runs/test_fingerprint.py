"""Each setting that changes what is trained belongs to the run: another value is another run."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal, get_args, get_origin

import pytest
from pydantic import ValidationError

from mmtune.config import RunConfig, leaves_with
from mmtune.errors import ConfigError
from mmtune.runs.folder import AFTERWARDS, claim
from mmtune.runs.modalities import find_modality
from mmtune.runs.recipes import load_recipe
from mmtune.settings.declare import settings_of as declared

# Settings that may change between two calls of one run, and why.
HARMLESS = {
    "suite": "it judges the finished run, and the folder keeps a copy of the one that did",
    "data.policy": "it decides which rows take part, and the data's fingerprint knows those",
    "report.content": "it decides what the page shows, and changes no figure",
    "train.tracker": "it gets what is measured anyway, and changes no figure",
    "train.tracker_samples": "as the tracker",
    "out": "it is a part of the run folder's path: another value is another folder",
    "name": "it is the run folder's name: another value is another folder",
    "modality": "a modality has its own recipes and settings; a run can't change it",
}
RECIPES = {"dialect": "speech", "brand_style": "image"}
MEASURING = {  # only the comparison needs them, and it is made again
    each.name
    for modality in RECIPES.values()
    for each in declared(find_modality(modality).options, "task.")
    if each.measuring and (not each.file or each.harmless)
}
CASES = [
    (recipe, name)
    for recipe, modality in RECIPES.items()
    for name in leaves_with(find_modality(modality).options)
    if name not in HARMLESS and name not in MEASURING
]


def settings_of(recipe: str, out: Path) -> RunConfig:
    return load_recipe(recipe, {"base": "b", "out": str(out), "name": "run", "data": "d"})


def other_values(kind: Any, value: Any) -> list[Any]:
    """Values to try in place of a setting's; some may be out of its range."""
    kinds = {kind, get_origin(kind), *get_args(kind)}
    choices = [c for k in (kind, *get_args(kind)) if get_origin(k) is Literal for c in get_args(k)]
    found: list[Any] = [*choices, *([c] for c in choices)]
    if isinstance(value, bool) or bool in kinds:
        found.append(not value)
    if isinstance(value, int | float):
        found += [value + 1, value / 2, value - 1, value * 0.9 + 0.001]
    if isinstance(value, list | tuple):
        found += [[0.5], [0.25, 1.0], ["other"], ["#a0b0c0"]]
    here = Path(__file__)
    found += ["other", "de", 3, 512, 0.125, None, ["other"], ["#a0b0c0"], [0.5], "#a0b0c0"]
    return [*found, str(here), str(here.parent)]


def changed(config: RunConfig, name: str) -> RunConfig:
    """The settings with another valid value of one of them."""
    old = config.model_dump(mode="json")
    kind = leaves_with(type(config.task))[name]
    *sections, last = name.split(".")
    for value in other_values(kind, _at(old, name)):
        values = config.model_dump(mode="json")
        place = values
        for section in sections:
            place = place[section]
        place[last] = value
        try:
            task = type(config.task).model_validate(values["task"])
            new = RunConfig.model_validate({**values, "task": task})
        except ValidationError:
            continue
        if _at(new.model_dump(mode="json"), name) != _at(old, name):
            return new
    raise AssertionError(f"no other value of {name} was found")


def _at(values: dict[str, Any], name: str) -> Any:
    for part in name.split("."):
        values = values[part]
    return values


@pytest.mark.parametrize(("recipe", "name"), CASES)
def test_another_value_of_a_setting_is_another_run(recipe: str, name: str, tmp_path: Path) -> None:
    config = settings_of(recipe, tmp_path)
    claim(config)
    (config.folder / "log.jsonl").touch()
    claim(config)
    with pytest.raises(ConfigError, match=f"settings: {name} was"):
        claim(changed(config, name))


@pytest.mark.parametrize("name", sorted(AFTERWARDS))
def test_a_harmless_setting_may_change(name: str, tmp_path: Path) -> None:
    config = settings_of("dialect", tmp_path)
    claim(config)
    (config.folder / "log.jsonl").touch()
    other = changed(config, name)
    claim(other)
    written = (config.folder / "config.yaml").read_text(encoding="utf-8")
    assert written.endswith(other.dump())  # the run has the new setting from now on


def test_each_setting_is_in_the_comparison_or_has_a_reason() -> None:
    assert HARMLESS.keys() - {"out", "name", "modality"} == AFTERWARDS


@pytest.mark.parametrize(
    "name", sorted(MEASURING & set(leaves_with(find_modality("speech").options)))
)
def test_a_setting_of_the_comparison_has_it_made_again(name: str, tmp_path: Path) -> None:
    config = settings_of("dialect", tmp_path)
    claim(config)
    (config.folder / "log.jsonl").touch()
    comparison = config.folder / "comparison.json"
    comparison.write_text("{}")
    claim(config)
    assert comparison.exists()
    claim(changed(config, name))
    assert not comparison.exists()
