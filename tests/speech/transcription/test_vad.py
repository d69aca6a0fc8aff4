"""Windows of speech: nothing lost, nothing heard twice, times that lead back to the recording."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mmtune.speech.sound.read import SAMPLE_RATE, read_audio
from mmtune.speech.transcription.vad import Window, find_speech, windows
from tests.speech.real import real_rows


@st.composite
def stretches(draw: st.DrawFn) -> list[tuple[int, int]]:
    place, found = 0, []
    for _ in range(draw(st.integers(0, 12))):
        place += draw(st.integers(1600, 8 * SAMPLE_RATE))
        last = place + draw(st.integers(1600, 12 * SAMPLE_RATE))
        found.append((place, last))
        place = last
    return found


@settings(max_examples=40, deadline=None)
@given(stretches(), st.integers(0, 3 * SAMPLE_RATE), st.sampled_from([4.0, 10.0, 30.0]))
def test_speech_is_in_one_window_each(
    speech: list[tuple[int, int]], tail: int, longest: float
) -> None:
    length = (speech[-1][1] if speech else 0) + tail
    audio = np.arange(length, dtype=np.float32)  # each sample is its own place
    found = windows(audio, longest, speech)
    places = np.concatenate([w.audio(audio) for w in found] or [np.zeros(0)])
    assert (np.diff(places) > 0).all()  # in order, and none twice
    for window in found:
        assert 0 < len(window.audio(audio)) <= longest * SAMPLE_RATE
        assert all(a < b for a, b in window.pieces)
    heard = set(places.astype(int).tolist())
    for first, last in speech:
        assert {first, (first + last) // 2, last - 1} <= heard
    held = [span for window in found for span in window.speech]
    assert held[0][0] == speech[0][0] if speech else not held
    assert sum(b - a for a, b in held) == sum(b - a for a, b in speech)


def test_long_silence_is_left_out_and_times_lead_back() -> None:
    rate = SAMPLE_RATE
    speech = [(1 * rate, 2 * rate), (int(2.5 * rate), 3 * rate), (13 * rate, 15 * rate)]
    (window,) = windows(np.zeros(20 * rate, np.float32), 30.0, speech)
    assert window.pieces == (
        (int(0.6 * rate), int(3.4 * rate)),
        (int(12.6 * rate), int(15.4 * rate)),
    )
    assert (window.start, window.end) == (1.0, 15.0)
    assert window.clear == window.speech
    (sure,) = windows(np.zeros(20 * rate, np.float32), 30.0, speech, [(rate * 5 // 4, 2 * rate)])
    assert (sure.pieces, sure.start, sure.end) == (window.pieces, 1.25, 2.0)
    assert window.times(0.5, 1.0) == pytest.approx((1.1, 1.6))
    assert window.times(2.8 + 0.6, 2.8 + 1.1) == pytest.approx((13.2, 13.7))
    # A word that attention stretches into silence ends where the speech does.
    assert window.times(0.0, 1.0) == pytest.approx((1.0, 1.6))
    assert window.times(2.1, 2.8 + 0.4) == pytest.approx((2.7, 3.0))
    assert window.times(2.7, 2.8 + 1.3) == pytest.approx((13.0, 13.9))


def test_speech_is_found_and_torch_keeps_its_threads() -> None:
    # In a process of its own: importing silero_vad is what takes the threads, once.
    code = (
        "import numpy, torch; torch.set_num_threads(2)\n"
        "from mmtune.speech.transcription.vad import find_speech\n"
        "find_speech(numpy.zeros(16000, numpy.float32))\n"
        "print(torch.get_num_threads())"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["2"]
    clip = read_audio(real_rows(1)[0].path)
    silence = np.zeros(2 * SAMPLE_RATE, np.float32)
    found, clear = find_speech(np.concatenate([silence, clip, silence, clip, silence]))
    assert len(found) == len(clear) == 2
    assert all(a <= c < d <= b for (a, b), (c, d) in zip(found, clear, strict=True))
    seconds = len(clip) / SAMPLE_RATE
    for (first, last), offset in zip(found, (2.0, 4.0 + seconds), strict=True):
        assert offset <= first / SAMPLE_RATE < last / SAMPLE_RATE <= offset + seconds + 0.1
    assert find_speech(np.zeros(5 * SAMPLE_RATE, np.float32)) == [[], []]
    assert find_speech(np.zeros(0, np.float32)) == [[], []]


def test_a_window_of_nothing_overlapping_keeps_its_times() -> None:
    window = Window(((0, 16_000),), ((12_000, 15_000),), ((12_000, 15_000),))
    assert window.times(0.1, 0.2) == (0.1, 0.2)
