"""Settings as people read them: the help of a recipe, and the page of all settings."""

from __future__ import annotations

import importlib.util
import re
from functools import reduce
from pathlib import Path

import pytest

from mmtune.cli import main
from mmtune.config import RunConfig, Section
from mmtune.runs.recipes import configure, load_recipe
from mmtune.settings.declare import sections_of
from mmtune.settings.explain import help_of, short_name, shown
from mmtune.settings.foreign_names import NAMES
from mmtune.system.resources import recipes
from tests.settings.models import ALL, of_modality

ROOT = Path(__file__).parents[2]


def test_the_page_is_that_of_the_models() -> None:
    path = ROOT / "tools" / "settings_page.py"
    spec = importlib.util.spec_from_file_location("settings_page", path)
    assert spec is not None
    assert spec.loader is not None
    tool = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(tool)
    text = tool.PAGE.read_text(encoding="utf-8")
    assert text == tool.page(), f"docs/settings.md is old; renew it: {tool.COMMAND}"
    assert tool.COMMAND in text
    assert [name for name in ALL if f"| `{name}` |" not in text] == []
    assert [other.name for other in NAMES if f"`{other.name}` (" not in text] == []


@pytest.mark.parametrize("recipe", recipes())
@pytest.mark.parametrize("width", [80, 100])
def test_the_help_of_a_recipe_has_each_setting_once(recipe: str, width: int) -> None:
    config = load_recipe(recipe, {"lr": 0.25})
    known = [each.name for each in of_modality(config.modality)]
    sections = [*sections_of(RunConfig), *sections_of(type(config.task), "task.")]
    text = help_of(sections, lambda name: reduce(getattr, name.split("."), config), width)
    given = dict(re.findall(r"^  --(\S+) (.*?)(?:  .*)?$", text, re.M))
    assert sorted(given) == sorted(short_name(name, known) for name in known)
    assert given["lr"] == "0.25"
    assert given["epochs"] == str(config.train.epochs)
    long = [line for line in text.splitlines() if len(line) > width]
    assert all(line.startswith("  --") for line in long), "only a long value makes a line long"
    names = ["data", "name", "base", "epochs", "batch", "lr", "rank", "validation", "warmup"]
    order = [text.index(f"  --{name} ") for name in names]
    assert order == sorted(order)
    assert text.startswith("common settings:\n")
    for each in of_modality(config.modality):
        assert each.unit in " ".join(text.split())


class Plain(Section):
    """Settings of somebody else, without descriptions."""

    some: str = "x"
    number: int = 3
    a_name_that_is_as_long_as_the_column: float | None = None


def test_settings_without_description_are_shown() -> None:
    text = help_of(list(sections_of(Plain, "task.")), {"task.some": "x"}.get, 80)
    assert text.splitlines() == [
        "task: settings of somebody else, without descriptions:",
        "  --some x",
        "  --number null           [any whole number]",
        "  --a_name_that_is_as_long_as_the_column null",
        "                          [any number or null]",
    ]


@pytest.mark.parametrize("recipe", recipes())
def test_values_of_the_help_can_be_given(recipe: str) -> None:
    import shlex

    config = load_recipe(recipe)
    known = [each.name for each in of_modality(config.modality)]
    given = {}
    for name in known:
        [given[short_name(name, known)]] = shlex.split(
            shown(reduce(getattr, name.split("."), config))
        )
    own = {"recipe": "x", "modality": config.modality}
    assert configure(own, "x", given) == config


def test_the_command_prints_help_or_yaml(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "90")
    for words in (["--help", "dialect"], ["dialect", "--lr", "0.25", "-h"]):
        assert main(["train", *words]) == 0
        text = capsys.readouterr().out
        assert text.startswith("usage: mmtune train dialect")
        assert "--micro_batch 4 " in text
        assert max(map(len, text.splitlines())) <= 90
    assert "--lr 0.25 " in text
    assert main(["train", "dialect", "--lr", "0.25", "--print-config"]) == 0
    assert capsys.readouterr().out == load_recipe("dialect", {"lr": 0.25}).dump()
    assert main(["train", "dialect", "--lr", "fast", "--help"]) == 2
    assert "--lr fast (train.lr)" in capsys.readouterr().err
    assert main(["train", "--print-config"]) == 2
    assert "needs exactly one recipe" in capsys.readouterr().err
