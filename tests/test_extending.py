"""docs/extending.md holds: a package outside mmtune adds a modality and a metric, and trains."""

from __future__ import annotations

import ast
import importlib
import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import yaml

from mmtune import cli
from mmtune.adapters.exported import Export, Exported, ExportFormat
from mmtune.data.rows import Row
from mmtune.errors import ConfigError
from mmtune.evaluation.comparison import read_comparison
from mmtune.metrics.metric import Stat
from mmtune.metrics.registry import METRICS, added_metrics, make_metric
from mmtune.predict import Prediction
from mmtune.runs.modalities import MODALITIES, find_modality

ROOT = Path(__file__).parents[1]
PLUGIN = ROOT / "tests" / "plugins" / "mmtune_text"
PAGE = ROOT / "docs" / "extending.md"
COLOURS = ("red", "green", "blue", "black", "white", "pink", "brown", "grey")
PHRASES = {
    "train": ("say", "please say", "now say", "say it :", "write", "repeat"),
    "validation": ("please write",),
    "test": ("now write", "please repeat"),
}


def listed() -> dict[str, set[str]]:
    """The modules that the page lets an extender import, each with its names."""
    found = re.findall(r"^\| `(mmtune[\w.]*)` \| (.+?) \|", PAGE.read_text(), re.M)
    return {module: set(re.findall(r"`(\w+)`", names)) for module, names in found}


def test_the_page_lists_names_that_exist() -> None:
    assert len(listed()) > 10
    for module, names in listed().items():
        found = importlib.import_module(module)
        assert names, module
        assert [name for name in names if not hasattr(found, name)] == []


def test_the_plugin_imports_only_what_the_page_lists() -> None:
    allowed, used = listed(), set()
    for path in PLUGIN.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                assert not any(alias.name.split(".")[0] == "mmtune" for alias in node.names)
            if isinstance(node, ast.ImportFrom) and str(node.module).split(".")[0] == "mmtune":
                used.add(node.module)
                extra = {alias.name for alias in node.names} - allowed.get(str(node.module), set())
                assert not extra, f"{path.name}: {node.module}: {extra}"
    assert len(used) > 5


def test_the_page_names_every_group_of_entry_points() -> None:
    code = "".join(path.read_text() for path in (ROOT / "mmtune").rglob("*.py"))
    groups = set(
        re.findall(
            r'"(mmtune\.(?:modalities|metrics|merge_methods|\w+_families|\w+_filters))"', code
        )
    )
    assert len(groups) == 5
    for group in groups | {"mmtune.export_formats.speech", "mmtune.export_formats.image"}:
        assert group in PAGE.read_text()


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The plugin as pip installs it, on the path for as long as the tests of this file run."""
    target = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index"]
    command += ["--no-build-isolation", "--target", str(target), str(PLUGIN)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr
    sys.path.insert(0, str(target))
    yield target
    sys.path.remove(str(target))
    for name in [name for name in sys.modules if name.split(".")[0] == "mmtune_text"]:
        del sys.modules[name]


@pytest.fixture(scope="module")
def recipe(installed: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Instruction pairs, a tiny Llama with random weights, and settings."""
    import torch
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    folder = tmp_path_factory.mktemp("text")
    words = {word for some in PHRASES.values() for phrase in some for word in phrase.split()}
    vocabulary = {w: i for i, w in enumerate(("[end]", "[unknown]", *COLOURS, *sorted(words)))}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="[unknown]"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    base = folder / "base"
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, eos_token="[end]", unk_token="[unknown]"
    ).save_pretrained(base)
    torch.manual_seed(0)
    LlamaForCausalLM(
        LlamaConfig(
            vocab_size=len(vocabulary), hidden_size=32, intermediate_size=64, num_hidden_layers=2,
            num_attention_heads=4, max_position_embeddings=32, tie_word_embeddings=True,
            bos_token_id=0, eos_token_id=0, initializer_range=0.2,
        )
    ).save_pretrained(base)  # fmt: skip
    lines = [
        {"prompt": f"{phrase} {colour}", "answer": colour, "split": split}
        for split, phrases in PHRASES.items()
        for phrase in phrases
        for colour in COLOURS
    ]
    (folder / "pairs.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    settings = {
        "recipe": "colours",
        "modality": "text",
        "base": str(base),
        "data": {"path": str(folder / "pairs.jsonl")},
        "lora": {"rank": 8, "alpha": 16},
        "train": {"epochs": 8, "batch_size": 8, "lr": 0.01, "checkpoint_every": 4},
        "out": str(folder / "runs"),
    }
    (folder / "recipe.yaml").write_text(yaml.safe_dump(settings))
    return folder / "recipe.yaml"


