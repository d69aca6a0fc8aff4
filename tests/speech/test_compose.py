"""Merged and gated adapters of Whisper: exact where they say so, refused where they can't be."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from mmtune.adapters.card import Card, read_card
from mmtune.adapters.compose import MAX_DISTANCE
from mmtune.adapters.members import Mixing
from mmtune.adapters.routing import RoutedPredictor, read_route, write_route
from mmtune.cli import main
from mmtune.config import LoraOptions
from mmtune.errors import AdapterError, ConfigError
from mmtune.predict import Prediction, Request
from mmtune.runs.adapters import compose, open_predictor
from mmtune.speech.speech_row import SpeechRow
from mmtune.speech.transcription.predictor import SpeechPredictor
from mmtune.speech.whisper.base import load_base
from mmtune.speech.whisper.decode import DecodeOptions
from mmtune.speech.whisper.decoder_lora import attach, load_adapters
from tests.speech.real import TINY, loaded, needs, real_rows

WEIGHTS = "adapter_model.safetensors"


def make(
    folder: Path,
    seed: int,
    targets: tuple[str, ...] = ("fc1", "q_proj"),
    cut: int | None = None,
    size: float = 0.1,
    **lora: Any,
) -> Path:
    """An adapter at random with its card.

    Args:
        cut: of the encoder it adapts the layers from this one on.
        size: deviation of B.
    """
    whisper = load_base(TINY)
    options = LoraOptions(**{"rank": 2, "alpha": 3, "targets": targets} | lora)
    model = attach(whisper, options, seed, cut)
    generator = torch.Generator().manual_seed(seed)
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            parameter.data.copy_(torch.randn(parameter.shape, generator=generator) * size)
    model.save_pretrained(str(folder), save_embedding_layers=False)
    Card(
        name=folder.name,
        recipe="dialect",
        modality="speech",
        base=TINY,
        base_hash=whisper.fingerprint,
        dataset=str(seed) * 64,
        rows={"train": 5},
        settings={},
    ).write(folder)
    return folder


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("adapters")
    return {
        "a": make(root / "a", 1),
        "b": make(root / "b", 2),
        "other": make(root / "other", 3, ("fc1", "v_proj"), rank=3, rslora=True),
        "dora": make(root / "dora", 4, dora=True),
    }


@needs(TINY)
def test_cat_is_the_weighted_sum_and_peft_reads_it(
    folders: dict[str, Path], tmp_path: Path
) -> None:
    from peft import PeftModel
    from transformers import WhisperForConditionalGeneration

    # Other ranks, other modules, another scaling, and one part taken away.
    weights = {folders["a"]: 0.7, folders["other"]: -0.4}
    done = compose(weights, Mixing("cat"), tmp_path / "both")
    assert done.distance < MAX_DISTANCE
    card = read_card(done.path)
    assert [p["weight"] for p in card.parents] == [0.7, -0.4]
    assert [p["name"] for p in card.parents] == ["a", "other"]
    assert all(len(p["hash"]) == 64 for p in card.parents)
    assert "weight 0.7" in (done.path / "README.md").read_text()

    together = load_adapters(load_base(TINY), {"a": folders["a"], "other": folders["other"]})
    with together.on({"a": 0.7, "other": -0.4}):
        wanted = together._answer()
    merged = load_adapters(load_base(TINY), {"m": done.path})
    with merged.on({"m": 1.0}):
        torch.testing.assert_close(merged._answer(), wanted, rtol=1e-4, atol=1e-3)
        got = merged._answer()
    # By PEFT alone, without mmtune.
    base = load_base(TINY)
    assert isinstance(base.model, WhisperForConditionalGeneration)
    plain = PeftModel.from_pretrained(base.model, str(done.path)).eval()
    hidden = torch.zeros(1, 1500, 384)
    ids = torch.tensor([[50257, 1, 2]])
    with torch.no_grad(), merged.on({"m": 1.0}):
        mine = merged.base.model(encoder_outputs=(hidden,), decoder_input_ids=ids).logits
        theirs = plain(encoder_outputs=(hidden,), decoder_input_ids=ids).logits
    torch.testing.assert_close(mine, theirs)
    assert got.shape == wanted.shape


@pytest.mark.slow
@needs(TINY)
def test_methods_say_how_far_they_are(folders: dict[str, Path], tmp_path: Path) -> None:
    pair = {folders["a"]: 1.0, folders["b"]: 0.5}
    full = compose(pair, Mixing("svd", rank=4), tmp_path / "svd4")
    cut = compose(pair, Mixing("svd"), tmp_path / "svd2")
    assert full.distance < 1e-4 < 0.05 < cut.distance < 1
    # PEFT's linear adds factors: it is no sum of updates, and says so.
    linear = compose(pair, Mixing("linear"), tmp_path / "linear")
    assert linear.distance > 0.1
    assert read_card(linear.path).settings["compose"]["distance"] == linear.distance
    a, b = (load_file(folders[name] / WEIGHTS) for name in "ab")
    found = load_file(linear.path / WEIGHTS)
    key = next(key for key in found if "lora_B" in key)
    scale = 3 / 2  # alpha / rank
    wanted = a[key] * scale**0.5 + b[key] * (0.5 * scale) ** 0.5
    torch.testing.assert_close(found[key], wanted)

    dare = [
        compose(pair, Mixing("dare_linear", 0.5, seed=seed), tmp_path / f"dare{i}").path
        for i, seed in enumerate((0, 0, 1))
    ]
    once, again, other = (load_file(path / WEIGHTS)[key] for path in dare)
    assert torch.equal(once, again)
    assert not torch.equal(once, other)
    assert 0.2 < float((once == 0).float().mean()) < 0.3  # both dropped: 0.5 x 0.5


@needs(TINY)
def test_what_cannot_be_merged_is_told(folders: dict[str, Path], tmp_path: Path) -> None:
    a, b, out = folders["a"], folders["b"], tmp_path / "out"
    for parts, mixing, error, found in (
        ({a: 1.0, folders["other"]: 1.0}, Mixing("linear"), AdapterError, "equal ranks"),
        ({a: 1.0, folders["dora"]: 1.0}, Mixing("cat"), AdapterError, "uses DoRA"),
        ({a: 1.0}, Mixing(), ConfigError, "two adapters or more"),
        ({a: 1.0, b: 0.0}, Mixing(), ConfigError, "leaves nothing"),
        ({a: 1.0, a / ".." / "a": 1.0}, Mixing(), ConfigError, "given twice"),
        ({a: 1.0, b: 1.0}, Mixing("liner"), ConfigError, "no such way to merge"),
        ({a: 1.0, b: 1.0}, Mixing("ties", 0.0), ConfigError, "--density 0"),
        ({a: 1.0, b: 1.0}, Mixing("cat", rank=3), ConfigError, "--rank"),
    ):
        with pytest.raises(error, match=found) as caught:
            compose(parts, mixing, out)
        assert "cure:" in str(caught.value)
        assert list(tmp_path.iterdir()) == []
    twin = make(tmp_path / "twin", 1)
    with pytest.raises(AdapterError, match="has no effect"):
        compose({a: 1.0, twin: -1.0}, Mixing("linear"), out)


@needs(TINY)
def test_other_bases_and_modalities_are_refused(folders: dict[str, Path], tmp_path: Path) -> None:
    import shutil

    for key, value, found in (
        ("base_hash", "f" * 64, "ffffffffffff"),
        ("modality", "image", "an adapter for image"),
    ):
        odd = tmp_path / key
        shutil.copytree(folders["b"], odd)
        card = json.loads((odd / "card.json").read_text()) | {key: value}
        (odd / "card.json").write_text(json.dumps(card))
        with pytest.raises(AdapterError, match=found):
            compose({folders["a"]: 1.0, odd: 1.0}, Mixing(), tmp_path / "out")


@needs(TINY)
def test_a_gate_follows_the_labels(folders: dict[str, Path], tmp_path: Path) -> None:
    source = tmp_path / "gate.yaml"
    source.write_text(
        f"by: accent\nlabels:\n  north: {folders['a']}\n"
        f"  south: {{{folders['a']}: 0.5, {folders['b']}: 1}}\n  east: none\n"
    )
    done = write_route(source, tmp_path / "gated")
    assert done.route.labels == {"north": {"a": 1.0}, "south": {"a": 0.5, "b": 1.0}, "east": {}}
    gate, adapters = read_route(done.path)
    assert gate == done.route
    rows = [
        row.model_copy(update={"group": {"accent": accent} if accent else {}})
        for row, accent in zip(real_rows(5), ("north", "south", "east", "west", ""), strict=True)
    ]
    short = DecodeOptions(max_new_tokens=12)
    predictor = SpeechPredictor(load_base(TINY), adapters, windows="trimmed", options=short)
    gated = RoutedPredictor(predictor, gate)
    found = gated.predict([Request(row) for row in rows])
    sets: list[dict[str, float]] = [{"a": 1.0}, {"a": 0.5, "b": 1.0}, {}, {}, {}]
    direct = predictor.predict([Request(r, w) for r, w in zip(rows, sets, strict=True)])
    assert found == direct
    untouched = SpeechPredictor(loaded(TINY), {}, windows="trimmed", options=short)
    base = untouched.predict([Request(row) for row in rows])
    assert found[2:] == base[2:]
    answers = []  # random adapters may hear the same words; what they compute differs
    for weights in sets[:3]:
        with predictor.adapters.on(weights):
            answers.append(predictor.adapters._answer())
    assert not torch.equal(answers[0], answers[2])
    assert not torch.equal(answers[1], answers[2])
    assert gated.fingerprint != predictor.fingerprint


@needs(TINY)
def test_off_by_the_gate_is_the_base_bit_by_bit(folders: dict[str, Path], tmp_path: Path) -> None:
    source = tmp_path / "gate.json"
    source.write_text(
        json.dumps({"by": "language", "labels": {"en": str(folders["a"]), "de": "none"}})
    )
    opened = open_predictor(write_route(source, tmp_path / "gated").path)
    row = SpeechRow(id="x", audio="x.wav", text="hallo", language="de")
    assert opened.route.choose(row) == {}
    assert opened.route.choose(row.model_copy(update={"language": "en"})) == {"a": 1.0}
    assert isinstance(opened.predictor, SpeechPredictor)
    with opened.predictor.adapters.on(opened.route.choose(row)):
        got = opened.predictor.adapters._answer()
    # In the number format of the first, which is this machine's.
    bare = load_adapters(load_base(TINY, dtype=got.dtype), {})
    assert torch.equal(got, bare._answer())


@pytest.mark.slow
@needs(TINY)
def test_transcribe_follows_a_gate(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = make(tmp_path / "a", 5, size=0.03)
    source = tmp_path / "gate.yaml"
    source.write_text(f"by: accent\nlabels: {{north: {folder}, east: none}}\n")
    gated = str(write_route(source, tmp_path / "gated").path)
    [row] = real_rows(1, start=7)
    shutil.copy(row.path, tmp_path / "said.wav")
    wav, manifest = str(tmp_path / "said.wav"), tmp_path / "rows.jsonl"
    rows = [
        {"id": f"to/{accent}", "audio": "said.wav", "text": row.text, "accent": accent}
        for accent in ("north", "east")
    ]
    manifest.write_text("".join(json.dumps(each) + "\n" for each in rows))

    def said(*words: str) -> list[dict[str, Any]]:
        assert main(["transcribe", "--json", *words]) == 0
        texts = capsys.readouterr().out.splitlines()
        # Where it comes from differs; probabilities and all else must not.
        return [
            {k: v for k, v in json.loads(text).items() if k not in ("file", "id")} for text in texts
        ]

    base, north = said("--base", TINY, wav), said("--adapter", str(folder), wav)
    assert base != north
    assert base[0]["segments"]
    assert said("--adapter", gated, "--label", "east", wav) == base
    assert said("--adapter", gated, str(manifest)) == [*north, *base]
    out = tmp_path / "out"
    assert main(["transcribe", "--adapter", gated, "--out", str(out), wav]) == 0
    told = "note: without --label, the base is used for inputs without the label 'accent'"
    assert told in capsys.readouterr().err
    for words, told in (
        (["--adapter", gated, "--label", "nort"], "did you mean north?"),
        (["--adapter", str(folder), "--label", "north"], "no --adapter is a route"),
    ):
        assert main(["transcribe", *words, wav]) == 2
        assert told in capsys.readouterr().err


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("by: accent\n", "labels"),
        ("by: accent\nlabels: {no: none}\n", "labels"),
        ("by: accent\nlabels: {a: none}\n", "names no adapter"),
        ("by: accent\nlabels: {a: {x: heavy}}\n", "labels.a"),
        ("by: accent\nlabels: {a: nothere}\n", "holds no adapter"),
        ("- a\n", "holds no settings"),
    ],
)
def test_wrong_gates_are_told(
    text: str, found: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "gate.yaml").write_text(text)
    arguments = ["compose", "--gate", str(tmp_path / "gate.yaml"), "--out", str(tmp_path / "o")]
    assert main(arguments) == 2
    message = capsys.readouterr().err
    assert found in message
    assert "cure:" in message
    assert not (tmp_path / "o").exists()


@pytest.mark.slow
@needs(TINY)
def test_the_command_compares_alone_together_and_merged(
    folders: dict[str, Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    manifest = tmp_path / "rows.jsonl"
    with manifest.open("w", encoding="utf-8") as file:
        for row in real_rows(2):
            shutil.copy(row.path, tmp_path)  # a manifest reaches into its own folder alone
            here = row.model_copy(update={"audio": row.path.name})
            values = here.model_dump_json(exclude={"content"}, exclude_defaults=True)
            file.write(values + "\n")
    asked: list[dict[str, float]] = []

    def predict(self: SpeechPredictor, requests: list[Request]) -> list[Prediction]:
        asked.extend(dict(request.adapters) for request in requests)
        words = [r.row.reference if r.adapters else "" for r in requests]
        return [Prediction(r.row.id, w) for r, w in zip(requests, words, strict=True)]

    monkeypatch.setattr(SpeechPredictor, "predict", predict)  # how it hears is tested elsewhere
    pair = [str(folders["a"]), f"{folders['b']}=0.5"]
    assert main(["compose", *pair, "--out", str(tmp_path / "m"), "--compare", str(manifest)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == str(tmp_path / "m")
    assert "distance" in lines[1]
    names = ["base", "1 a", "2 b", "together", "merged, cat", "merged, ties"]
    found = {name: next(line for line in lines if line.startswith(name)) for name in names}
    assert "1.000" in found["base"]
    assert "0.000" in found["merged, cat"]
    together = [{"1 a": 1.0}, {"2 b": 1.0}, {"1 a": 1.0, "2 b": 0.5}]
    merged = [{f"merged, {method}": 1.0} for method in ("cat", "linear", "ties", "dare_linear")]
    assert asked[:8] == [{}, *together, *merged]
    assert main(["compose", *pair, "--out", str(tmp_path / "o"), "--compare"]) == 2
    assert "doesn't say where its training data is" in capsys.readouterr().err
    for wrong in (["--density", "0.5"], ["--seed", "1"], ["--method", "x"], ["--gate", "g.yaml"]):
        assert main(["compose", *pair, "--out", str(tmp_path / "n"), *wrong]) == 2
        assert "cure:" in capsys.readouterr().err
