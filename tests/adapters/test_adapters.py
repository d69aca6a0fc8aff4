"""Strictness of adapters, and their card."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from transformers import (
    CLIPTextConfig,
    CLIPTextModel,
    WhisperConfig,
    WhisperForConditionalGeneration,
)

from mmtune.adapters.card import Card, read_card
from mmtune.adapters.lora import lora_config, require_effect, require_match
from mmtune.config import LoraOptions
from mmtune.errors import AdapterError


def test_keys_that_match_nothing_are_an_error() -> None:
    require_match([], [], "folder", "base")
    with pytest.raises(AdapterError, match=r"2 keys match nothing \(first: a\.b\)"):
        require_match([], ["x.y", "a.b"], "folder", "base")
    with pytest.raises(AdapterError, match=r"1 keys are missing \(first: w\)"):
        require_match(["w"], [], "folder", "base")


def test_the_probe_tells_a_no_op() -> None:
    output = torch.randn(2, 3)
    require_effect(output, output + 1e-3, "folder")
    with pytest.raises(AdapterError, match="has no effect"):
        require_effect(output, output.clone(), "folder")


def test_lora_options_reach_peft() -> None:
    config = lora_config(LoraOptions(rank=4, alpha=6.0, dropout=0.1), ["q_proj", "v_proj"])
    assert isinstance(config, LoraConfig)
    assert (config.r, config.lora_alpha, config.lora_dropout) == (4, 6.0, 0.1)
    assert config.target_modules == {"q_proj", "v_proj"}
    chosen = lora_config(LoraOptions(targets=("k_proj",)), ["q_proj"])
    assert chosen.target_modules == {"k_proj"}


def clip() -> CLIPTextModel:
    torch.manual_seed(0)
    return CLIPTextModel(
        CLIPTextConfig(
            vocab_size=50, hidden_size=16, intermediate_size=32, num_hidden_layers=2,
            num_attention_heads=2, max_position_embeddings=8, bos_token_id=0, eos_token_id=1,
        )
    ).eval()  # fmt: skip


def whisper() -> WhisperForConditionalGeneration:
    torch.manual_seed(0)
    return WhisperForConditionalGeneration(
        WhisperConfig(
            vocab_size=60, d_model=16, encoder_layers=1, decoder_layers=1,
            encoder_attention_heads=2, decoder_attention_heads=2, encoder_ffn_dim=32,
            decoder_ffn_dim=32, num_mel_bins=8, max_source_positions=20, max_target_positions=20,
            pad_token_id=1, bos_token_id=1, eos_token_id=1, decoder_start_token_id=2,
        )
    ).eval()  # fmt: skip


def clip_output(model: torch.nn.Module) -> torch.Tensor:
    return model(input_ids=torch.tensor([[0, 7, 9, 1]])).last_hidden_state


def whisper_output(model: torch.nn.Module) -> torch.Tensor:
    features = torch.randn(1, 8, 40, generator=torch.Generator().manual_seed(3))
    inner = model.get_base_model() if isinstance(model, PeftModel) else model
    return inner(input_features=features, decoder_input_ids=torch.tensor([[2, 5]])).logits


@pytest.mark.parametrize(("build", "output"), [(clip, clip_output), (whisper, whisper_output)])
def test_the_pinned_libraries_add_save_and_reload_lora(
    tmp_path: Path, build: object, output: object
) -> None:
    """transformers 5.24 demands a peft that isn't out, and then refuses every adapter."""
    model = get_peft_model(build(), lora_config(LoraOptions(rank=2), ["q_proj", "v_proj"]))
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if "lora_B" in name:
                weight.normal_(generator=torch.Generator().manual_seed(1))
        tuned = output(model.eval())
        model.save_pretrained(tmp_path)
        again = PeftModel.from_pretrained(build(), tmp_path).eval()
        assert torch.equal(output(again), tuned)
        assert not torch.equal(output(build()), tuned)


def card() -> Card:
    return Card(
        name="a", recipe="terminology", modality="speech", base="starter:whisper-tiny.en",
        base_hash="0" * 64, dataset="1" * 64, rows={"train": 3}, settings={"train": {"lr": 0.1}},
        validation={"wer": 0.25}, best_step=4, steps=9,
        measures=[{
            "metric": "wer", "slice": "test", "items": 7,
            **{k: {"value": .5, "low": .4, "high": .6} for k in ("base", "adapter", "difference")},
        }],
    )  # fmt: skip


def test_a_card_survives_a_round_trip_and_reads_well(tmp_path: Path) -> None:
    made = card()
    made.write(tmp_path)
    assert read_card(tmp_path) == made
    page = (tmp_path / "README.md").read_text()
    assert "| wer | test | 7 | 0.500 [0.400, 0.600] |" in page
    assert "step 4" in page


def test_a_missing_or_broken_card_is_named(tmp_path: Path) -> None:
    with pytest.raises(AdapterError, match=r"holds no card\.json"):
        read_card(tmp_path)
    (tmp_path / "card.json").write_text('{"name": 1}')
    with pytest.raises(AdapterError, match=r"card\.json can't be read"):
        read_card(tmp_path)
