"""Bases: starters out of packages, folders, the hub, and what is said when one can't be had."""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path

import pytest

from mmtune.errors import BaseModelError, MissingExtra
from mmtune.speech.whisper import starter
from mmtune.speech.whisper.base import resolve_base
from mmtune.speech.whisper.starter import read_ctranslate2, starter_folder
from tests.speech.real import BASE, TINY, loaded, needs


@needs(TINY, BASE)
@pytest.mark.parametrize("name", [TINY, BASE])
def test_a_starter_is_complete(name: str) -> None:
    base = loaded(name)
    tokenizer, generation = base.tokenizer, base.model.generation_config
    assert base.multilingual == (name == BASE)
    assert len(tokenizer) == base.model.config.vocab_size
    assert tokenizer.convert_tokens_to_ids("<|0.00|>") == base.ids["notimestamps"] + 1
    assert tokenizer.convert_tokens_to_ids("<|30.00|>") == base.model.config.vocab_size - 1
    assert tokenizer.normalize("Mr. Smith's favourite colour") == "mister smith is favorite color"
    ids = tokenizer(" metoprolol").input_ids
    assert tokenizer.decode(ids, skip_special_tokens=True) == " metoprolol"
    assert generation.no_timestamps_token_id == base.ids["notimestamps"]
    assert len(generation.suppress_tokens) > 80
    assert 220 in generation.begin_suppress_tokens
    if base.multilingual:
        assert base.language_id("de") == base.language_id("German") == 50261
        assert len(generation.lang_to_id) == 99
        with pytest.raises(BaseModelError, match="klingon"):
            base.language_id("klingon")


@needs(TINY)
def test_changed_weights_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MMTUNE_CACHE", str(tmp_path))
    wrong = dataclasses.replace(starter.STARTERS["whisper-tiny.en"], sha256="0" * 64)
    monkeypatch.setitem(starter.STARTERS, "whisper-tiny.en", wrong)
    with pytest.raises(BaseModelError, match="SHA-256 8a783d69"):
        starter_folder(TINY)
    assert not list(tmp_path.rglob("*.safetensors"))


@needs(TINY)
def test_damaged_binary_is_refused() -> None:
    data = starter._read(starter.STARTERS["whisper-tiny.en"], TINY)
    with pytest.raises(BaseModelError, match="damaged at byte"):
        read_ctranslate2(data[:100_000], "x")
    with pytest.raises(BaseModelError, match="version 7"):
        read_ctranslate2(b"\x07" + data[1:], "x")


def test_unknown_and_missing_starters(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("MMTUNE_CACHE", str(tmp_path))
    with pytest.raises(BaseModelError, match=r"starter:whisper-tiny\.en, starter:whisper-base"):
        resolve_base("starter:whisper-large")
    absent = dataclasses.replace(
        starter.STARTERS["whisper-base"], binary=(("no_such_module", "model.bin"),)
    )
    monkeypatch.setitem(starter.STARTERS, "whisper-base", absent)
    with pytest.raises(MissingExtra, match=r"mmtune\[demo\]"):
        resolve_base(BASE)


def test_unreachable_hub_names_file_and_starter(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")  # nothing listens there
    with pytest.raises(BaseModelError, match=r"config\.json isn't on this machine") as error:
        resolve_base("openai/whisper-no-such-thing")
    assert TINY in error.value.cure


def test_folders(tmp_path: Path) -> None:
    with pytest.raises(BaseModelError, match="neither a folder nor a hub id"):
        resolve_base(str(tmp_path / "nothing"))
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "bert"}))
    with pytest.raises(
        BaseModelError, match=r"lacks generation_config\.json, .*tokenizer, model\.safe"
    ):
        resolve_base(str(tmp_path))


def test_what_is_in_the_way_of_a_folder_is_named(tmp_path: Path) -> None:
    for name in ("config.json", "generation_config.json", "tokenizer.json"):
        (tmp_path / name).write_text("{}")
    (tmp_path / "pytorch_model.bin").touch()
    with pytest.raises(BaseModelError, match=r"pytorch_model\.bin is pickled"):
        resolve_base(str(tmp_path))
    weights = tmp_path / "model.safetensors"
    weights.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 9\n")
    with pytest.raises(BaseModelError, match="git lfs pull"):
        resolve_base(str(tmp_path))
    weights.touch()
    weights.write_bytes(b"\0")
    with pytest.raises(BaseModelError, match=r"lacks preprocessor_config\.json\n.*trained from"):
        resolve_base(str(tmp_path))
    (tmp_path / "processor_config.json").write_text("{}")  # as transformers 5 saves it
    assert resolve_base(str(tmp_path)) == tmp_path
    with pytest.raises(BaseModelError, match="a Whisper model is a folder"):
        resolve_base(str(weights))


@pytest.mark.slow
@needs(TINY)
@pytest.mark.parametrize("shards", ["10GB", "20MB"])
def test_a_folder_as_transformers_saves_it(tmp_path: Path, shards: str) -> None:
    """Of a processor and of weights that have a variant alone, whole or in shards."""
    import torch
    from transformers import WhisperProcessor

    from mmtune.speech.whisper.base import load_base

    base = load_base(TINY)
    WhisperProcessor(base.feature_extractor, base.tokenizer).save_pretrained(tmp_path)
    base.model.half().save_pretrained(tmp_path, variant="fp16", max_shard_size=shards)
    found = load_base(str(tmp_path))
    assert not (tmp_path / "preprocessor_config.json").exists()
    assert found.feature_extractor.to_dict() == base.feature_extractor.to_dict()
    for name, value in found.model.state_dict().items():
        assert torch.equal(value, base.model.state_dict()[name].float()), name


@needs(TINY)
def test_a_folder_of_another_model_or_with_damaged_weights(tmp_path: Path) -> None:
    from mmtune.speech.whisper.base import load_base

    folder = tmp_path / "copy"
    shutil.copytree(resolve_base(TINY), folder)
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    with pytest.raises(BaseModelError, match="can't be read"):
        load_base(str(folder))
    (folder / "config.json").write_text(json.dumps({"model_type": "bert"}))
    with pytest.raises(BaseModelError, match="'bert' model, not whisper"):
        load_base(str(folder))