@pytest.fixture(scope="module")
def run(recipe: Path) -> Path:
    assert cli.main(["train", str(recipe), "--name", "whole"]) == 0
    return recipe.parent / "runs" / "whole"


def test_check_reads_rows_without_files(recipe: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pairs = recipe.parent / "pairs.jsonl"
    assert cli.main(["check", str(pairs)]) == 0
    shown = capsys.readouterr().out
    assert "(text)" in shown
    assert "72: 72 usable (train 48, validation 8, test 16)" in shown
    bad = recipe.parent / "bad.jsonl"
    lines = ['{"prompt": "say red", "answer": "red"}'] * 2 + ['{"prompt": "say", "anser": "x"}']
    bad.write_text("\n".join(lines))
    assert cli.main(["check", str(bad), "--modality", "text"]) == 1
    shown = capsys.readouterr().out
    assert "did you mean answer?" in shown
    assert "has the same fields as row 'line 1'" in shown


def test_it_trains_and_measures(run: Path) -> None:
    comparison = read_comparison(run)
    found = {measure.metric: measure for measure in comparison.measures}
    assert list(found) == ["loss", "exact match"]
    assert found["loss"].items == 16
    assert found["loss"].difference.high < 0
    assert found["exact match"].adapter.value > found["exact match"].base.value
    assert comparison.headline.startswith("text   whole   loss ")
    card = json.loads((run / "adapter" / "card.json").read_text())
    assert card["modality"] == "text"
    assert card["validation"]["loss"] > 0


def test_a_stopped_run_resumes_to_the_same_bits(
    run: Path, recipe: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from mmtune.runs.rich_reporter import RichReporter

    told = RichReporter.step

    def step(self: RichReporter, step: int, total: int, loss: float, lr: float) -> None:
        told(self, step, total, loss, lr)
        if step == 11:
            os.kill(os.getpid(), signal.SIGTERM)

    command = ["train", str(recipe), "--name", "stopped"]
    monkeypatch.setattr(RichReporter, "step", step)
    assert cli.main(command) == 128 + signal.SIGTERM
    assert "resume: mmtune train" in capsys.readouterr().err
    other = run.with_name("stopped")
    assert not (other / "adapter").exists()
    monkeypatch.undo()
    assert cli.main(command) == 0
    weights = "adapter/adapter_model.safetensors"
    assert (other / weights).read_bytes() == (run / weights).read_bytes()
    measured = [read_comparison(each).measures for each in (run, other)]
    assert measured[0] == measured[1]


def test_it_is_evaluated_and_reported_again(
    run: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    before = (run / "comparison.json").read_bytes()
    # All answers are stored: no model is loaded.
    monkeypatch.setattr("mmtune_text.model.TextBase.__init__", lambda *a: pytest.fail("loaded"))
    assert cli.main(["evaluate", str(run)]) == 0
    assert "exact match" in capsys.readouterr().out
    assert (run / "comparison.json").read_bytes() == before
    assert cli.main(["report", str(run)]) == 0
    page = (run / "report.html").read_text()
    assert "The share of answers that are the expected text, letter by letter." in page
    assert "now write" in page
    monkeypatch.undo()
    assert cli.main(["evaluate", str(run), "--fresh"]) == 0
    assert (run / "comparison.json").read_bytes() == before


def test_adapters_open_as_predictors(run: Path) -> None:
    from mmtune.predict import Request
    from mmtune.runs.adapters import open_predictor

    predictor = open_predictor(run)
    row = find_modality("text").row.model_validate(
        {"id": "a", "prompt": "now write red", "answer": "red"}
    )
    base, adapted = predictor.predict([Request(row), Request(row, {"adapter": 1.0})])
    assert base.details["loss"] > adapted.details["loss"]


@pytest.mark.slow
def test_mistakes_are_told(recipe: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for flags, said in (
        (["--base", "nowhere/none"], "can't be loaded"),
        (["--prompt_weight", "2"], "task.prompt_weight"),
        (["--suite", "terminology"], "is a suite for speech"),
    ):
        assert cli.main(["train", str(recipe), "--name", "wrong", *flags]) == 2
        assert said in capsys.readouterr().err
    assert cli.main(["train", str(recipe), "--help"]) == 0
    shown = re.sub(r"\s+", " ", capsys.readouterr().out)
    assert "What a token of the prompt counts in the loss" in shown
    run = recipe.parent / "runs" / "whole"
    assert cli.main(["export", str(run), "--format", "gguf", "--out", "x"]) == 2
    assert "text adapters have no export format 'gguf'" in capsys.readouterr().err


@dataclass(frozen=True)
class Copy(ExportFormat):
    """The adapter's folder as it is."""

    def export(self, request: Export) -> Exported:
        import shutil

        shutil.copytree(request.adapter, request.to)
        return Exported(request.to, self.name, {"files": len(list(request.to.iterdir()))})


def test_a_registered_format_is_in_the_help_and_exports(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    formats = find_modality("text").formats
    formats.add("copy", Copy("copy", "the folder as it is", ("fp32",)))
    try:
        with pytest.raises(SystemExit):
            cli.parse(["export", "--help"])
        shown = re.sub(r"\s+", " ", capsys.readouterr().out)
        assert "text: copy (the folder as it is)" in shown
        assert "ggml" in shown
        command = ["export", str(run), "--format", "copy", "--out", str(tmp_path / "out")]
        assert cli.main([*command, "--precision", "int8"]) == 2
        assert "format copy has fp32" in capsys.readouterr().err
        assert cli.main(command) == 0
        assert "checked: files" in capsys.readouterr().out
        assert (tmp_path / "out" / "card.json").is_file()
    finally:
        formats.remove("copy")


class Words:
    """Words of the answer, for a test."""

    name = "words written"
    unit = "words an answer"
    meaning = "How many words an answer has."
    higher_is_better = False
    modalities = ("text",)

    def observe(self, row: Row, prediction: Prediction) -> Stat:
        return np.array([float(len(str(prediction.value).split()))])

    def reduce(self, stats: Sequence[Stat] | Stat) -> float | None:
        return float(np.mean(stats))


def test_a_registered_metric_is_measured_and_in_the_report(run: Path) -> None:
    METRICS.add("words written", Words)
    try:
        assert cli.main(["evaluate", str(run)]) == 0
        assert [m.metric for m in read_comparison(run).measures][-1] == "words written"
        assert "How many words an answer has." in (run / "report.html").read_text()
    finally:
        METRICS.remove("words written")


def test_a_registered_metric_of_speech_is_measured_there() -> None:
    from mmtune.speech.evaluation.items import Item
    from mmtune.speech.evaluation.measures import measures
    from mmtune.speech.speech_options import SpeechOptions
    from mmtune.speech.speech_row import SpeechRow

    def item(name: str) -> Item:
        row = SpeechRow(id=name, audio="a.wav", text="one two")
        heard = {m: Prediction(name, "one two three") for m in ("base", "adapter")}
        return Item(row, heard, name, frozenset(), "test")

    items = [item("a"), item("b")]
    before = list(measures(items, set(), set(), SpeechOptions()))
    added = type("Spoken", (Words,), {"modalities": ("speech",)})
    METRICS.add("words written", added)
    try:
        after = list(measures(items, set(), set(), SpeechOptions()))
    finally:
        METRICS.remove("words written")
    assert after[:-1] == before
    assert (after[-1].metric, after[-1].adapter.value) == ("words written", 3.0)


def test_a_registered_metric_of_images_is_measured_there() -> None:
    from PIL import Image

    from mmtune.image.evaluation.compared_images import ComparedImages
    from mmtune.image.evaluation.measures import added_measures
    from mmtune.image.image_row import ImageRow

    class Width(Words):
        name = "width"
        modalities = ("image",)

        def observe(self, row: Row, prediction: Prediction) -> Stat:
            return np.array([float(prediction.value.width)])

    rows = [ImageRow(id=name, image="-", caption=name) for name in "ab"]
    small, large = Image.new("RGB", (2, 2)), Image.new("RGB", (5, 5))
    drawn = ComparedImages(rows, 1, [small] * 2, [large] * 2, [small] * 2, [small])
    assert list(added_measures(drawn)) == []
    METRICS.add("width", Width)
    try:
        [found] = added_measures(drawn)
    finally:
        METRICS.remove("width")
    assert (found.metric, found.difference.value, found.items) == ("width", 3.0, 2)


def test_a_metric_without_a_meaning_is_refused_and_costs_no_other() -> None:
    METRICS.add("silent", type("Silent", (Words,), {"name": "silent", "meaning": ""}))
    try:
        with pytest.raises(ConfigError, match=r"'silent' .* has no meaning"):
            make_metric("silent")
        with pytest.warns(RuntimeWarning, match="has no meaning"):
            assert list(added_metrics("text")) == []
    finally:
        METRICS.remove("silent")


def test_the_plugin_stays_out_of_the_product() -> None:
    import tomllib

    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    assert project["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"] == ["mmtune"]
    assert list(MODALITIES.built_in) == ["speech", "image"]
    lines = sum(len(path.read_text().splitlines()) for path in PLUGIN.rglob("*.py"))
    assert lines < 250
