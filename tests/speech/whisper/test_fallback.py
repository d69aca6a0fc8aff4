"""What is decoded again, and what is taken in the end."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
import torch

from mmtune.speech.sound.read import read_audio
from mmtune.speech.whisper import fallback
from mmtune.speech.whisper.decode import DecodeOptions, Sampling, Spoken
from mmtune.speech.whisper.fallback import (
    TEMPERATURES,
    Heard,
    agrees,
    compression,
    decode_safely,
    failed,
    is_silence,
)
from mmtune.speech.whisper.labels import prefix_ids
from mmtune.speech.whisper.stages import AudioStage
from tests.speech.real import TINY, loaded, needs, real_rows

LOOP = " ".join(["and then it goes on"] * 20)


def heard(text: str = "a clear text", log: float = -0.3, silent: float = 0.0) -> Heard:
    return Heard((1,), text, log, silent, 0.0)


def test_criteria() -> None:
    assert compression(LOOP) > 2.4 > compression("We met at nine and spoke about the new plan.")
    assert not failed(heard())
    assert failed(heard(LOOP))
    assert failed(heard(log=-1.1))
    quiet = heard(log=-1.1, silent=0.7)
    assert is_silence(quiet)
    assert not failed(quiet)
    assert not is_silence(heard(silent=0.9))


def test_a_second_pass_must_say_as_much() -> None:
    first = heard("we gave her the drug in the morning")
    assert agrees(first, heard("we gave her metoprolol in the morning"))
    assert not agrees(first, heard(""))
    assert not agrees(first, heard("we gave"))
    assert agrees(first, heard("we gave her"))  # 3 of 8 words: half of them less one
    assert agrees(heard("yes"), heard("four words at once"))
    assert not agrees(heard("yes"), heard("and these are five words"))
    assert not agrees(first, heard(LOOP))
    assert not agrees(first, heard("we gave her " + "metoprolol apixaban " * 8, log=-2))


@needs(TINY)
def test_only_failed_rows_go_on(monkeypatch: pytest.MonkeyPatch) -> None:
    base = loaded(TINY)
    ids = {text: base.tokenizer.encode(text, add_special_tokens=False) for text in (LOOP, "fine")}
    calls: list[tuple[float, tuple[int, ...], int]] = []

    def decode(
        model: Any, hidden: Any, prefixes: Any, options: Any, sampling: Sampling | None
    ) -> Sequence[Spoken]:
        temperature = sampling.temperature if sampling else 0.0
        calls.append((temperature, sampling.seeds if sampling else (), len(prefixes)))
        rows = hidden[:, 0, 0].tolist()
        good = {0.0: [1], 0.2: [1], 0.4: [1, 0]}.get(temperature, [1, 0])
        return [
            Spoken(ids["fine"] if row in good else ids[LOOP], -temperature / 10 - 0.1, 0.0)
            for row in rows
        ]

    monkeypatch.setattr(fallback, "decode_scored", decode)
    states = torch.tensor([0.0, 1.0, 2.0]).view(3, 1, 1)
    found = decode_safely(base, states, [[1]] * 3, DecodeOptions(), ["a", "b", "c"])
    assert [call[2] for call in calls] == [3, 2, 2, 1, 1, 1]
    assert [call[0] for call in calls] == list(TEMPERATURES)
    assert [each.temperature for each in found] == [0.4, 0.0, 0.0]
    assert found[2].text == LOOP  # all fail: the likeliest
    # What is drawn for a row follows from its own content.
    seeds = [call[1] for call in calls[1:]]
    calls.clear()
    decode_safely(base, states[2:], [[1]], DecodeOptions(), ["c"])
    assert [call[1] for call in calls[1:]] == [each[-1:] for each in seeds]


@needs(TINY)
def test_a_loop_is_left_and_always_in_the_same_way() -> None:
    # On a window without silence behind it the third of these clips repeats itself.
    base = loaded(TINY)
    clip = read_audio(real_rows(3)[2].path)
    hidden = torch.stack(AudioStage(base).encode_audio([clip], 8))
    prefix = prefix_ids(base, None)
    options = DecodeOptions(max_new_tokens=60)  # three times the sentence
    (once,) = decode_safely(base, hidden, [prefix], options, ["x"])
    assert once.temperature > 0
    assert compression(once.text) <= 2.4
    assert decode_safely(base, hidden, [prefix], options, ["x"]) == [once]
