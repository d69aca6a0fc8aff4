"""The comparison of base, adapter and control, on real weights and synthetic speech."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Literal

import pytest

from mmtune.config import LoraOptions, RunConfig, TrainOptions
from mmtune.data.check import check
from mmtune.data.dataset import Dataset
from mmtune.evaluation.comparison import Comparison
from mmtune.evaluation.suite import load_suite
from mmtune.evaluation.verdict import judge
from mmtune.metrics.bootstrap import Interval
from mmtune.metrics.measure import Measure
from mmtune.metrics.text.wer import WordErrors
from mmtune.predict import Prediction
from mmtune.runs.modalities import find_modality
from mmtune.speech.corpus.retention import retention_rows
from mmtune.speech.corpus.synthesize import make_plan, synthesize
from mmtune.speech.corpus.term_list import Term
from mmtune.speech.evaluation.compare import _models, compare, headline
from mmtune.speech.evaluation.term_slices import divide_terms
from mmtune.speech.speech_options import SpeechOptions
from mmtune.speech.speech_row import SpeechRow
from mmtune.system.precision import DTYPES
from tests.speech.everyday import everyday_speech
from tests.speech.real import ESPEAK, TINY, needs

needs_speech = needs(TINY, ESPEAK)
TERMS = (Term("metoprolol", "metoprolol"), Term("apixaban", "apixaban", seen=False))


def make_adapter(folder: Path, seed: int, by: float = 0.5) -> Path:
    """An adapter that was moved off its zero start at random: far enough, it garbles."""
    import torch

    from mmtune.speech.whisper.base import load_base
    from mmtune.speech.whisper.decoder_lora import attach

    model = attach(load_base(TINY), LoraOptions(rank=2, alpha=2), seed)
    generator = torch.Generator().manual_seed(seed)
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            parameter.data.copy_(torch.randn(parameter.shape, generator=generator) * by)
    model.save_pretrained(str(folder), save_embedding_layers=False)
    return folder


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    return terms_dataset(tmp_path_factory.mktemp("terms"))


def terms_dataset(folder: Path, test_sentences: int = 2) -> Dataset:
    plan = make_plan(TERMS, SpeechOptions(utterances=1), test_sentences)
    manifest = synthesize([u for u in plan if u.voice.name.startswith("espeak")], folder, "en")
    return check(manifest, find_modality("speech"))


@pytest.fixture(scope="module")
def compared(dataset: Dataset, tmp_path_factory: pytest.TempPathFactory) -> tuple[Comparison, Path]:
    folder = tmp_path_factory.mktemp("run")
    make_adapter(folder / "adapter", 1)
    options = SpeechOptions(
        score_windows="trimmed",
        control=make_adapter(folder / "control", 2),
        retention=dataset.source,
        probes=2,
    )
    # Adapters of random weights never stop by themselves.
    return compare(config(options), dataset, folder, max_ids=20), folder


def config(options: SpeechOptions) -> RunConfig:
    # In bf16 even a change that is hardly one shows in the confidences.
    exact = TrainOptions(precision="fp32")
    return RunConfig(
        recipe="terminology", modality="speech", name="t", base=TINY, train=exact, task=options
    )


@needs_speech
def test_every_measure_of_the_recipe_is_there(
    compared: tuple[Comparison, Path], dataset: Dataset
) -> None:
    comparison, _ = compared
    found = {(m.metric, m.slice): m for m in comparison.measures}
    test = dataset.split("test")
    for key, count in {
        ("term recall", "seen terms"): sum("metoprolol" in row.reference for row in test),
        ("term recall", "unseen terms"): sum("apixaban" in row.reference for row in test),
        ("WER", "test"): len(test),
        ("CER", "test"): len(test),
        ("false insertions", "test"): len(test),
        ("WER", "general speech"): len(dataset.rows) - len(dataset.rows) // 4,
        ("false insertions", "general speech"): len(dataset.rows) - len(dataset.rows) // 4,
        ("WER", "test with times"): 2,
        ("WER", "general speech with times"): 2,
        ("WER", "test, padded windows"): 2,
        ("hallucinated words/min", "non-speech"): 2,
    }.items():
        assert found[key].items == count > 0
    for measure in found.values():
        assert measure.control is not None
        assert "beyond the control: " in measure.note
        assert measure.difference.value == pytest.approx(measure.adapter.value - measure.base.value)
        assert measure.difference.low <= measure.difference.value <= measure.difference.high


@needs_speech
def test_the_figures_are_those_of_the_transcripts(compared: tuple[Comparison, Path]) -> None:
    import jiwer

    from mmtune.metrics.text.normalize import normalize

    comparison, folder = compared
    lines = [json.loads(x) for x in (folder / "predictions.jsonl").read_text("utf-8").splitlines()]
    test = [line for line in lines if line["slice"] == "test"]
    measure = next(m for m in comparison.measures if (m.metric, m.slice) == ("WER", "test"))
    for model, interval in (
        ("base", measure.base), ("adapter", measure.adapter), ("control", measure.control),
    ):  # fmt: skip
        expected = jiwer.wer(
            [normalize(line["reference"]) for line in test],
            [normalize(line[model]) for line in test],
        )
        assert interval is not None
        assert interval.value == pytest.approx(expected)
    assert len({(line["base"], line["adapter"], line["control"]) for line in test}) > 1
    assert any(line["base"] != line["adapter"] != line["control"] for line in test)


@needs_speech
def test_examples_and_json(compared: tuple[Comparison, Path]) -> None:
    comparison, _ = compared
    kinds = {example["kind"] for example in comparison.examples}
    assert {f"{kind}, as they come" for kind in ("seen term", "unseen term", "general speech")} <= (
        kinds
    )
    assert all(Path(example["row"]["audio"]).is_file() for example in comparison.examples)
    assert set(comparison.examples[0]) == {
        "kind", "row", "made", "reference", "base", "adapter", "control",
    }  # fmt: skip
    metric = WordErrors("en")
    lost = [e for e in comparison.examples if e["kind"] == "most lost"]
    assert lost, "a garbler loses somewhere"
    for example in lost:
        row = SpeechRow(id="x", audio="x", text=example["reference"])
        base, adapter = (
            metric.observe(row, Prediction("x", example[name]))[:3].sum()
            for name in ("base", "adapter")
        )
        assert adapter > base
    for example in comparison.examples:
        nobody = "synthesizer" in example["row"].get("group", {})
        assert example["made"] == ([*example][:-1] if nobody else [])
    back = Comparison.from_json(json.loads(json.dumps(comparison.to_json())))
    assert back.headline == comparison.headline
    assert len(back.measures) == len(comparison.measures)


@needs_speech
def test_a_garbler_is_not_shipped(compared: tuple[Comparison, Path]) -> None:
    comparison, _ = compared
    suite = load_suite("terminology", "speech")
    lenient = suite.model_copy(
        update={"gates": tuple(g.model_copy(update={"min_items": 1}) for g in suite.gates)}
    )
    verdict = judge(lenient, comparison)
    assert verdict.decision == "keep the base"
    assert verdict.exit_code == 1
    failed = {gate.name for gate in verdict.gates if gate.status == "failed"}
    assert {"sentences", "general speech"} <= failed


@needs_speech
def test_transcripts_are_not_asked_for_twice(
    compared: tuple[Comparison, Path], dataset: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    comparison, folder = compared

    def opened(*_: object, **__: object) -> None:
        raise AssertionError("the model was loaded")

    monkeypatch.setattr("mmtune.speech.evaluation.compare.SpeechPredictor", opened)
    options = SpeechOptions(
        score_windows="trimmed", control=folder / "control", retention=dataset.source, probes=2
    )
    again = compare(config(options), dataset, folder, max_ids=20)
    assert again.to_json() == comparison.to_json()


@needs_speech
def test_speed_is_told_and_not_compared(compared: tuple[Comparison, Path]) -> None:
    comparison, folder = compared
    assert set(comparison.speed) == {"base", "adapter", "control"}
    assert all(speed > 0 for speed in comparison.speed.values())
    lines = (folder / "answers.jsonl").read_text("utf-8").splitlines()
    assert all(json.loads(line)["seconds"] > 0 for line in lines)
    assert comparison == replace(comparison, speed={})
    assert comparison != replace(comparison, headline="")
    assert Prediction("r", "text", {}, 1.0) == Prediction("r", "text", {}, 2.0)
    assert comparison.calibration["base"]


@needs_speech
def test_seen_is_what_was_trained(dataset: Dataset, tmp_path: Path) -> None:
    assert divide_terms(SpeechOptions(), dataset) == ({"metoprolol"}, {"apixaban"})
    path = tmp_path / "terms.txt"
    path.write_text("apixaban\nwarfarin\n", encoding="utf-8")  # marked as seen, never trained
    seen, unseen = divide_terms(SpeechOptions(terms=path), dataset)
    assert seen == {"metoprolol"}
    assert unseen == {"apixaban", "warfarin"}


@needs_speech
def test_without_test_rows_nothing_is_claimed(tmp_path: Path) -> None:
    plan = list(make_plan(TERMS, SpeechOptions(utterances=1, ordinary=True)))
    control = check(synthesize(plan, tmp_path, "en"), find_modality("speech"))
    comparison = compare(config(SpeechOptions(ordinary=True)), control, tmp_path)
    assert comparison.measures == []
    assert "no test rows" in comparison.headline


@needs_speech
def test_retention_rows_are_the_same_ones(dataset: Dataset) -> None:
    assert retention_rows(SpeechOptions()) == []
    options = SpeechOptions(retention=dataset.source)
    assert [r.id for r in retention_rows(options)] == [r.id for r in retention_rows(options)]


def test_the_headline_says_what_was_not_measured() -> None:
    def measure(metric: str, name: str, base: float, adapter: float) -> Measure:
        gap = Interval(adapter - base, adapter - base - 0.1, adapter - base + 0.1)
        return Measure(
            metric, name, 4, Interval(base, 0, 1), Interval(adapter, 0, 1), gap, True,
            control=Interval(0.1, 0, 1) if metric == "term recall" else None,
        )  # fmt: skip

    line = headline("terminology", [
        measure("term recall", "seen terms", 0.02, 0.84),
        measure("WER", "test", 0.5, 0.125),
    ])  # fmt: skip
    assert line == (
        "speech   terminology   term recall 0.020 → 0.840 (control 0.100), +0.820 [+0.720, +0.920]"
        "   WER 0.500 → 0.125, -0.375 [-0.475, -0.275]   general speech not measured"
    )


@needs_speech
def test_each_other_language_has_its_rows_and_its_figure(tmp_path: Path) -> None:
    from mmtune.speech.evaluation.compare import _general_kind

    german = everyday_speech("de")
    assert len(german) == 30
    manifest = synthesize(german[:3], tmp_path, "de")
    english = [u for u in make_plan(TERMS, SpeechOptions(utterances=1)) if u.channel == "clean"][:2]
    synthesize(english, tmp_path / "en", "en")
    for line in (tmp_path / "en" / "manifest.jsonl").read_text("utf-8").splitlines():
        row = json.loads(line)
        with manifest.open("a", encoding="utf-8") as file:
            file.write(json.dumps(row | {"audio": f"en/{row['audio']}"}) + "\n")
    options = SpeechOptions(retention=manifest)
    rows = retention_rows(options)
    kinds = [_general_kind(row, options) for row in rows]
    assert kinds.count("general speech, de") == 3
    assert kinds.count("general speech") == len(english)
    assert retention_rows(options, "validation") == []


@pytest.mark.slow
@needs_speech
def test_with_everything_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from mmtune.pages.report import write_report

    make_adapter(tmp_path / "adapter", 1, by=1e-5)  # it hears as the base does
    # Enough test sentences for a recording that is longer than one window.
    dataset = terms_dataset(tmp_path / "data", test_sentences=10)
    terms = tmp_path / "terms.txt"
    terms.write_text("metoprolol | metoprolole\n[unseen]\napixaban\n", encoding="utf-8")
    options = SpeechOptions(
        terms=terms,
        score_windows="trimmed",
        probes=0,
        robustness=1,
        long_form=1,
        beside=("prompt", "retrieval", "adapter + prompt", "adapter + retrieval"),
    )
    comparison = compare(config(options), dataset, tmp_path)
    found = {(m.metric, m.slice): m for m in comparison.measures}
    for key in (
        ("WER", "degraded"),
        ("WER", "degraded: telephone"),
        ("WER", "long form"),
        ("WER", "long form, in parts"),
        ("start error, median s", "long form"),
        ("WER, strict", "test"),
        ("term recall, strict", "unseen terms"),
        ("calibration error", "test"),
    ):
        assert found[key].difference.value == pytest.approx(0, abs=1e-3)
    references = found["term recall", "unseen terms"].references
    assert set(references) == {
        "base + prompt", "base + retrieval", "adapter + prompt", "adapter + retrieval",
    }  # fmt: skip
    assert references["base + prompt"] == references["adapter + prompt"]
    assert set(comparison.speed) == {"base", "adapter", *references}
    assert comparison.tables[0].rows == [["metoprolol", "metoprolole"]]
    suite = load_suite("terminology", "speech")
    gates = {gate.name for gate in judge(suite, comparison).gates}
    assert {
        "degraded recordings",
        "each degradation: degraded: clipping",
        "long recordings",
    } <= gates
    write_report(tmp_path / "report.html", [comparison])
    html = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "adapter + retrieval" in html
    assert "real time" in html
    monkeypatch.setattr(
        "mmtune.speech.evaluation.compare.SpeechPredictor", None
    )  # no model is loaded again
    assert compare(config(options), dataset, tmp_path).to_json() == comparison.to_json()


@needs_speech
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_the_comparison_hears_in_the_precision_of_training(
    tmp_path: Path, precision: Literal["fp32", "bf16"]
) -> None:
    make_adapter(tmp_path / "adapter", 1)
    settings = config(SpeechOptions())
    settings = settings.model_copy(update={"train": TrainOptions(precision=precision)})
    asked, _ = _models(settings, SpeechOptions(), tmp_path, ())
    other, _ = _models(config(SpeechOptions()), SpeechOptions(), tmp_path, ())
    assert asked.predictor.base.model.dtype == DTYPES[precision]
    assert (asked.fingerprint == other.fingerprint) == (precision == "fp32")
