"""Encoder outputs on windows that follow from the clip alone."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from hypothesis import given
from hypothesis import strategies as st

from mmtune.errors import DataError
from mmtune.prefix.stage import part_key
from mmtune.speech.speech_row import SpeechRow
from mmtune.speech.whisper.stages import MARGIN, MAX_WINDOW, WINDOWS, AudioStage, window_of
from tests.speech.real import BASE, TINY, loaded, needs


def noise(folder: Path, seconds: float, name: str = "clip") -> SpeechRow:
    path = folder / f"{name}.flac"
    samples = np.random.default_rng(0).normal(0, 0.1, round(seconds * 16_000))
    soundfile.write(path, samples.astype(np.float32), 16_000)
    return SpeechRow(id=name, audio=str(path), text="x")


@given(st.floats(0, MAX_WINDOW))
def test_a_window_holds_the_clip_and_silence(seconds: float) -> None:
    window = window_of(seconds, "trimmed")
    assert window in WINDOWS
    assert window >= min(seconds + MARGIN, MAX_WINDOW)
    smaller = [w for w in WINDOWS if w < window]
    assert not smaller or smaller[-1] < seconds + MARGIN
    assert window_of(seconds, "padded") == MAX_WINDOW


@needs(TINY)
def test_too_long_names_row_and_cure(tmp_path: Path) -> None:
    row = noise(tmp_path, 31, "long")
    with pytest.raises(DataError, match=r"row 'long': .*31\.00 s is longer") as error:
        AudioStage(loaded(TINY)).window(row)
    assert "cut the recording" in error.value.cure


@needs(TINY)
def test_the_audio_is_padded_not_the_mel(tmp_path: Path) -> None:
    base = loaded(TINY)
    row = noise(tmp_path, 1)
    stage = AudioStage(base)
    (found,) = stage.encode([stage.part(row)])
    assert found["hidden"].shape == (WINDOWS[0] * 50, base.model.config.d_model)
    samples, _ = soundfile.read(row.audio, dtype="float32")
    longer = np.zeros(WINDOWS[0] * 16_000, np.float32)
    longer[: len(samples)] = samples
    (expected,) = stage.encode_audio([longer], WINDOWS[0])
    assert torch.equal(found["hidden"], expected)


@needs(TINY)
def test_a_value_does_not_depend_on_other_clips(tmp_path: Path) -> None:
    stage = AudioStage(loaded(TINY))
    clips = [np.full(8_000, value, np.float32) for value in (0.1, 0.2, 0.3)]
    together = stage.encode_audio(clips, 4)
    assert torch.equal(stage.encode_audio(clips[1:2], 4)[0], together[1])
    assert not torch.equal(together[0], together[1])


@needs(TINY, BASE)
def test_keys_name_all_that_matters(tmp_path: Path) -> None:
    tiny, other = loaded(TINY), loaded(BASE)
    row, second = noise(tmp_path, 1, "a"), noise(tmp_path, 1.5, "b")
    trimmed = AudioStage(tiny)
    keys = {
        part_key(stage, stage.part(r))
        for stage in (trimmed, AudioStage(tiny, "padded"), AudioStage(other))
        for r in (row, second)
    }
    assert len(keys) == 6
    moved = row.model_copy(update={"id": "c", "text": "y"})
    assert part_key(trimmed, trimmed.part(moved)) == part_key(trimmed, trimmed.part(row))
    assert trimmed.shape_key(trimmed.part(row)) == "4s"
    assert AudioStage(tiny, "padded").shape_key(trimmed.part(row)) == "30s"
