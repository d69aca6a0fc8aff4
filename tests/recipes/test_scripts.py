"""The recipes' scripts: what they import, and what they ask mmtune for. Nothing is trained."""

from __future__ import annotations

import ast
import runpy
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import mmtune
from mmtune.system.resources import recipes, resource


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, dict[str, Any]]]:
    """The calls of `mmtune.train` and `mmtune.generate`, which do nothing else."""
    calls: list[tuple[str, dict[str, Any]]] = []

    def train(recipe: str, **settings: Any) -> Any:
        calls.append((recipe, settings))
        return SimpleNamespace(folder=Path("runs") / settings["name"])

    def generate(prompts: list[str], **settings: Any) -> str:
        calls.append(("generate", {"prompts": prompts, **settings}))
        return "pictures"

    monkeypatch.setattr(mmtune, "train", train)
    monkeypatch.setattr(mmtune, "generate", generate)
    return calls


def start(monkeypatch: pytest.MonkeyPatch, name: str, *arguments: str) -> None:
    script = resource("recipes", name) / f"{name}.py"
    monkeypatch.setattr(sys, "argv", [script.name, *arguments])
    runpy.run_path(str(script), run_name="__main__")


@pytest.mark.parametrize("name", recipes())
def test_a_script_uses_the_public_face_alone_and_is_short(name: str) -> None:
    text = (resource("recipes", name) / f"{name}.py").read_text(encoding="utf-8")
    nodes = list(ast.walk(ast.parse(text)))
    imported = {
        alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names
    }
    imported |= {str(node.module) for node in nodes if isinstance(node, ast.ImportFrom)}
    assert {module for module in imported if module.startswith("mmtune")} == {"mmtune"}
    used = {
        node.attr
        for node in nodes
        if isinstance(node, ast.Attribute)
        and isinstance(node.value, ast.Name)
        and node.value.id == "mmtune"
    }
    assert used <= set(mmtune.__all__)
    assert len(text.splitlines()) <= 65


def test_dialect_trains_once_unless_the_decoder_is_compared(
    monkeypatch: pytest.MonkeyPatch, asked: list[tuple[str, dict[str, Any]]]
) -> None:
    start(monkeypatch, "dialect", "--data", "calls", "--set", "epochs=5", "rank=4")
    [(recipe, settings)] = asked
    assert recipe == "dialect"
    assert settings == {
        "data": "calls", "base": "starter:whisper-tiny.en", "name": "dialect", "epochs": "5",
        "rank": "4",
    }  # fmt: skip
    asked.clear()
    start(monkeypatch, "dialect", "--data", "calls", "--compare-decoder", "--general-speech", "g")
    (_, decoder), (_, whole) = asked
    assert (decoder["name"], decoder["encoder_layers"]) == ("dialect-decoder", 0)
    assert whole["control"] == Path("runs/dialect-decoder")
    assert decoder["retention"] == whole["retention"] == "g"


def test_terminology_trains_a_control_only_where_it_can_speak_one(
    monkeypatch: pytest.MonkeyPatch, asked: list[tuple[str, dict[str, Any]]]
) -> None:
    start(monkeypatch, "terminology", "--terms", "t.txt", "--data", "calls")
    [(_, settings)] = asked
    assert (settings["terms"], settings["data"]) == ("t.txt", "calls")
    assert "control" not in settings
    asked.clear()
    start(monkeypatch, "terminology", "--terms", "t.txt", "--name", "n")
    (_, control), (_, adapter) = asked
    assert (control["name"], control["ordinary"], control["test"]) == ("n-control", True, 0)
    assert (adapter["name"], adapter["control"]) == ("n", Path("runs/n-control"))
    assert "ordinary" not in adapter


def test_call_center_imports_checks_and_trains(
    monkeypatch: pytest.MonkeyPatch, asked: list[tuple[str, dict[str, Any]]]
) -> None:
    given: list[Any] = []

    def import_data(source: str, to: str, **settings: Any) -> Any:
        given.append((source, to, settings))
        return SimpleNamespace(folder=Path(to), describe=lambda: ["12 rows"])

    monkeypatch.setattr(mmtune, "import_data", import_data)
    monkeypatch.setattr(mmtune, "check", lambda *paths, **more: given.append((*paths, more)))
    words = ["--notes", "n.csv", "--terms", "t.txt", "--held-out", "h", "--name", "june"]
    start(monkeypatch, "call_center", *words, "--set", "epochs=5")
    (source, to, settings), checked = given
    assert (source, to, settings["align"]) == ("n.csv", "june-corpus", True)
    assert settings["speakers"] == "agent=0,customer=1"
    assert checked == (Path("june-corpus"), "speech", {"terms": "t.txt", "strict": True})
    [(recipe, trained)] = asked
    assert recipe == "call_center"
    assert (trained["calls"], trained["call_speakers"]) == ("h", settings["speakers"])
    assert (trained["terms"], trained["epochs"]) == ("t.txt", "5")
    config = mmtune.load_recipe(recipe, **trained)
    assert str(config.task.calls) == "h"


def test_brand_style_draws_the_prompts_it_is_given(
    monkeypatch: pytest.MonkeyPatch,
    asked: list[tuple[str, dict[str, Any]]],
    capsys: pytest.CaptureFixture[str],
) -> None:
    start(monkeypatch, "brand_style", "--data", "p", "a cup", "a hat", "--scale", "0.6")
    (_, settings), (_, drawn) = asked
    assert settings["data"] == "p"
    assert drawn["prompts"] == ["a cup", "a hat"]
    assert (drawn["scale"], drawn["seeds"], drawn["grid"]) == (0.6, [0], True)
    assert capsys.readouterr().out.endswith("pictures\n")
    asked.clear()
    start(monkeypatch, "brand_style", "--data", "p")
    assert len(asked) == 1


def test_an_error_is_one_message(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(SystemExit, match=r"(?s)error: .*cure: "):
        start(monkeypatch, "dialect", "--data", "calls", "--set", "epochs=0")
