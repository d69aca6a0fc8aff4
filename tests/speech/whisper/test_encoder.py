"""Adapters that reach into the encoder: the cut, the gradients, and folders that PEFT made."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from mmtune.config import LoraOptions, TrainOptions
from mmtune.errors import AdapterError, ConfigError
from mmtune.predict import Request
from mmtune.prefix.cache import PrefixCache
from mmtune.speech.sound.read import read_audio
from mmtune.speech.speech_options import SpeechOptions
from mmtune.speech.speech_task import SpeechTask
from mmtune.speech.transcription.predictor import SpeechPredictor
from mmtune.speech.whisper.base import load_base
from mmtune.speech.whisper.decode import DecodeOptions
from mmtune.speech.whisper.decoder_lora import adapted_from
from mmtune.speech.whisper.encoder import cut_of
from mmtune.speech.whisper.stages import AudioStage
from mmtune.training.loop import fit
from mmtune.training.randomness import Draw
from tests.speech.real import TINY, loaded, needs, real_rows


@needs(TINY)
def test_both_parts_are_transformers_encoder() -> None:
    base = loaded(TINY)
    clips = [read_audio(row.path) for row in real_rows(2)]
    mel = base.feature_extractor(clips, sampling_rate=16_000, return_tensors="pt").input_features
    with torch.no_grad():
        expected = base.model.model.encoder(mel).last_hidden_state
        for adapted in (0, 1, 2, "all"):
            stage = AudioStage(base, "padded", cut_of(base.model.model.encoder, adapted))
            states = torch.stack(stage.encode_audio(clips, 30))
            torch.testing.assert_close(stage.finish(states), expected)
    keys = {AudioStage(base, "padded", cut).fingerprint for cut in (None, 0, 2, 4)}
    assert len(keys) == 4
    with pytest.raises(ConfigError, match="encoder has 4 layers"):
        cut_of(base.model.model.encoder, 9)


@needs(TINY)
def test_gradients_are_those_of_the_whole_model() -> None:
    options = SpeechOptions(windows="padded", encoder_layers=2)
    task = SpeechTask(load_base(TINY), LoraOptions(rank=4), options, None, seed=1)
    weights = {n: p for n, p in task.model.named_parameters() if p.requires_grad}
    generator = torch.Generator().manual_seed(1)
    for name, weight in weights.items():  # a fresh B is 0, and so would be every gradient of A
        if "lora_B" in name:
            weight.data.copy_(0.05 * torch.randn(weight.shape, generator=generator))
    rows = real_rows(2)
    examples = [task.choose(row, Draw(0, 0, row.id)) for row in rows]
    stored = [{"audio": each} for each in task.features.get([e.parts[0] for e in examples])]
    batch = task.collate(examples, stored, [])
    ours = task.module(batch).total.sum()
    got = torch.autograd.grad(ours, list(weights.values()))
    mel = task.base.feature_extractor(
        [read_audio(row.path) for row in rows], sampling_rate=16_000, return_tensors="pt"
    ).input_features
    labels = batch["targets"].masked_fill(~batch["mask"], -100)
    output = task.base.model(
        input_features=mel, decoder_input_ids=batch["inputs"], labels=labels, use_cache=False
    )
    theirs = output.loss * batch["mask"].sum()
    expected = torch.autograd.grad(theirs, list(weights.values()))
    torch.testing.assert_close(ours, theirs)
    upper = [n for n in weights if ".encoder.layers." in n]
    assert {n.split(".encoder.layers.")[1][0] for n in upper} == {"2", "3"}
    for name, mine, other in zip(weights, got, expected, strict=True):
        assert other.abs().max() > 0, name
        torch.testing.assert_close(mine, other, rtol=2e-3, atol=2e-4)


@pytest.mark.slow
@needs(TINY)
@pytest.mark.parametrize(
    "kind",
    [
        {},
        pytest.param({"dora": True}, marks=pytest.mark.slow),
        pytest.param({"rslora": True, "alpha": 16}, marks=pytest.mark.slow),
    ],
)
def test_trained_saved_and_heard_again(kind: dict[str, Any], tmp_path: Path) -> None:
    options = SpeechOptions(encoder_layers=1, keep_base=0.2)
    cache = PrefixCache(tmp_path / "cache")
    lora = LoraOptions(rank=8, **kind)
    task = SpeechTask(load_base(TINY), lora, options, cache, seed=3, max_ids=40)
    rows = [r for r in real_rows(40, step=3) if (r.duration_s or 9) <= 4][:8]
    settings = TrainOptions(epochs=5, batch_size=8, lr=2e-3, schedule="constant")
    result = fit(task, rows, rows[:4], settings, tmp_path / "run")
    assert result.best["loss"] < 0.7 * result.base["loss"]
    folder = tmp_path / "adapter"
    task.save(folder)
    assert adapted_from(folder) == 3
    short = DecodeOptions(max_new_tokens=40)
    predictor = SpeechPredictor(load_base(TINY), {"x": folder}, windows="trimmed", options=short)
    assert predictor.stage.cut == 3
    requests = [Request(row, weights) for row in rows[:4] for weights in ({}, {"x": 1.0})]
    heard = [each.value for each in predictor.predict(requests)]
    alone = SpeechPredictor(loaded(TINY), {}, windows="trimmed", options=short)
    assert heard[0::2] == [each.value for each in alone.predict([Request(r) for r in rows[:4]])]
    assert heard[0::2] != heard[1::2]
    with pytest.raises(ValueError, match="above the adapted layer 3"):
        SpeechPredictor(load_base(TINY), {"x": folder}, alone.features, options=short)


@needs(TINY)
def test_an_adapter_of_pefts_guide_is_heard_as_by_peft(tmp_path: Path) -> None:
    from peft import LoraConfig, PeftModel, get_peft_model

    config = LoraConfig(r=4, target_modules=["q_proj", "v_proj"], init_lora_weights=False)
    torch.manual_seed(0)
    made = get_peft_model(load_base(TINY).model, config)
    for name, weight in made.named_parameters():
        if "lora_B" in name:
            weight.data.mul_(0.3)
    made.save_pretrained(str(tmp_path / "guide"), save_embedding_layers=False)
    assert adapted_from(tmp_path / "guide") == 0
    rows = real_rows(3)
    options = DecodeOptions(max_new_tokens=20)
    predictor = SpeechPredictor(load_base(TINY), {"x": tmp_path / "guide"}, options=options)
    ours = [each.value for each in predictor.predict([Request(r, {"x": 1.0}) for r in rows])]
    base = load_base(TINY)
    theirs = PeftModel.from_pretrained(base.model, str(tmp_path / "guide")).eval()
    for row, text in zip(rows, ours, strict=True):
        mel = base.feature_extractor(
            read_audio(row.path), sampling_rate=16_000, return_tensors="pt"
        ).input_features
        ids = theirs.base_model.model.generate(input_features=mel, max_new_tokens=20)
        assert text == base.tokenizer.decode(ids[0], skip_special_tokens=True).strip()


def test_what_lies_below_the_layers_is_refused(tmp_path: Path) -> None:
    from safetensors.torch import save_file

    name = "base_model.model.model.encoder.conv1.lora_A.weight"
    save_file({name: torch.zeros(2, 2)}, tmp_path / "adapter_model.safetensors")
    with pytest.raises(AdapterError, match=r"conv1.*below the encoder's layers"):
        adapted_from(tmp_path)
    with pytest.raises(AdapterError, match="holds no adapter_model"):
        adapted_from(tmp_path / "nowhere")
