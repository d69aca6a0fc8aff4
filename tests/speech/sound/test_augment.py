"""Views of a clip: what each effect does to it, and that they follow from their seeds alone."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mmtune.speech.sound import augment
from mmtune.speech.sound.read import SAMPLE_RATE


def tone(seconds: float, hertz: float = 440.0) -> augment.Samples:
    time = np.arange(int(seconds * SAMPLE_RATE)) / SAMPLE_RATE
    return (0.3 * np.sin(2 * np.pi * hertz * time)).astype(np.float32)


def loudest_frequency(samples: augment.Samples) -> float:
    spectrum = np.abs(np.fft.rfft(samples * np.hanning(len(samples))))
    return float(np.argmax(spectrum) * SAMPLE_RATE / len(samples))


@pytest.mark.parametrize("speed", augment.SPEEDS)
def test_speed_changes_length_and_pitch(speed: float) -> None:
    changed = augment.change_speed(tone(2.0), speed)
    assert len(changed) == pytest.approx(2.0 * SAMPLE_RATE / speed, abs=2)
    assert loudest_frequency(changed) == pytest.approx(440 * speed, rel=0.01)


@given(st.floats(0.1, 40), st.integers(0, 2**40))
def test_no_view_is_longer_than_the_window(seconds: float, seed: int) -> None:
    speeds = augment.speeds_for(seconds, 30)
    assert 1.0 in speeds
    speed = augment.draw_speed(speeds, seed)
    assert speed in speeds
    assert speed >= 1 or seconds / speed <= 30


def test_a_room_decays() -> None:
    click = np.zeros(SAMPLE_RATE, np.float32)
    click[1000] = 0.5
    heard = augment.add_room(click, np.random.default_rng(3))
    assert len(heard) == len(click)
    assert np.allclose(heard[:1000], 0, atol=1e-6)
    early, late = np.square(heard[1001:3000]).mean(), np.square(heard[8000:10000]).mean()
    assert early > 100 * late


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**40), st.floats(0.2, 3))
def test_a_view_follows_from_its_seed(seed: int, seconds: float) -> None:
    clip = tone(seconds)
    once = augment.view(clip, 1.0, seed)
    assert np.array_equal(once, augment.view(clip, 1.0, seed))
    assert once.dtype == np.float32
    assert len(once) == len(clip)
    assert np.abs(once).max() <= 1.0
    assert not np.array_equal(once, augment.view(clip, 1.0, seed + 1))


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**40), st.integers(0, 300))
def test_masks_stay_within_the_clip(seed: int, frames: int) -> None:
    mel = torch.randn(80, 300, generator=torch.Generator().manual_seed(1))
    masked = augment.mask_mel(mel, frames, seed)
    assert torch.equal(masked[:, frames:], mel[:, frames:])
    hidden = masked != mel
    columns = int(hidden.all(0).sum())
    assert columns <= augment.TIME_MASKS * augment.TIME_SHARE * max(frames, 1)
    rows = int(hidden[:, :frames].all(1).sum()) if frames else 0
    assert rows <= augment.FREQUENCY_MASKS * augment.FREQUENCY_MASK
    assert torch.equal(masked, augment.mask_mel(mel, frames, seed))


def test_masks_hide_something() -> None:
    mel = torch.randn(80, 300, generator=torch.Generator().manual_seed(1))
    changed = [bool((augment.mask_mel(mel, 200, seed) != mel).any()) for seed in range(20)]
    assert sum(changed) >= 18


@pytest.mark.parametrize("seed", range(12))
def test_non_speech_is_quiet_and_finite(seed: int) -> None:
    noise = augment.silence(8000, np.random.default_rng(seed))
    assert noise.shape == (8000,)
    assert noise.dtype == np.float32
    assert np.isfinite(noise).all()
    assert np.sqrt(np.mean(noise**2)) < 10 ** (-24 / 20)


def test_room_tone_is_as_loud_as_the_quiet_places() -> None:
    rng = np.random.default_rng(0)
    clip = np.concatenate([tone(1.0), 0.001 * rng.standard_normal(SAMPLE_RATE).astype(np.float32)])
    between = augment.room_tone(clip, 8000, rng)
    assert np.sqrt(np.mean(between**2)) == pytest.approx(0.001, rel=0.15)
    assert len(augment.room_tone(clip[:5], 100, rng)) == 100


def test_a_background_has_the_ratio_that_was_asked_for() -> None:
    clip = tone(2.0)
    noise = augment.add_background(clip, 10.0, np.random.default_rng(0)) - clip
    ratio = 10 * np.log10(np.mean(clip**2) / np.mean(noise**2))
    assert ratio == pytest.approx(10.0, abs=0.01)
    silent = np.zeros(8000, np.float32)
    assert np.array_equal(augment.add_background(silent, 10.0, np.random.default_rng(0)), silent)


def test_masks_leave_torchs_random_numbers_alone() -> None:
    state = torch.get_rng_state()
    augment.mask_mel(torch.randn(80, 300, generator=torch.Generator()), 200, seed=1)
    assert torch.equal(torch.get_rng_state(), state)
