"""`--init`: training starts as another adapter, and goes on from it."""

from __future__ import annotations

import copy
import os
import shutil
import signal
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

import mmtune
from mmtune.adapters.card import read_card, weights_hash
from mmtune.config import RunConfig
from mmtune.errors import AdapterError, ConfigError, DataError
from mmtune.image import MODALITY as IMAGE
from mmtune.image.diffusion.denoiser_lora import load_adapter, probe_output, read_start
from mmtune.image.image_task import ImageTask
from mmtune.runs.parent import keep_parent, without_parents_rows
from mmtune.runs.pipeline import train, train_adapter
from mmtune.runs.recipes import configure, load_recipe, load_run
from mmtune.runs.run_data import own_dataset
from mmtune.runs.trained_rows import ROWS, record_rows
from mmtune.speech import MODALITY as SPEECH
from mmtune.speech.speech_options import SpeechOptions
from mmtune.speech.speech_task import SpeechTask
from mmtune.speech.whisper.base import WhisperBase, load_for
from mmtune.speech.whisper.decoder_lora import Switch
from mmtune.training.interrupt import Interrupted
from mmtune.training.reporter import Reporter
from tests.conformance.test_stored_runs import STORED
from tests.image import tiny

FILES = Path(__file__).parents[1] / "foreign" / "adapters"
FINISHED = "trained/finished"  # rank 4, alpha 8, the decoder alone


