"""What the decoder loop says of its own certainty, and sampling."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mmtune.speech.sound.read import read_audio
from mmtune.speech.whisper.decode import (
    SPOKEN,
    DecodeOptions,
    Sampling,
    decode,
    decode_scored,
    most_ids,
)
from mmtune.speech.whisper.labels import prefix_ids
from mmtune.speech.whisper.stages import AudioStage
from tests.speech.real import TINY, loaded, needs, real_rows

LIMIT = 24


@pytest.fixture(scope="module")
def hidden() -> torch.Tensor:
    clips = [read_audio(row.path) for row in real_rows(3)]
    return torch.stack(AudioStage(loaded(TINY)).encode_audio(clips, 8))


def by_hand(prefix: list[int], ids: list[int], heard: torch.Tensor) -> tuple[torch.Tensor, float]:
    """Log probabilities and no-speech probability from one pass of transformers' model."""
    base = loaded(TINY)
    generation = base.model.generation_config
    whole = torch.tensor([[*prefix, *ids]])
    with torch.no_grad():
        logits = base.model(
            decoder_input_ids=whole, encoder_outputs=(heard[None],), use_cache=False
        ).logits[0]
    start = prefix.index(base.ids["startoftranscript"])
    silent = base.tokenizer.convert_tokens_to_ids("<|nocaptions|>")
    no_speech = float(logits[start].softmax(-1)[silent])
    logits = logits[len(prefix) - 1 :]
    logits[:, generation.suppress_tokens] = -torch.inf
    logits[0, generation.begin_suppress_tokens] = -torch.inf
    chosen = [*ids, base.ids["endoftext"]]
    scores = logits.log_softmax(-1)[torch.arange(len(chosen)), chosen]
    return scores, no_speech


@needs(TINY)
def test_probabilities_are_the_models_own(hidden: torch.Tensor) -> None:
    base = loaded(TINY)
    prefixes = [prefix_ids(base, None, prompt) for prompt in (None, "metoprolol")]
    hidden = hidden[:2]  # the third repeats itself, and has no end
    found = decode_scored(base.model, hidden, prefixes, DecodeOptions(max_new_tokens=LIMIT))
    for each, prefix, heard in zip(found, prefixes, hidden, strict=True):
        scores, no_speech = by_hand(prefix, each.ids, heard)
        assert each.log_probability == pytest.approx(float(scores.mean()), abs=1e-3)
        assert each.tokens == pytest.approx(scores[:-1].tolist(), abs=1e-3)
        assert each.no_speech == pytest.approx(no_speech, abs=1e-4)
    options = DecodeOptions(beams=3, max_new_tokens=LIMIT)
    (beam,) = decode_scored(base.model, hidden[:1], prefixes[:1], options)
    assert beam.no_speech == pytest.approx(found[0].no_speech, abs=1e-6)
    scores, _ = by_hand(prefixes[0], beam.ids, hidden[0])
    assert beam.tokens == pytest.approx(scores[:-1].tolist(), abs=0.05)
    # Beams count suppressed ids' probability too, so that theirs may be a little lower.
    assert beam.log_probability > found[0].log_probability - 0.05


@needs(TINY)
def test_a_sample_depends_on_its_seed_alone(hidden: torch.Tensor) -> None:
    base = loaded(TINY)
    prefix = prefix_ids(base, None)
    options = DecodeOptions(max_new_tokens=LIMIT)

    def sample(rows: list[int], seeds: tuple[int, ...], temperature: float) -> list[list[int]]:
        sampling = Sampling(temperature, seeds)
        each = [prefix] * len(rows)
        return [s.ids for s in decode_scored(base.model, hidden[rows], each, options, sampling)]

    together = sample([0, 1, 2], (5, 6, 7), 1.0)
    assert sample([0, 1, 2], (5, 6, 7), 1.0) == together
    assert sample([1], (6,), 1.0) == together[1:2]
    assert sample([2, 0], (7, 5), 1.0) == [together[2], together[0]]
    assert sample([0, 1, 2], (8, 9, 10), 1.0) != together
    # Close to zero it is the greedy search.
    assert sample([0, 1, 2], (5, 6, 7), 1e-4) == decode(base.model, hidden, [prefix] * 3, options)
    with pytest.raises(ValueError, match="1 seeds"):
        sample([0, 1], (1,), 1.0)


@given(st.floats(0, 30), st.floats(0, 30), st.integers(1, 448))
def test_longer_clips_may_say_more_and_none_more_than_asked(
    one: float, other: float, most: int
) -> None:
    short, long = sorted((one, other))
    assert 1 <= most_ids(short, most) <= most_ids(long, most) <= most
    # What the fastest of real speech takes (6 ids a second) always has room.
    assert most_ids(long) >= min(SPOKEN, 6 * long + 16)
    assert most_ids(30) == SPOKEN
