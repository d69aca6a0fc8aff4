"""What an export writes: read back by transformers, and whisper.cpp's file by our own reader."""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import librosa
import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from tokenizers.models import BPE
from transformers import WhisperForConditionalGeneration, WhisperProcessor

from mmtune.errors import AdapterError, BaseModelError
from mmtune.speech.export.fold import merge
from mmtune.speech.export.to_ctranslate2 import check_vocabulary, write_ctranslate2
from mmtune.speech.export.to_ggml import MODEL_FILE, rename, text_tokens, write_ggml
from mmtune.speech.export.to_transformers import complete_generation, write_transformers
from mmtune.speech.whisper.base import WhisperBase, load_base, resolve_base
from mmtune.speech.whisper.decoder_lora import load_adapters
from tests.speech.real import BASE, TINY, loaded, needs
from tests.speech.transcription.test_transcribe import make_adapter

SCALE = 0.5


@pytest.fixture(scope="module")
def adapter(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_adapter(tmp_path_factory.mktemp("adapter"), scale=0.05)


@pytest.fixture(scope="module")
def merged(adapter: Path) -> WhisperBase:
    return merge(TINY, adapter, SCALE)


@pytest.fixture(scope="module")
def folder(merged: WhisperBase, tmp_path_factory: pytest.TempPathFactory) -> Path:
    to = tmp_path_factory.mktemp("merged") / "model"
    write_transformers(merged, to)
    return to


def logits(model: torch.nn.Module, frames: int = 3000) -> torch.Tensor:
    generator = torch.Generator().manual_seed(3)
    mel = torch.randn(1, model.config.num_mel_bins, frames, generator=generator)  # type: ignore[union-attr]
    ids = torch.tensor([[50257, 50362, 383, 2068]])
    with torch.no_grad():
        found: torch.Tensor = model(input_features=mel, decoder_input_ids=ids).logits
    return found


@needs(TINY)
def test_merging_is_the_adapter_at_its_scale(adapter: Path, merged: WhisperBase) -> None:
    base = load_base(TINY)
    switch = load_adapters(base, {"a": adapter})
    with switch.on({"a": SCALE}):
        beside = logits(base.model)
    with switch.on({"a": 1.0}):
        other = logits(base.model)
    inside = logits(merged.model)
    assert not any("lora" in name for name, _ in merged.model.named_parameters())
    torch.testing.assert_close(inside, beside, atol=2e-3, rtol=1e-4)
    assert (other - beside).abs().max() > 50 * (inside - beside).abs().max()


@needs(TINY)
def test_a_merged_folder_gives_the_same_logits_to_the_bit(
    merged: WhisperBase, folder: Path
) -> None:
    again = WhisperForConditionalGeneration.from_pretrained(folder, local_files_only=True).eval()
    assert next(again.parameters()).dtype == torch.float32
    assert torch.equal(logits(again), logits(merged.model))


@needs(TINY)
def test_half_precision_is_written_as_such(merged: WhisperBase, tmp_path: Path) -> None:
    write_transformers(merged, tmp_path, "fp16")
    again = WhisperForConditionalGeneration.from_pretrained(tmp_path, local_files_only=True)
    weight = again.model.decoder.layers[0].fc1.weight
    assert weight.dtype == torch.float16
    assert torch.equal(weight, merged.model.model.decoder.layers[0].fc1.weight.half())
    assert merged.model.model.decoder.layers[0].fc1.weight.dtype == torch.float32


@pytest.mark.parametrize(
    "starter", [pytest.param(TINY, marks=needs(TINY)), pytest.param(BASE, marks=needs(BASE))]
)
def test_nothing_is_missing_from_a_folder(starter: str, tmp_path: Path) -> None:
    base = loaded(starter)
    write_transformers(base, tmp_path)
    processor = WhisperProcessor.from_pretrained(tmp_path, local_files_only=True)
    words = "Metoprolol, 25 mg: naïve coöperation… 日本"
    assert processor.tokenizer.encode(words) == base.tokenizer.encode(words)
    assert processor.tokenizer.decode([50365 - 1], decode_with_timestamps=True)
    assert processor.tokenizer.normalize("Colour") == "color"
    sound = np.random.default_rng(0).normal(size=16_000).astype(np.float32)
    given = {"sampling_rate": 16_000, "return_tensors": "np"}
    np.testing.assert_array_equal(
        processor.feature_extractor(sound, **given).input_features,
        base.feature_extractor(sound, **given).input_features,
    )
    alone = json.loads((tmp_path / "preprocessor_config.json").read_text())
    inside = json.loads((tmp_path / "processor_config.json").read_text())
    assert alone["feature_size"] == inside["feature_extractor"]["feature_size"] == 80
    BPE.from_file(str(tmp_path / "vocab.json"), str(tmp_path / "merges.txt"))
    assert resolve_base(str(tmp_path)) == tmp_path  # one of our own bases, too
    settings = json.loads((tmp_path / "generation_config.json").read_text())
    assert settings["is_multilingual"] is base.multilingual
    assert settings["no_timestamps_token_id"] == base.ids["notimestamps"]
    assert len(settings["suppress_tokens"]) > 80
    assert len(settings["begin_suppress_tokens"]) == 2
    assert settings["alignment_heads"]
    assert settings["prev_sot_token_id"] == base.ids["startofprev"]
    if base.multilingual:
        assert settings["lang_to_id"]["<|en|>"] == base.ids["startoftranscript"] + 1
        assert len(settings["lang_to_id"]) == 99
        assert settings["task_to_id"] == {n: base.ids[n] for n in ("transcribe", "translate")}
    else:
        assert "lang_to_id" not in settings


@needs(BASE)
def test_what_a_base_forgot_follows_from_its_tokenizer() -> None:
    base = loaded(BASE)
    whole = base.model.generation_config
    known = {n: getattr(whole, n) for n in ("lang_to_id", "task_to_id", "no_timestamps_token_id")}
    heads = whole.alignment_heads
    try:
        for name in (*known, "alignment_heads"):
            delattr(whole, name)
        found = complete_generation(base)
        assert not hasattr(whole, "lang_to_id")
    finally:
        for name, value in (known | {"alignment_heads": heads}).items():
            setattr(whole, name, value)
    assert {name: getattr(found, name) for name in known} == known
    assert found.alignment_heads == [[layer, head] for layer in (3, 4, 5) for head in range(8)]
    assert complete_generation(base).alignment_heads == heads


@needs(TINY)
def test_ctranslate2_gets_weights_vocabulary_and_settings(
    merged: WhisperBase, folder: Path, tmp_path: Path
) -> None:
    pytest.importorskip("ctranslate2")
    to = tmp_path / "ct2"
    write_ctranslate2(folder, merged, to)
    config = json.loads((to / "config.json").read_text())
    generation = merged.model.generation_config
    assert config["suppress_ids"] == generation.suppress_tokens
    assert config["alignment_heads"] == generation.alignment_heads
    assert {"preprocessor_config.json", "tokenizer.json"} <= {path.name for path in to.iterdir()}
    words = json.loads((to / "vocabulary.json").read_text())
    words[1000], words[1001] = words[1001], words[1000]
    (to / "vocabulary.json").write_text(json.dumps(words))
    with pytest.raises(AdapterError, match="id 1000"):
        check_vocabulary(to, merged)
    (to / "vocabulary.json").write_text(json.dumps(words[:-1]))
    with pytest.raises(AdapterError, match=r"51863 ids, the model 51864"):
        check_vocabulary(to, merged)


@dataclass
class Ggml:
    """A file of whisper.cpp, read by its published layout."""

    sizes: tuple[int, ...]
    mel: NDArray[np.float32]
    words: list[bytes]
    tensors: dict[str, NDArray[np.generic]]


def read_ggml(path: Path) -> Ggml:
    data, at = path.read_bytes(), 0

    def numbers(code: str) -> tuple[int, ...]:
        nonlocal at
        found = struct.unpack_from("<" + code, data, at)
        at += struct.calcsize("<" + code)
        return found

    def block(length: int) -> bytes:
        nonlocal at
        found = data[at : at + length]
        assert len(found) == length
        at += length
        return found

    def tensors() -> Iterator[tuple[str, NDArray[np.generic]]]:
        while at < len(data):
            dimensions, length, kind = numbers("3i")
            shape = numbers(f"{dimensions}i")[::-1]
            name = block(length).decode()
            dtype = np.dtype(["<f4", "<f2"][kind])
            count = int(np.prod(shape))
            yield name, np.frombuffer(block(count * dtype.itemsize), dtype).reshape(shape)

    assert numbers("I") == (0x67676D6C,)
    sizes = numbers("11i")
    bands, frequencies = numbers("2i")
    mel = np.frombuffer(block(4 * bands * frequencies), "<f4").reshape(bands, frequencies)
    words = [block(*numbers("I")) for _ in range(*numbers("i"))]
    return Ggml(sizes, mel, words, dict(tensors()))


@needs(TINY)
def test_a_ggml_file_holds_every_weight(merged: WhisperBase, tmp_path: Path) -> None:
    write_ggml(merged, tmp_path / MODEL_FILE)
    found = read_ggml(tmp_path / MODEL_FILE)
    assert found.sizes == (51864, 1500, 384, 6, 4, 448, 384, 6, 4, 80, 1)
    # openai/whisper made its assets with librosa.
    filters = librosa.filters.mel(sr=16_000, n_fft=400, n_mels=80)
    np.testing.assert_allclose(found.mel, filters, atol=1e-7)
    assert len(found.words) == 50256
    text = "naïve coöperation: 日本 25 µg"
    ids = merged.tokenizer.encode(text, add_special_tokens=False)
    assert b"".join(found.words[i] for i in ids).decode() == text
    # The published tiny models have 167 tensors.
    assert len(found.tensors) == 167
    state = merged.model.state_dict()
    for mine, theirs in (
        ("model.encoder.layers.3.self_attn.q_proj.weight", "encoder.blocks.3.attn.query.weight"),
        (
            "model.decoder.layers.0.encoder_attn.out_proj.bias",
            "decoder.blocks.0.cross_attn.out.bias",
        ),
        (
            "model.decoder.layers.1.encoder_attn_layer_norm.weight",
            "decoder.blocks.1.cross_attn_ln.weight",
        ),
        ("model.decoder.layers.2.fc2.weight", "decoder.blocks.2.mlp.2.weight"),
        ("model.decoder.layers.2.final_layer_norm.bias", "decoder.blocks.2.mlp_ln.bias"),
        ("model.decoder.embed_tokens.weight", "decoder.token_embedding.weight"),
        ("model.decoder.embed_positions.weight", "decoder.positional_embedding"),
        ("model.encoder.embed_positions.weight", "encoder.positional_embedding"),
        ("model.encoder.layer_norm.weight", "encoder.ln_post.weight"),
        ("model.decoder.layer_norm.bias", "decoder.ln.bias"),
        ("model.encoder.conv1.weight", "encoder.conv1.weight"),
    ):
        values = found.tensors[theirs]
        wanted = state[mine].numpy().astype(values.dtype)
        np.testing.assert_array_equal(values, wanted, err_msg=theirs)
    assert found.tensors["encoder.conv2.bias"].shape == (384, 1)
    # Matrices and convolutions in fp16, all else in float32, as whisper.cpp wants it.
    half = {name for name, values in found.tensors.items() if values.dtype == np.float16}
    assert half == {
        name
        for name, values in found.tensors.items()
        if name.endswith(".weight") and values.ndim > 1
    }


@needs(BASE)
def test_the_vocabulary_of_99_languages_has_its_empty_token() -> None:
    words = text_tokens(loaded(BASE))
    assert len(words) == 50257
    assert words[50256] == b""
    assert words[220] == b" "


@needs(TINY)
def test_whisper_cpp_is_not_given_what_it_would_misread() -> None:
    base = load_base(TINY)
    base.model.config.vocab_size = 51900
    with pytest.raises(BaseModelError, match=r"51900 ids"):
        text_tokens(base)
    base.model.config.vocab_size = 51864
    base.model.model.decoder.layers[0].fc1.weight.data[0, 0] = 1e6
    with pytest.raises(AdapterError, match=r"fc1.weight is too large for fp16"):
        write_ggml(base, Path("/dev/null"))
    with pytest.raises(AdapterError, match="no weight of Whisper"):
        rename("model.decoder.layers.0.self_attn.gate.weight")