@pytest.fixture
def speech(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of a stored run with its base and data, which is the current folder."""
    folder = tmp_path / "speech"
    shutil.copytree(STORED / "speech", folder, copy_function=shutil.copy)
    monkeypatch.chdir(folder)
    monkeypatch.setenv("MMTUNE_CACHE", str(folder / "cache"))
    return folder


def settings(**more: Any) -> RunConfig:
    given = {"init": FINISHED, "name": "next", "max_steps": "2", "scales": "[1.0]"}
    given |= {"shared": "sentence"} | more
    return load_recipe("recipe.yaml", {k: v for k, v in given.items() if v is not None})


def test_the_adapter_s_settings_replace_the_recipe_s(speech: Path) -> None:
    (speech / "recipe.yaml").write_text(
        (speech / "recipe.yaml").read_text().replace("rank: 4", "rank: 2")
    )
    found = settings(encoder_layers="1")
    assert (found.lora.rank, found.lora.alpha) == (4, 8.0)
    assert found.task.encoder_layers == 1  # type: ignore[attr-defined]
    assert settings().task.encoder_layers == 0  # type: ignore[attr-defined]
    # A larger rank keeps the strength: alpha / rank stays 2.
    assert (settings(rank="6").lora.rank, settings(rank="6").lora.alpha) == (6, 12.0)
    assert settings(rank="16", rslora="true").lora.alpha == 8.0
    assert settings(alpha="1").lora.alpha == 1.0
    # What --print-config prints holds without the adapter.
    (speech / "mine.yaml").write_text(settings(rank="6").dump())
    shutil.rmtree(speech / "trained")
    assert load_recipe("mine.yaml").lora == settings_of(speech / "mine.yaml").lora


def settings_of(path: Path) -> RunConfig:
    return load_recipe(str(path), {"name": "other"})


def logits(task: SpeechTask) -> torch.Tensor:
    task.model.eval()  # without dropout
    switch = Switch(task.base)
    with torch.no_grad():
        return switch.answer()


CHANGED: dict[str, tuple[dict[str, str], float]] = {
    "nothing": ({}, 0.0),
    "rank": ({"rank": "6"}, 1e-5),
    "alpha": ({"alpha": "3"}, 1e-5),
    "rsLoRA": ({"rslora": "true", "rank": "5"}, 1e-5),
    "DoRA": ({"dora": "true"}, 1e-5),
    "more layers": ({"encoder_layers": "1"}, 1e-5),
    "targets": ({"targets": "q_proj,k_proj,v_proj,out_proj,fc1,fc2"}, 0.0),
}


REFUSED: dict[str, tuple[dict[str, str], str]] = {
    "a smaller rank": ({"rank": "2"}, r"lora\.rank = 2: .* has rank 4"),
    "fewer layers": ({"targets": "q_proj"}, r"lora\.targets: \d+ layers"),
}


def test_step_0_answers_as_the_adapter(speech: Path) -> None:
    base = load_for("base", "fp32")
    alone = Switch(copy_of(base))
    alone.load("theirs", Path(FINISHED) / "adapter")
    with torch.no_grad(), alone.on({"theirs": 1.0}):
        wanted = alone.answer()
    with torch.no_grad(), alone.on({}):
        assert not torch.allclose(alone.answer(), wanted, atol=1e-3)
    for name, (given, most) in CHANGED.items():
        task = start(settings(**given), copy_of(base))
        found = logits(task)
        assert float((found - wanted).abs().max() / wanted.abs().max()) <= most, name
        # New dimensions can learn: one half of their pairs isn't zero.
        for layer in task.model.modules():
            if "default" in getattr(layer, "lora_A", {}):
                assert bool(layer.lora_A["default"].weight.any(1).all())
    for given, words in REFUSED.values():
        with pytest.raises(ConfigError, match=words) as caught:
            start(settings(**given), copy_of(base))
        assert "leave --" in caught.value.cure
    other = copy_of(base)
    other.fingerprint = "0" * 64
    with pytest.raises(AdapterError, match="with other weights"):
        start(settings(), other)


def copy_of(base: WhisperBase) -> WhisperBase:
    return replace(base, model=copy.deepcopy(base.model))


def start(config: RunConfig, base: WhisperBase) -> SpeechTask:
    keep_parent(config)
    options = config.task
    assert isinstance(options, SpeechOptions)
    return SpeechTask(base, config.lora, options, None, parent=config.parent)


def test_what_no_training_can_start_from(speech: Path) -> None:
    with pytest.raises(ConfigError, match="--init nowhere: no such file or folder"):
        settings(init="nowhere")
    picture = STORED / "image" / "trained" / "finished"
    with pytest.raises(AdapterError, match="an adapter for image, but terminology trains speech"):
        settings(init=str(picture))
    file = Path(FINISHED) / "adapter" / "adapter_model.safetensors"
    file.write_bytes(file.read_bytes()[:-40])
    with pytest.raises(AdapterError, match="is damaged"):
        settings()


def test_rows_that_the_adapter_was_trained_on_are_not_measured(speech: Path) -> None:
    config = settings()
    keep_parent(config)
    assert config.data.path is not None
    dataset = own_dataset(config, config.data.path, "")
    assert config.parent is not None
    kept, [note] = without_parents_rows(config, dataset)
    assert "nothing tells which rows" in note  # the stored run is of an earlier version
    assert kept is dataset
    test, train = dataset.split("test"), dataset.split("train")
    moved = [row.model_copy(update={"split": "train"}) for row in test[:1]]
    record_rows(config.parent, replace(dataset, rows=(*train, *moved)))
    assert (config.parent / ROWS).is_file()
    kept, [note] = without_parents_rows(config, dataset)
    assert note.startswith(f"1 of {len(test)} test rows are left out")
    assert {row.id for row in dataset.rows} - {row.id for row in kept.rows} == {test[0].id}
    record_rows(config.parent, replace(dataset, rows=tuple(
        row.model_copy(update={"split": "train"}) for row in dataset.rows)))  # fmt: skip
    with pytest.raises(DataError, match="was trained on each of the"):
        without_parents_rows(config, dataset)


class Notes(Reporter):
    def __init__(self) -> None:
        self.lines: list[str] = []

    def note(self, text: str) -> None:
        self.lines.append(text)


class Stop(Reporter):
    def step(self, step: int, total: int, loss: float, lr: float) -> None:
        if step == 1:
            os.kill(os.getpid(), signal.SIGTERM)


@pytest.mark.slow
def test_a_stopped_run_resumes_without_the_adapter(speech: Path) -> None:
    whole = settings(name="whole")
    notes = Notes()
    result = train(whole, notes)
    best, before = result.fit.best["wer"], result.fit.base["wer"]
    told = any(line.startswith(f"no step has a better wer than {FINISHED}") for line in notes.lines)
    assert told == (best >= before)
    card = read_card(result.adapter)
    parent = Path(FINISHED) / "adapter"
    [first] = card.lineage
    assert first["hash"] == weights_hash(parent)
    assert (first["name"], first["dataset"]) == ("finished", read_card(parent).dataset)
    assert result.comparison.notes[0].startswith("training of whole started from finished (")
    assert "training started from: finished" in (result.adapter / "README.md").read_text()
    assert ("started from", card.parent) in card.facts()
    assert {f.path for f in mmtune.verify(result.folder).files} >= {"parent/card.json"}
    assert not mmtune.verify(result.folder).damaged
    config = settings(name="stopped")
    with pytest.raises(Interrupted):
        train_adapter(config, Stop())
    shutil.move(FINISHED, speech / "moved")
    resumed = settings(name="stopped")
    assert resumed == config
    train_adapter(resumed)
    ours, theirs = (load_file(c.folder / "adapter" / "adapter_model.safetensors")
                    for c in (resumed, whole))  # fmt: skip
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)
    again = mmtune.evaluate(result.folder)
    assert again.comparison.notes[0].startswith("training of whole started from finished (")
    assert load_run(result.folder).init == Path(FINISHED)
    # Elsewhere the same adapter is the same run; another one isn't.
    moved = settings(name="stopped", init="moved")
    train_adapter(moved)
    with pytest.raises(ConfigError, match="init was 'moved', now None"):
        train_adapter(settings(name="stopped", init=None))
    save_file(
        {name: value * 2 for name, value in ours.items()},
        speech / "moved" / "adapter" / "adapter_model.safetensors",
    )
    (speech / "moved" / "adapter" / "card.json").unlink()
    with pytest.raises(ConfigError, match="init"):
        train_adapter(moved)


def image(tmp_path: Path, **more: str) -> RunConfig:
    """A run that starts from a kohya file: convolutions, a text encoder, alpha unlike rank."""
    data = tiny.brand(tmp_path / "brand")
    plain = tiny.config(tiny.saved("sd"), data, tmp_path / "runs")
    given = {"init": str(FILES / "kohya.safetensors")} | more
    return configure(plain.model_dump(mode="json"), "test", given)


def drawing(config: RunConfig) -> ImageTask:
    keep_parent(config)
    assert config.data.path is not None
    return ImageTask(config, own_dataset(config, config.data.path, ""), tiny.loaded("sd"), None)


@pytest.mark.parametrize(
    "more",
    [
        {},
        pytest.param({"dora": "true"}, marks=pytest.mark.slow),
        pytest.param({"rank": "16"}, marks=pytest.mark.slow),
    ],
)
def test_step_0_draws_as_the_file_of_another_program(
    more: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MMTUNE_CACHE", str(tmp_path / "cache"))
    config = image(tmp_path, base=str(tiny.saved("sd")), **more)
    assert config.task.text_encoder is True  # type: ignore[attr-defined]
    task = drawing(config)
    assert config.parent is not None
    alone = tiny.loaded("sd")
    theirs = read_start(alone, config.parent)
    load_adapter(alone, config.parent, "theirs")
    alone.pipeline.enable_lora()
    wanted = probe_output(alone)
    assert float((probe_output(task.base) - wanted).norm() / wanted.norm()) < 1e-5
    task.save(tmp_path / "saved")
    own = read_start(tiny.loaded("sd"), tmp_path / "saved")
    assert own.keys() == theirs.keys() == {"unet", "text_encoder"}
    for part, layers in theirs.items():
        assert own[part].keys() == layers.keys()
        for place, pair in layers.items():
            found, change = (x.up.flatten(1) @ x.down.double().flatten(1)
                             for x in (own[part][place], pair))  # fmt: skip
            torch.testing.assert_close(found, change, rtol=1e-5, atol=1e-6)


def test_what_the_file_of_another_program_needs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MMTUNE_CACHE", str(tmp_path / "cache"))
    with pytest.raises(ConfigError, match=r"task\.text_encoder = false: the adapter of --init"):
        drawing(image(tmp_path, base=str(tiny.saved("sd")), text_encoder="false"))
    with pytest.raises(ConfigError, match="names no model that it can be loaded on"):
        image(tmp_path)


def test_an_adapter_of_another_method(tmp_path: Path) -> None:
    (tmp_path / "adapter_config.json").write_text('{"peft_type": "LOHA"}')
    for modality in (IMAGE, SPEECH):
        with pytest.raises(AdapterError, match="LOHA"):
            modality.settings_of_adapter(tmp_path, "base", {})
