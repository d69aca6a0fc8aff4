"""Degraded rows: the ratio that is asked for, the same each time, and heard by every model."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from mmtune.evaluation.answers import StoredPredictor
from mmtune.predict import Prediction, Request
from mmtune.speech.evaluation.items import Item
from mmtune.speech.evaluation.measures import measures
from mmtune.speech.evaluation.robustness import CONDITIONS, DEGRADED, degrade_row, degraded
from mmtune.speech.sound import augment
from mmtune.speech.sound.read import SAMPLE_RATE, read_row
from mmtune.speech.speech_options import SpeechOptions
from tests.speech.real import TINY, loaded, needs, real_rows


def tone(seconds: float = 2.0) -> np.ndarray:
    time = np.arange(int(seconds * SAMPLE_RATE)) / SAMPLE_RATE
    swell = np.sin(2 * np.pi * 3 * time) ** 2
    return (0.2 * swell * np.sin(2 * np.pi * 440 * time)).astype(np.float32)


@pytest.mark.parametrize("snr", [20, 10, 5])
@pytest.mark.parametrize("kind", ["white noise", "babble"])
def test_the_ratio_is_the_one_that_is_named(kind: str, snr: int) -> None:
    clean = tone()
    heard = CONDITIONS[f"{kind} {snr} dB"](clean, np.random.default_rng(1)).astype(np.float64)
    assert len(heard) == len(clean)
    noise = heard - clean  # nothing here reaches full scale
    assert 10 * np.log10(np.mean(clean.astype(float) ** 2) / np.mean(noise**2)) == pytest.approx(
        snr, abs=0.01
    )


def test_loud_clips_are_turned_down_and_not_clipped() -> None:
    loud = (tone() * 4.9).astype(np.float32)
    heard = CONDITIONS["white noise 5 dB"](loud, np.random.default_rng(1))
    assert np.abs(heard).max() == pytest.approx(0.99)
    assert np.sum(np.abs(heard) > 0.98) < 20


def test_overdrive_cuts_the_loudest_samples() -> None:
    clipped = augment.overdrive(tone(), 0.05)
    assert np.mean(np.abs(clipped) == 1.0) == pytest.approx(0.05, abs=0.01)
    silent = np.zeros(100, np.float32)
    assert (augment.overdrive(silent, 0.05) == 0).all()


def test_a_row_sounds_the_same_each_time_and_unlike_others(tmp_path: Path) -> None:
    rows = real_rows(2)
    for name in CONDITIONS:
        first, again = (degrade_row(rows[0], name, tmp_path / each) for each in "ab")
        assert first.path.read_bytes() == again.path.read_bytes()
        assert (first.content, first.reference) == (again.content, rows[0].text)
        assert len(read_row(first)) == pytest.approx(len(read_row(rows[0])), abs=2)
    assert degrade_row(rows[1], "clipping", tmp_path).content != first.content


@needs(TINY)
def test_noise_costs_words_and_every_model_hears_the_same(tmp_path: Path) -> None:
    from mmtune.speech.transcription.predictor import SpeechPredictor

    rows = real_rows(3, step=40)
    predictor = SpeechPredictor(loaded(TINY), {}, windows="trimmed")
    heard = {"base": Prediction("", ""), "adapter": Prediction("", "")}
    items = [Item(row, heard, cluster=("sentence", row.text)) for row in rows]
    asked: list[Request] = []

    class Counting(SpeechPredictor):
        def predict(self, requests):  # type: ignore[no-untyped-def]
            asked.extend(requests)
            return predictor.predict(requests)

    counting = Counting.__new__(Counting)
    counting.__dict__ = predictor.__dict__
    options = SpeechOptions(robustness=2)
    active = {"base": {}, "adapter": {}}
    for _ in range(2):  # the second time all answers are there
        stored = StoredPredictor(tmp_path, "fingerprint", lambda: counting)
        found = list(degraded(stored, active, items, options, tmp_path))
        assert len(asked) == 2 * len(CONDITIONS)
    figures = {(m.metric, m.slice): m for m in measures([*items, *found], set(), set(), options)}
    pooled = figures["WER", DEGRADED]
    assert pooled.items == 2 * len(CONDITIONS)
    assert figures["WER", f"{DEGRADED}: babble 5 dB"].items == 2
    assert pooled.difference.value == 0
    assert {item.cluster for item in found} <= {item.cluster for item in items}
    assert figures["WER", f"{DEGRADED}: white noise 20 dB"].base.value < (
        figures["WER", f"{DEGRADED}: babble 5 dB"].base.value
    )
    assert list(degraded(stored, active, items, SpeechOptions(), tmp_path)) == []
