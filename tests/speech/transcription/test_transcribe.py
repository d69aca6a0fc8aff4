"""Predictions of base and adapters, strict loading, and files of any length."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file

from mmtune.adapters.card import Card
from mmtune.config import LoraOptions
from mmtune.errors import AdapterError, ConfigError
from mmtune.predict import Request
from mmtune.speech.sound.read import read_audio
from mmtune.speech.transcription.predictor import SpeechPredictor, open_predictor
from mmtune.speech.transcription.retrieve import TermIndex
from mmtune.speech.transcription.transcribe import listen, read_tracks, transcribe
from mmtune.speech.transcription.vad import cut, find_speech
from mmtune.speech.whisper.base import load_base
from mmtune.speech.whisper.decode import DecodeOptions, most_ids
from mmtune.speech.whisper.decoder_lora import attach
from mmtune.speech.whisper.fallback import Heard, decode_safely
from mmtune.speech.whisper.labels import prefix_ids
from mmtune.speech.whisper.stages import seconds_of
from tests.speech.real import BASE, TINY, loaded, needs, real_rows

WEIGHTS = "adapter_model.safetensors"
SHORT = DecodeOptions(max_new_tokens=24)  # random adapters never end by themselves


def make_adapter(folder: Path, seed: int = 1, scale: float = 0.1, base: str = TINY) -> Path:
    """An adapter at random, strong enough to change what is heard."""
    whisper = load_base(base)
    model = attach(whisper, LoraOptions(rank=2, alpha=2), seed)
    generator = torch.Generator().manual_seed(seed)
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            parameter.data.copy_(torch.randn(parameter.shape, generator=generator) * scale)
    model.save_pretrained(str(folder), save_embedding_layers=False)
    return folder


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    root = tmp_path_factory.mktemp("adapters")
    return make_adapter(root / "one", 1), make_adapter(root / "two" / "adapter", 2).parent


@pytest.fixture(scope="module")
def predictor(folders: tuple[Path, Path]) -> SpeechPredictor:
    adapters = {"one": folders[0], "two.v1": folders[1]}
    return SpeechPredictor(load_base(TINY), adapters, windows="trimmed", options=SHORT)


@needs(TINY)
def test_off_is_the_base_and_a_batch_may_mix(predictor: SpeechPredictor) -> None:
    rows = real_rows(3)
    sets: list[dict[str, float]] = [
        {},
        {"one": 1.0},
        {"two.v1": 1.0},
        {"one": 0.0},
        {"one": 0.5, "two.v1": 0.5},
    ]
    requests = [Request(row, weights) for row in rows for weights in sets]
    found = [p.value for p in predictor.predict(requests)]
    untouched = SpeechPredictor(loaded(TINY), {}, windows="trimmed", options=SHORT)
    base = [p.value for p in untouched.predict([Request(row) for row in rows])]
    assert found[0::5] == base == found[3::5]
    assert found[1::5] != base != found[2::5]
    assert len({tuple(found[i::5]) for i in (0, 1, 2, 4)}) == 4
    assert [p.row for p in predictor.predict(requests[:2])] == [rows[0].id] * 2
    # Alone, each request gets the same answer as among the others.
    assert predictor.predict(requests[6:7])[0].value == found[6]


@needs(TINY)
def test_what_repeats_itself_is_cut_by_the_length_of_its_clip(folders: tuple[Path, Path]) -> None:
    endless = SpeechPredictor(loaded(TINY), {"one": folders[0]}, windows="trimmed")
    requests = [Request(row, on) for row in real_rows(3) for on in ({}, {"one": 1.0})]
    shares = []
    for request, found in zip(requests, endless.predict(requests), strict=True):
        most = most_ids(seconds_of(request.row))
        assert most < 120
        spoken = len(endless.base.tokenizer(found.value, add_special_tokens=False).input_ids)
        shares.append((spoken - 2) / most)  # written again, a text may take an id more
    assert 0.8 < max(shares) <= 1  # one at least has no end of its own


@needs(TINY)
def test_weight_scales_the_update(predictor: SpeechPredictor) -> None:
    answer, on = predictor.adapters._answer, predictor.adapters.on
    layer = predictor.base.model.model.decoder.layers[0].fc1
    x = torch.ones(1, 384)
    with torch.no_grad():
        outputs = []
        for weights in ({}, {"one": 1.0}, {"one": 2.0}):
            with on(weights):
                outputs.append(layer(x))
        update = outputs[1] - outputs[0]
        torch.testing.assert_close(outputs[2] - outputs[0], 2 * update)
        assert update.abs().max() > 0
    with on({}):
        before = answer()
    with pytest.raises(RuntimeError, match="a request fails"), on({"one": 3.0}):
        raise RuntimeError("a request fails")
    assert torch.equal(answer(), before)  # nothing stays on
    with pytest.raises(AdapterError, match="no adapter 'three'"), on({"three": 1.0}):
        pass


@needs(TINY)
def test_prompts_and_languages_are_the_rows_own(predictor: SpeechPredictor) -> None:
    row = real_rows(1)[0]
    prompted = row.model_copy(update={"prompt": "THANK YOU, SO MUCH!"})
    plain, primed = predictor.predict([Request(row), Request(prompted)])
    assert plain.value != primed.value
    assert (plain.details["window"], plain.details["language"]) == (5, None)
    words = plain.details["words"]
    assert "".join(word for word, _ in words).strip() == plain.value
    assert all(0 < confidence <= 1 for _, confidence in words)
    assert words != primed.details["words"]
    assert "heard" not in plain.details  # it knows one language only


@needs(BASE)
def test_a_multilingual_base_hears_or_is_told(tmp_path: Path) -> None:
    rows = real_rows(2)
    told = rows[1].model_copy(update={"language": "de"})
    heard = SpeechPredictor(loaded(BASE), {})
    found = heard.predict([Request(rows[0]), Request(told)])
    assert [p.details["language"] for p in found] == ["en", "de"]
    assert [p.details["heard"] for p in found] == ["en", "en"]  # whatever it is told


@needs(TINY)
def test_loading_is_strict(folders: tuple[Path, Path], tmp_path: Path) -> None:
    weights = load_file(folders[0] / WEIGHTS)
    config = (folders[0] / "adapter_config.json").read_text()

    def attempt(name: str, changed: dict[str, torch.Tensor]) -> str:
        folder = tmp_path / name
        folder.mkdir()
        (folder / "adapter_config.json").write_text(config)
        save_file(changed, folder / WEIGHTS)
        with pytest.raises(AdapterError) as error:
            SpeechPredictor(loaded_again(), {"x": folder}, windows="trimmed")
        return str(error.value)

    first = next(iter(weights))
    renamed = {k.replace(".fc1.", ".fc9."): v for k, v in weights.items()}
    assert "keys match nothing" in attempt("renamed", renamed)
    assert "1 keys are missing" in attempt("short", {k: weights[k] for k in weights if k != first})
    zero = {k: torch.zeros_like(v) if "lora_B" in k else v for k, v in weights.items()}
    assert "has no effect" in attempt("zero", zero)
    encoder = {k.replace(".decoder.", ".encoder."): v for k, v in weights.items()}
    assert "doesn't fit" in attempt("encoder", encoder)
    wide = {k: torch.cat([v, v]) if "lora_A" in k else v for k, v in weights.items()}
    assert "its tensor has rank" in attempt("wide", wide)


def loaded_again() -> Any:
    return load_base(TINY)


@needs(TINY, BASE)
def test_another_base_or_a_damaged_folder_is_refused(
    folders: tuple[Path, Path], tmp_path: Path
) -> None:
    with pytest.raises(AdapterError, match="doesn't fit the base 'starter:whisper-base'"):
        SpeechPredictor(load_base(BASE), {"x": folders[0]})
    with pytest.raises(AdapterError, match="holds no adapter"):
        SpeechPredictor(loaded_again(), {"x": tmp_path})
    card = Card(
        name="n",
        recipe="r",
        modality="speech",
        base="openai/whisper-tiny",
        base_hash="f" * 64,
        dataset="d",
        rows={},
        settings={},
    )
    folder = make_adapter(tmp_path / "foreign")
    card.write(folder)
    with pytest.raises(AdapterError, match="trained on 'openai/whisper-tiny'"):
        SpeechPredictor(loaded_again(), {"x": folder})
    (folder / "card.json").unlink()
    (folder / WEIGHTS).write_bytes((folder / WEIGHTS).read_bytes()[:500])
    with pytest.raises(AdapterError, match="is damaged"):
        SpeechPredictor(loaded_again(), {"x": folder})


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 200_000), st.integers(0, 1000), st.sampled_from([1.0, 2.0, 5.0]))
def test_spans_are_the_whole_recording(length: int, seed: int, longest: float) -> None:
    audio = np.random.default_rng(seed).normal(0, 0.1, length).astype(np.float32)
    spans = cut(audio, longest)
    assert [s for s, _ in spans[1:]] == [e for _, e in spans[:-1]]
    if length:
        assert (spans[0][0], spans[-1][1]) == (0, length)
    assert all(0 < end - start <= longest * 16_000 for start, end in spans)


def test_a_cut_falls_into_the_pause() -> None:
    audio = np.random.default_rng(0).normal(0, 0.1, 40 * 16_000).astype(np.float32)
    audio[int(27.0 * 16_000) : int(27.6 * 16_000)] = 0
    (_, end), _rest = cut(audio)
    assert 27.0 <= end / 16_000 <= 27.6


@needs(TINY)
def test_a_file_of_more_than_one_window(tmp_path: Path, folders: tuple[Path, Path]) -> None:
    short = DecodeOptions(max_new_tokens=60)
    clips = [read_audio(row.path) for row in real_rows(12, step=5)]
    pause = np.zeros(32_000, np.float32)
    whole = np.concatenate([piece for clip in clips for piece in (clip, pause)])
    path = tmp_path / "call.wav"
    soundfile.write(path, whole, 16_000)
    assert 60 < len(whole) / 16_000 < 90
    found = transcribe(path, SpeechPredictor(loaded(TINY), {}, options=short))
    first, second = found.segments  # without the pauses it fits into two windows
    assert 0 < first.start < first.end < second.start < second.end < len(whole) / 16_000 - 1.5
    assert found.seconds == len(whole) / 16_000
    assert found.text == " ".join(segment.text for segment in found.segments)
    assert "thank you so much" in found.text.lower()
    adapted = open_predictor(TINY, folders[0]).with_options(short)
    assert transcribe(path, adapted, weights={}).text == found.text
    assert transcribe(path, adapted).text != found.text


@needs(TINY)
def test_silence_says_nothing(tmp_path: Path) -> None:
    predictor = SpeechPredictor(loaded(TINY), {})
    noise = np.random.default_rng(0).normal(0, 0.02, 20 * 16_000).astype(np.float32)
    for name, audio in (("silence", noise * 0), ("noise", noise), ("empty", noise[:10])):
        path = tmp_path / f"{name}.wav"
        soundfile.write(path, audio, 16_000)
        found = transcribe(path, predictor, words=True)
        assert (found.text, found.segments) == ("", ()), name


def call_of_two() -> tuple[NDArray[np.float32], list[str], list[tuple[float, float]]]:
    """Two speakers, one a channel, of whom the second begins before the first has ended."""
    first, second = (read_audio(row.path) for row in real_rows(2, step=5))
    begins = 1.5
    channels = np.zeros((2, 8 * 16_000), np.float32)
    channels[0, : len(first)] = first
    channels[1, int(begins * 16_000) :][: len(second)] = second
    texts = ["thank you so much for it", "happy and good"]
    spoken = [find_speech(first)[1], find_speech(second)[1]]
    spans = [
        (offset + each[0][0] / 16_000, offset + each[-1][1] / 16_000)
        for each, offset in zip(spoken, (0.0, begins), strict=True)
    ]
    return channels, texts, spans


@needs(TINY)
def test_two_sides_of_a_call(tmp_path: Path) -> None:
    channels, texts, spans = call_of_two()
    assert spans[1][0] < spans[0][1]
    path = tmp_path / "call.flac"
    soundfile.write(path, channels.T, 16_000)
    predictor = SpeechPredictor(loaded(TINY), {}, options=SHORT)
    found = transcribe(path, predictor, words=True)
    assert found.channels == ("channel 1", "channel 2")
    for name, text, (start, end) in zip(found.channels, texts, spans, strict=True):
        own = [s for s in found.segments if s.channel == name]
        assert text in " ".join(s.text for s in own).lower()
        assert own[0].start == pytest.approx(start, abs=0.3)
        assert own[-1].end == pytest.approx(end, abs=0.3)
        assert own[0].words[0].start == own[0].start
    assert [s.start for s in found.segments] == sorted(s.start for s in found.segments)
    assert found.text.startswith("channel 1: Thank you so much")
    assert "\nchannel 2: " in found.text
    named = transcribe(path, predictor, names=["agent", "customer"])
    assert named.channels == ("agent", "customer")
    assert named.segments[0].words == ()
    with pytest.raises(ConfigError, match="2 channels that differ, but 1 names"):
        transcribe(path, predictor, names=["agent"])
    # Each side is what it is alone.
    alone = tmp_path / "side.flac"
    soundfile.write(alone, channels[1], 16_000)
    (side,) = transcribe(alone, predictor).segments
    assert side.text == " ".join(s.text for s in found.segments if s.channel == "channel 2")


@needs(TINY)
def test_copies_are_one_channel(tmp_path: Path) -> None:
    audio = read_audio(real_rows(1)[0].path)
    silent = np.zeros_like(audio)
    for name, pair in (("copies", (audio, audio)), ("one side", (silent, audio))):
        path = tmp_path / f"{name}.wav"
        soundfile.write(path, np.stack(pair).T, 16_000)
        (track,) = read_tracks(path)
        assert np.abs(track - audio).max() < 1e-3
        assert len(read_tracks(path, "split")) == 2
        (mixed,) = read_tracks(path, "mix")
        assert np.abs(mixed - np.mean(pair, axis=0)).max() < 1e-3


@needs(TINY)
def test_a_term_is_heard_in_a_second_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    audio = read_audio(real_rows(1)[0].path)  # "thank you so much for it"
    predictor = SpeechPredictor(loaded(TINY), {}, options=SHORT)
    prompts: list[Any] = []

    def spy(base: Any, language: Any, prompt: Any = None) -> list[int]:
        prompts.append(prompt)
        return prefix_ids(base, language, prompt)

    monkeypatch.setattr("mmtune.speech.transcription.transcribe.prefix_ids", spy)
    plain, _ = listen(predictor, [audio])
    terms = TermIndex(["THANK YOU SO MUTCH", "electroencephalography"])
    texts: list[str] = []

    def second(*arguments: Any) -> list[Heard]:
        """The real passes; the second one then gets a text of its own."""
        heard = decode_safely(*arguments)
        if len(arguments) < 6:
            return heard
        texts.append(heard[0].text)
        return [replace(each, text="thank you so mutch, for bits!") for each in heard]

    monkeypatch.setattr("mmtune.speech.transcription.transcribe.decode_safely", second)
    monkeypatch.setattr("mmtune.speech.transcription.splice.SURE", 2.0)
    found, _ = listen(predictor, [audio], terms=terms, words=True)
    assert prompts[-1] == "THANK YOU SO MUTCH"
    assert texts[0].upper().startswith("THANK YOU SO M")  # the prompt is heard
    segments = found[0]
    (term,) = (term for segment in segments for term in segment.terms)
    assert (term.term, term.list, term.line) == ("THANK YOU SO MUTCH", None, 1)
    text = plain[0][0].text
    assert term.original == text[: len(term.original)] == "Thank you so much"
    assert segments[0].text[term.start : term.end] == term.term
    # All other words are the first pass's, and the words with times are the text's.
    assert " ".join(s.text for s in segments) == text.replace(term.original, term.term)
    words = [word for segment in segments for word in segment.words]
    assert (
        "".join(word.text for word in words).split()
        == text.replace(term.original, term.term).split()
    )
    # Where the first pass is sure, or the second goes wrong, the text stays.
    monkeypatch.setattr("mmtune.speech.transcription.splice.SURE", 0.0)
    assert listen(predictor, [audio], terms=terms)[0] == plain
    monkeypatch.setattr("mmtune.speech.transcription.splice.SURE", 2.0)
    monkeypatch.setattr(
        "mmtune.speech.transcription.transcribe.agrees", lambda first, second: False
    )
    assert listen(predictor, [audio], terms=terms)[0] == plain


def test_no_base_anywhere(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no base model is named"):
        open_predictor()
    (tmp_path / "adapter_config.json").write_text(json.dumps({}))
    with pytest.raises(ConfigError, match="no base model is named"):
        open_predictor(None, tmp_path)
