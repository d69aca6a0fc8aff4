"""The examples of docs/api.md run, each as it stands, on tiny data and with few steps."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from mmtune.config import RunConfig
from mmtune.runs import recipes
from tests.faults.test_kill import pictures, recordings
from tests.speech.real import TINY, needs

PAGE = Path(__file__).parents[1] / "docs" / "api.md"
EXAMPLES = re.findall(r"^```python\n(.*?)^```$", PAGE.read_text(encoding="utf-8"), re.M | re.S)
SMALL = {
    "brand_style": {
        "max_steps": 2, "batch_size": 4, "task.steps": 2, "seeds": 1, "validation_images": 2,
        "scales": "[1.0]",
    },
    "terminology": {"max_steps": 2, "batch_size": 4, "scales": "[1.0]", "probes": 0, "joined": 0},
}  # fmt: skip


def example(words: str) -> str:
    """The only example that holds `words`."""
    [found] = [text for text in EXAMPLES if words in text]
    return found


@pytest.fixture
def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the data that the page names, in which recipes take few steps."""
    load = recipes.load_recipe

    def small(name: str, given: Mapping[str, Any] | None = None) -> RunConfig:
        return load(name, {**SMALL.get(name, {}), **(given or {})})

    monkeypatch.setattr(recipes, "load_recipe", small)
    monkeypatch.setenv("MMTUNE_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    pictures(tmp_path / "our-brand")
    recordings(tmp_path / "calls")
    shutil.copy(tmp_path / "calls" / "0.wav", tmp_path / "call.wav")
    return tmp_path


def run(text: str) -> dict[str, Any]:
    names: dict[str, Any] = {}
    exec(compile(text, str(PAGE), "exec"), names)
    return names


def test_the_page_has_an_example_of_each_function() -> None:
    assert len(EXAMPLES) == 16
    for name in (
        *("load_recipe", "check", "train", "evaluate", "report", "transcribe", "generate"),
        *("compose", "export", "open_predictor", "verify", "repair", "score", "list_runs"),
        "redact",
    ):
        assert any(f"mmtune.{name}(" in text for text in EXAMPLES), name
    for text in EXAMPLES:
        assert text.startswith("import mmtune\n")
        assert len(text.splitlines()) <= 11


def test_the_ten_line_notebook_and_what_follows_from_its_run(
    desk: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    notebook = run(EXAMPLES[0])
    printed = capsys.readouterr().out
    assert "fingerprint" in printed
    assert "style distance" in printed
    assert "verdict  " in printed
    images = notebook["images"]
    assert [(each.prompt, each.seed) for each in images] == [("a red apple", 0), ("a red apple", 1)]
    assert images._repr_html_().count("<img ") == 2
    shutil.copytree(desk / "runs" / "brand", desk / "runs" / "poster")
    for words in (
        'check("our-brand", modality',
        'mmtune.evaluate("runs/brand", suite',
        "mmtune.report",
        "mmtune.list_runs",
        "mmtune.verify",
        "a teapot",
    ):
        run(example(words))
    drawn = capsys.readouterr().out
    assert "drawn/a-teapot-seed1" in drawn
    assert (desk / "both.html").is_file()
    assert (desk / "runs" / "brand" / "report-redacted.html").is_file()


@pytest.mark.slow
def test_measuring_on_other_data(desk: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run(EXAMPLES[0])
    run(EXAMPLES[0].replace('name="brand"', 'name="poster", seed=1'))
    for picture in pictures(desk / "other-pictures").glob("*.png"):
        Image.open(picture).transpose(Image.Transpose.ROTATE_90).save(picture)
    capsys.readouterr()
    run(example("other-pictures"))
    shown = capsys.readouterr().out.splitlines()
    assert shown[0].startswith("results ")
    assert shown[1].startswith("runs/brand ")


@pytest.mark.slow
def test_adapters_of_images_are_merged_exported_and_opened(desk: Path) -> None:
    run(EXAMPLES[0])
    shutil.copytree(desk / "runs" / "brand", desk / "runs" / "poster")
    for words in ("mmtune.compose", "mmtune.export", "mmtune.open_predictor"):
        run(example(words))
    assert (desk / "both" / "card.json").is_file()
    assert (desk / "brand.safetensors").is_file()
    assert (desk / "first.png").is_file()


def test_settings(desk: Path, capsys: pytest.CaptureFixture[str]) -> None:
    names = run(example("load_recipe("))
    assert capsys.readouterr().out.startswith("3 8 runs/terminology\n")
    assert (names["longer"].train.epochs, names["longer"].lora.rank) == (10, 8)


def test_redacting(desk: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run(example("mmtune.redact("))
    assert capsys.readouterr().out == "{} {}\n"
    assert (desk / "our-brand-redacted" / "redaction.json").is_file()


def test_transcripts_of_any_system(desk: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = [{"id": str(i), "text": f"take {word}"} for i, word in enumerate(("this", "that"))]
    (desk / "references.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (desk / "transcripts.csv").write_text("id,text\n1,take that\n0,take these\n")
    run(example("mmtune.score("))
    assert capsys.readouterr().out.startswith("WER 0.250 [")


@pytest.mark.slow
@needs(TINY)
def test_speech(desk: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = run(example('mmtune.train("terminology"'))["run"]
    assert found.to_dict()["fit"]["steps"] == 2
    assert "of 2 steps" in capsys.readouterr().out
    assert len(run(example("mmtune.transcribe"))["calls"]) == 1
