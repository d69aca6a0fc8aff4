"""Our decoder loop gives `generate()`'s tokens, on real speech."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from mmtune.speech.sound.read import read_audio
from mmtune.speech.whisper.base import WhisperBase
from mmtune.speech.whisper.decode import DecodeOptions, decode, detect_language
from mmtune.speech.whisper.labels import prefix_ids
from mmtune.speech.whisper.stages import AudioStage
from tests.speech.real import BASE, TINY, loaded, needs, real_rows

LIMIT = 24
PROMPT = "metoprolol, apixaban"


def encoded(base: WhisperBase, count: int, window: int = 8) -> torch.Tensor:
    """Encoder outputs of real clips on one window."""
    clips = [read_audio(row.path) for row in real_rows(count)]
    return torch.stack(AudioStage(base).encode_audio(clips, window))


def generate(
    base: WhisperBase, hidden: torch.Tensor, given: int, **options: Any
) -> list[list[int]]:
    """transformers' new tokens, without prefix, end token and padding."""
    from transformers.modeling_outputs import BaseModelOutput

    ids = base.model.generate(
        encoder_outputs=BaseModelOutput(last_hidden_state=hidden), max_new_tokens=LIMIT, **options
    )
    start, end = base.ids["startoftranscript"], base.ids["endoftext"]
    found = []
    for row in ids.tolist():
        new = row[given:] if row[0] in (start, base.ids["startofprev"]) else row
        found.append(new[: new.index(end)] if end in new else new)
    return found


@needs(TINY)
@pytest.mark.parametrize("beams", [1, 5])
def test_english_only(beams: int) -> None:
    base = loaded(TINY)
    hidden = encoded(base, 5)
    prefix = prefix_ids(base, None)
    options = DecodeOptions(beams=beams, max_new_tokens=LIMIT)
    ours = decode(base.model, hidden, [prefix] * 5, options)
    assert ours == generate(base, hidden, len(prefix), num_beams=beams)
    assert all(ours)
    assert len({len(ids) for ids in ours}) > 1  # rows end at different steps


@needs(TINY)
def test_with_times() -> None:
    base = loaded(TINY)
    clips = [read_audio(row.path) for row in real_rows(3)]
    hidden = torch.stack(AudioStage(base, "padded").encode_audio(clips, 30))
    prefix = prefix_ids(base, None, timestamps=True)
    options = DecodeOptions(max_new_tokens=LIMIT, timestamps=True)
    ours = decode(base.model, hidden, [prefix] * 3, options)
    for clip, ids in zip(clips, ours, strict=True):
        features = base.feature_extractor(clip, sampling_rate=16_000, return_tensors="pt")
        theirs = base.model.generate(
            features.input_features, return_timestamps=True, max_new_tokens=LIMIT
        )
        # `generate` goes on in the same window after the last time; that isn't the decoder's part.
        new = [i for i in theirs[0].tolist() if i not in prefix]
        assert new[: len(ids)] == ids
        stamps = [i for i in ids if i > base.ids["notimestamps"]]
        assert len(stamps) >= 2
        assert stamps == sorted(stamps)
        assert base.text_of(ids)
        assert "<|" not in base.text_of(ids)


@needs(BASE)
@pytest.mark.parametrize(
    ("language", "beams"), [("en", 1), ("de", 1), pytest.param("en", 5, marks=pytest.mark.slow)]
)
def test_multilingual(language: str, beams: int) -> None:
    base = loaded(BASE)
    hidden = encoded(base, 3)
    prefix = prefix_ids(base, language)
    options = DecodeOptions(beams=beams, max_new_tokens=LIMIT)
    ours = decode(base.model, hidden, [prefix] * 3, options)
    theirs = generate(
        base, hidden, len(prefix), num_beams=beams, language=language, task="transcribe"
    )
    assert ours == theirs


@needs(TINY)
def test_padded_window_from_the_audio_on() -> None:
    base = loaded(TINY)
    clip = read_audio(real_rows(1)[0].path)
    mel = base.feature_extractor(clip, sampling_rate=16_000, return_tensors="pt").input_features
    hidden = torch.stack(AudioStage(base).encode_audio([clip], 30))
    assert torch.equal(hidden, base.model.model.encoder(mel).last_hidden_state)
    prefix = prefix_ids(base, None)
    ours = decode(base.model, hidden, [prefix], DecodeOptions(max_new_tokens=LIMIT))
    (theirs,) = base.model.generate(mel, max_new_tokens=LIMIT).tolist()
    assert ours[0] == [i for i in theirs if i not in {*prefix, base.ids["endoftext"]}]


@needs(TINY)
@pytest.mark.parametrize("beams", [1, 3])
def test_each_row_has_its_own_prompt(beams: int) -> None:
    base = loaded(TINY)
    hidden = encoded(base, 3)
    prompts = [None, PROMPT, "thank you"]
    prefixes = [prefix_ids(base, None, prompt) for prompt in prompts]
    assert len({len(prefix) for prefix in prefixes}) == 3
    options = DecodeOptions(beams=beams, max_new_tokens=LIMIT)
    together = decode(base.model, hidden, prefixes, options)
    for i, prompt in enumerate(prompts):
        more = {}
        if prompt:
            more["prompt_ids"] = base.tokenizer.get_prompt_ids(prompt, return_tensors="pt")
        alone = generate(base, hidden[i : i + 1], len(prefixes[i]), num_beams=beams, **more)
        assert [together[i]] == alone


@needs(BASE)
def test_language_is_heard() -> None:
    base = loaded(BASE)
    hidden = encoded(base, 3)
    from transformers.modeling_outputs import BaseModelOutput

    theirs = base.model.detect_language(
        encoder_outputs=BaseModelOutput(last_hidden_state=hidden),
        generation_config=base.model.generation_config,
    )
    names = base.tokenizer.convert_ids_to_tokens(theirs.tolist())
    assert detect_language(base.model, hidden) == [name.strip("<|>") for name in names]


@needs(TINY)
def test_a_limit_ends_rows_and_beams() -> None:
    base = loaded(TINY)
    hidden = encoded(base, 2)
    prefix = prefix_ids(base, None)
    for beams in (1, 4):
        short = decode(base.model, hidden, [prefix] * 2, DecodeOptions(beams, max_new_tokens=3))
        assert [len(ids) for ids in short] == [3, 3]
        own = decode(base.model, hidden, [prefix] * 2, DecodeOptions(beams, (2, 5)))
        assert [len(ids) for ids in own] == [2, 5]
        if beams == 1:
            assert [ids[:3] for ids in own] == [short[0][:2], short[1]]
    with pytest.raises(ValueError, match="no room"):
        decode(base.model, hidden[:1], [[1] * 448], DecodeOptions())
    with pytest.raises(ValueError, match="1 prefixes"):
        decode(base.model, hidden, [prefix], DecodeOptions())
