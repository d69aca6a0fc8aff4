"""Errors of a long transcript's times, early and late."""

from __future__ import annotations

import numpy as np
import pytest

from mmtune.metrics.text.drift import Drift, start_figures
from mmtune.predict import Prediction
from mmtune.speech.speech_row import SpeechRow

ROW = SpeechRow(id="r", audio="a", text="t")


def told(known: list[float], heard: list[float]) -> list[Prediction]:
    return [
        Prediction("r", "", {"known": k, "heard": h}) for k, h in zip(known, heard, strict=True)
    ]


@pytest.mark.parametrize("offset", [0.0, 0.7, -1.5])
@pytest.mark.parametrize("slope", [0.6, -0.6, 0.0, -12.0])
def test_times_that_run_ahead_drift_as_much_as_those_that_fall_behind(
    slope: float, offset: float
) -> None:
    """Both are worse than 0: against numpy's line."""
    known = [0.0, 31.0, 47.0, 180.0, 299.0]
    heard = [k + offset + slope * k / 60 for k in known]
    metric = Drift()
    drift = metric.reduce([metric.observe(ROW, each) for each in told(known, heard)])
    assert drift == pytest.approx(abs(slope), abs=1e-9)
    line = 60 * np.polyfit(known, np.subtract(heard, known), 1)[0]
    assert drift == pytest.approx(abs(line), abs=1e-9)
    assert not metric.higher_is_better


def test_a_start_that_is_early_counts_as_one_that_is_late() -> None:
    known, heard = [1.0, 2.0, 3.0, 4.0, 5.0], [0.5, 2.1, 2.8, 4.4, 5.0]
    median, late, _ = start_figures()
    for metric, expected in ((median, 0.2), (late, 0.48)):
        found = metric.reduce([metric.observe(ROW, each) for each in told(known, heard)])
        assert found == pytest.approx(expected)
        assert not metric.higher_is_better


def test_two_sentences_make_a_line_and_one_or_one_time_does_not() -> None:
    metric = Drift()
    two = [metric.observe(ROW, each) for each in told([10.0, 70.0], [10.0, 71.5])]
    assert metric.reduce(two) == pytest.approx(1.5)
    assert metric.reduce(two[:1]) is None
    same = [metric.observe(ROW, each) for each in told([10.0, 10.0], [10.0, 71.5])]
    assert metric.reduce(same) is None
