"""An export scores as what was evaluated does, in its own engine; a damaged one doesn't pass."""

from __future__ import annotations

import importlib.util
import json
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from mmtune import cli
from mmtune.adapters.card import Card
from mmtune.adapters.exported import Exported
from mmtune.errors import ConfigError, DataError, MissingExtra
from mmtune.runs.adapters import export as export_adapter
from mmtune.speech.export import parity
from mmtune.speech.export.engines import Clip, FasterWhisper, Reference, Transformers, WhisperCpp
from mmtune.speech.export.fold import merge
from mmtune.speech.export.material import Material, synthetic
from mmtune.speech.export.to_ctranslate2 import write_ctranslate2
from mmtune.speech.export.to_ggml import MODEL_FILE, write_ggml
from mmtune.speech.export.to_transformers import write_transformers
from mmtune.speech.speech_row import SpeechRow
from mmtune.speech.transcription.predictor import SpeechPredictor
from mmtune.speech.whisper.base import WhisperBase, load_base
from tests.speech.real import ESPEAK, TINY, needs
from tests.speech.transcription.test_transcribe import make_adapter

pytestmark = needs(TINY, ESPEAK)
WEAK = 0.02  # changes logits, and some words
WRONG = 25.0  # a scale at which that garbles everything


@pytest.fixture(scope="module")
def adapter(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = make_adapter(tmp_path_factory.mktemp("adapter"), scale=WEAK)
    Card(
        name="words",
        recipe="terminology",
        modality="speech",
        base=TINY,
        base_hash=load_base(TINY).fingerprint,
        dataset="d" * 64,
        rows={"train": 4},
        settings={},
    ).write(folder)
    return folder


@pytest.fixture(scope="module")
def material(tmp_path_factory: pytest.TempPathFactory) -> Material:
    found = synthetic(tmp_path_factory.mktemp("sentences"))
    assert found is not None
    # Without the second: there two words are 0.02 apart in logits, which is no engine's fault.
    return Material((found.rows[0], *found.rows[3:5]), found.source)


class Remembering(Reference):
    """Hears each clip once, for all tests."""

    def __init__(self, base: WhisperBase, adapter: Path, scale: float) -> None:
        super().__init__(base, adapter, scale)
        self.heard: dict[bytes, str] = {}

    def same(self, clips: Sequence[Clip]) -> list[str]:
        new = [clip for clip in clips if clip.samples.tobytes() not in self.heard]
        texts = super().same(new)
        self.heard |= {clip.samples.tobytes(): text for clip, text in zip(new, texts, strict=True)}
        return [self.heard[clip.samples.tobytes()] for clip in clips]

    def own(self, clips: Sequence[Clip]) -> list[str]:
        return [""] * len(clips)


@pytest.fixture(scope="module")
def reference(adapter: Path) -> Reference:
    return Remembering(load_base(TINY), adapter, 1.0)


@pytest.fixture(scope="module")
def merged(adapter: Path) -> WhisperBase:
    return merge(TINY, adapter)


@pytest.fixture(scope="module")
def folder(merged: WhisperBase, tmp_path_factory: pytest.TempPathFactory) -> Path:
    to = tmp_path_factory.mktemp("merged") / "model"
    write_transformers(merged, to)
    return to


def few(material: Material) -> Material:
    return Material(material.rows[:1], material.source)


class Quick:
    """An engine that isn't asked twice: what it does by itself is only information."""

    def __init__(self, engine: Transformers | FasterWhisper | WhisperCpp | Reference) -> None:
        self.engine, self.name = engine, engine.name

    def same(self, clips: Sequence[Clip]) -> list[str]:
        return self.engine.same(clips)

    def own(self, clips: Sequence[Clip]) -> list[str]:
        return [""] * len(clips)


def judged(
    material: Material,
    reference: Reference,
    engine: Transformers | FasterWhisper | WhisperCpp,
    precision: str = "fp32",
) -> parity.Parity:
    return parity.compare(material.rows, material.source, reference, Quick(engine), precision)


def test_the_reference_is_the_predictor_that_evaluates(
    material: Material, reference: Reference
) -> None:
    from mmtune.predict import Request
    from mmtune.speech.transcription.predictor import LOADED_ADAPTER

    predictor: SpeechPredictor = reference.predictor
    rows = few(material).rows
    asked = [Request(row, {LOADED_ADAPTER: 1.0}) for row in rows]
    heard = [str(each.value) for each in predictor.predict(asked)]
    assert reference.same(reference.clips(rows)) == heard
    assert all(heard)


def test_transformers_passes_and_a_wrong_scale_does_not(
    material: Material, reference: Reference, folder: Path, adapter: Path, tmp_path: Path
) -> None:
    found = judged(material, reference, Transformers(folder))
    assert found.passed, found.faults
    assert (found.clips, found.identical_raw, found.difference) == (3, 1.0, 0.0)
    write_transformers(merge(TINY, adapter, WRONG), tmp_path)
    found = judged(few(material), reference, Transformers(tmp_path))
    assert not found.passed
    assert any("points apart" in fault for fault in found.faults)
    assert found.differing[0]["mmtune"] != found.differing[0]["export"]


def test_faster_whisper_hears_the_same(
    material: Material, reference: Reference, merged: WhisperBase, folder: Path, tmp_path: Path
) -> None:
    pytest.importorskip("faster_whisper")
    write_ctranslate2(folder, merged, tmp_path / "float")
    found = judged(material, reference, FasterWhisper(tmp_path / "float", "fp32"))
    assert found.passed, found.faults
    assert found.identical_raw == 1.0


@pytest.mark.slow
def test_whisper_cpp_hears_the_same_and_a_permuted_tensor_fails(
    material: Material, reference: Reference, merged: WhisperBase, tmp_path: Path
) -> None:
    pytest.importorskip("pywhispercpp")
    write_ggml(merged, tmp_path / MODEL_FILE)
    found = judged(material, reference, WhisperCpp(tmp_path, True), "fp16")
    assert found.passed, found.faults
    assert found.identical == 1.0
    # Query and value of two layers of the encoder change places: same shape, same size.
    data = (tmp_path / MODEL_FILE).read_bytes()
    for layer in (1, 2):
        query, value, between = (
            f"encoder.blocks.{layer}.attn.{name}.weight".encode()
            for name in ("query", "value", "other")
        )
        assert data.count(query) == data.count(value) == 1
        data = data.replace(query, between).replace(value, query).replace(between, value)
    (tmp_path / MODEL_FILE).write_bytes(data)
    found = judged(material, reference, WhisperCpp(tmp_path, True), "fp16")
    assert not found.passed


def test_an_engine_that_dies_fails_the_export_and_not_the_command(
    material: Material, reference: Reference, merged: WhisperBase, tmp_path: Path
) -> None:
    pytest.importorskip("pywhispercpp")
    write_ggml(merged, tmp_path / MODEL_FILE)
    data = (tmp_path / MODEL_FILE).read_bytes()
    (tmp_path / MODEL_FILE).write_bytes(data[: len(data) // 2])
    found = judged(material, reference, WhisperCpp(tmp_path, True), "fp16")
    assert not found.passed
    assert "can't be run: whisper.cpp ended with" in found.faults[0]
    assert found.exported.same is None


def test_limits_of_the_verdict() -> None:
    def faults(wanted: float, found: float, same: float, precision: str) -> list[str]:
        return parity._faults(wanted, found, parity.LIMITS[precision].points, same, precision)

    assert faults(10.0, 10.2, 0.97, "fp32") == []
    assert len(faults(10.0, 10.21, 0.96, "fp32")) == 2
    assert len(faults(10.0, 9.7, 1.0, "fp32")) == 1  # better is another model, too
    assert faults(10.0, 10.5, 0.2, "int8") == []
    assert len(faults(10.0, 10.51, 1.0, "int8")) == 1


def test_rows_without_words_judge_nothing(material: Material, reference: Reference) -> None:
    silent = [row.model_copy(update={"text": "", "nonspeech": True}) for row in material.rows[:1]]
    with pytest.raises(DataError, match="no row has words"):
        parity.compare(silent, "x", reference, ValueError("not asked"), "fp32")


def export(adapter: Path, out: Path, *more: str) -> int:
    return cli.main(["export", str(adapter), "--out", str(out), *more])


@pytest.mark.slow
def test_the_command_writes_checks_and_tells(
    adapter: Path,
    material: Material,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    data = tmp_path / "data"
    data.mkdir()
    lines = []
    for row in few(material).rows:
        assert isinstance(row, SpeechRow)
        shutil.copy(row.path, data)
        lines.append(json.dumps({"audio": row.path.name, "text": row.text}))
    (data / "manifest.jsonl").write_text("\n".join(lines) + "\n")
    out = tmp_path / "model"
    flags = ("--format", "transformers", "--check", str(data / "manifest.jsonl"))
    assert export(adapter, out, *flags) == 0
    printed = capsys.readouterr().out
    assert "WER %, same options" in printed
    assert "checked: clips 1" in printed
    assert "words are few" in printed
    facts = json.loads((out / parity.PARITY_FILE).read_text())
    assert facts["passed"] is True
    assert facts["scale"] == 1.0
    assert facts["reference"]["own"] is not None

    # Planted: the weights are written at another strength than the one that is claimed.
    import mmtune.speech.export.fold as merging

    whole = merging.merge
    monkeypatch.setattr(merging, "merge", lambda b, a, s: whole(b, a, WRONG * s))
    out = tmp_path / "wrong"
    assert export(adapter, out, *flags) == 1
    told = capsys.readouterr()
    assert "failed: WER" in told.err
    assert "proved" not in told.out
    assert not out.exists()
    facts = json.loads((tmp_path / "wrong.failed" / parity.PARITY_FILE).read_text())
    assert facts["passed"] is False
    assert facts["faults"]
    assert not list(tmp_path.glob(".wrong*"))
    assert "rounds the weights" not in told.out
    assert export(adapter, out, *flags, "--precision", "bf16") == 1
    assert "bf16 rounds the weights, and 100% of the clips" in capsys.readouterr().out


def test_without_an_engine_nothing_is_called_proved(
    adapter: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util,
        "find_spec",
        lambda name, *a: None if name in {"pywhispercpp", "ctranslate2"} else found(name, *a),
    )
    done: Exported = export_adapter(adapter, "ggml", tmp_path / "cpp")
    assert not done.proof
    assert any("NOT CHECKED" in note and "mmtune[export]" in note for note in done.notes)
    assert json.loads((tmp_path / "cpp" / parity.PARITY_FILE).read_text())["passed"] is None
    with pytest.raises(MissingExtra, match=r"mmtune\[export\]"):
        export_adapter(adapter, "ctranslate2", tmp_path / "ct2")
    with pytest.raises(MissingExtra, match=r"mmtune\[export\]"):
        export_adapter(adapter, "ggml", tmp_path / "b", check=adapter)


@pytest.mark.parametrize(
    ("flags", "told"),
    [
        (("--format", "onnx"), "formats: transformers"),
        (("--format", "kohya"), "speech adapters have no export format 'kohya'"),
        (("--format", "ggml", "--precision", "fp32"), "--precision fp16"),
        (("--format", "transformers", "--precision", "int8"), "fp32, fp16, bf16"),
        (("--format", "ggml", "--check", "nowhere.jsonl"), "no such file"),
        (("--format", "ggml", "--scale", "0"), "leaves nothing of the adapter"),
    ],
)
def test_errors_tell_the_cure(
    adapter: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    flags: tuple[str, ...],
    told: str,
) -> None:
    assert export(adapter, tmp_path / "out", *flags) == 2
    assert told in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_a_folder_is_not_given_a_files_name(adapter: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="is a folder"):
        export_adapter(adapter, "ggml", tmp_path / "model.bin")


def test_an_image_adapter_has_no_speech_formats(adapter: Path, tmp_path: Path) -> None:
    other = tmp_path / "image"
    shutil.copytree(adapter, other)
    card = json.loads((other / "card.json").read_text()) | {"modality": "image"}
    (other / "card.json").write_text(json.dumps(card))
    with pytest.raises(ConfigError, match="image adapters have no export format 'ggml'"):
        export_adapter(other, "ggml", tmp_path / "out")


def test_the_package_that_whisper_cpps_process_imports_is_light() -> None:
    import subprocess

    code = "import sys, mmtune.speech.export.whisper_cpp; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


@pytest.mark.slow
def test_half_precision_and_int8_can_be_heard(
    reference: Reference, merged: WhisperBase, folder: Path, tmp_path: Path
) -> None:
    pytest.importorskip("faster_whisper")
    found = synthetic(tmp_path)
    assert found is not None
    write_transformers(merged, tmp_path / "half", "fp16")
    half = judged(found, reference, Transformers(tmp_path / "half"), "fp16")
    assert half.passed, half.faults
    for precision in ("int8", "fp16"):
        write_ctranslate2(folder, merged, tmp_path / precision, precision)
        other = judged(found, reference, FasterWhisper(tmp_path / precision, precision), precision)
        assert other.exported.same is not None
        assert abs(other.exported.same - (other.reference.same or 0)) < 15  # it still hears
