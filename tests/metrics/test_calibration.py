"""Calibration of word confidence, against sums by hand and scipy's Mann-Whitney U."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from scipy import stats

from mmtune.evaluation.comparison import Comparison
from mmtune.metrics.measure import Bin
from mmtune.metrics.text.aligned import align_words, written_places
from mmtune.metrics.text.calibration import (
    BINS,
    BrierScore,
    CalibrationError,
    ErrorRanking,
    judged_words,
)
from mmtune.predict import Prediction
from mmtune.speech.evaluation.items import Item
from mmtune.speech.evaluation.measures import measures, reliability
from mmtune.speech.speech_options import SpeechOptions
from mmtune.speech.speech_row import SpeechRow


def row(text: str, name: str = "r") -> SpeechRow:
    return SpeechRow(id=name, audio="a", text=text)


def heard(*words: tuple[str, float]) -> Prediction:
    text = "".join(word for word, _ in words).strip()
    return Prediction("r", text, {"words": [list(word) for word in words]})


def random_items(words: int, seed: int) -> tuple[list[tuple[SpeechRow, Prediction]], np.ndarray,
                                                np.ndarray]:  # fmt: skip
    rng = np.random.default_rng(seed)
    confidences = rng.beta(5, 1, words).round(4)
    right = rng.random(words) < confidences**2
    pairs = []
    for some in np.array_split(np.arange(words), words // 5):
        said = [f"word{'abcdefghij'[i % 10]}" for i in some]
        written = [(f" {w if right[i] else 'other'}", confidences[i])
                   for w, i in zip(said, some, strict=True)]  # fmt: skip
        pairs.append((row(" ".join(said)), heard(*written)))
    return pairs, confidences, right


def test_a_word_is_right_where_the_alignment_says_so() -> None:
    found = judged_words(
        row("the patient won't take it"),
        heard((" The", 0.9), (" patience", 0.4), (",", 0.7), (" won't", 0.8), (" take", 0.6)),
        "en",
    )
    # "won't" is scored as "will not": both words have its confidence; the comma is no word.
    assert found[0].tolist() == [0.9, 0.4, 0.8, 0.8, 0.6]
    assert found[1].tolist() == [True, False, True, True, True]


def test_joined_words_keep_a_confidence_and_silence_has_none() -> None:
    confidences, right = judged_words(
        row("take 21 pills"),
        heard((" Take", 0.9), (" twenty", 0.5), (" one", 0.6), (" pills.", 0.7)),
        "en",
    )
    assert right.tolist() == [True] * 3
    assert confidences[[0, 2]].tolist() == [0.9, 0.7]
    assert confidences[1] in (0.5, 0.6)
    assert len(judged_words(row("nothing is heard"), Prediction("r", ""), "en")[0]) == 0
    assert written_places([], ["word"], "en") == [None]
    assert list(align_words([], ["a"])) == [(None, 0, False)]


def test_the_error_is_that_of_bins_counted_by_hand() -> None:
    pairs, confidences, right = random_items(400, 1)
    metric = CalibrationError()
    found = [metric.observe(*pair) for pair in pairs]
    expected, bins = 0.0, []
    for i in range(BINS):
        inside = (confidences > i / BINS) & (confidences <= (i + 1) / BINS)
        if inside.any():
            bins.append((int(inside.sum()), confidences[inside].mean(), right[inside].mean()))
            expected += abs(bins[-1][1] - bins[-1][2]) * inside.mean()
    assert metric.reduce(found) == pytest.approx(expected)
    assert [(b.n, b.confidence, b.accuracy) for b in metric.bins(found)] == [
        (n, pytest.approx(c), pytest.approx(a)) for n, c, a in bins
    ]
    brier = BrierScore()
    assert brier.reduce([brier.observe(*pair) for pair in pairs]) == pytest.approx(
        np.mean((confidences - right) ** 2)
    )
    assert metric.reduce([metric.observe(row("x"), Prediction("r", ""))]) is None


def test_a_bin_includes_its_upper_limit() -> None:
    """As in Guo et al.: (low, high]. No confidence is left out, 0 and 1 neither."""
    edges = [i / BINS for i in range(BINS + 1)]
    metric = CalibrationError()
    for i, edge in enumerate(edges):
        found = metric.bins([metric.observe(row("yes"), heard((" yes", edge)))])
        place = max(i - 1, 0)
        assert [(b.low, b.high, b.n) for b in found] == [(place / BINS, (place + 1) / BINS, 1)]
        # A little more is the next bin's; a little less is still the same.
        for shift, other in ((1e-6, min(i, BINS - 1)), (-1e-6, place)):
            if 0 <= edge + shift <= 1:
                moved = metric.observe(row("yes"), heard((" yes", edge + shift)))
                assert metric.bins([moved])[0].low == pytest.approx(other / BINS)


@pytest.mark.parametrize("seed", [2, 3])
def test_ranking_is_mann_and_whitneys(seed: int) -> None:
    pairs, confidences, right = random_items(1500, seed)
    metric = ErrorRanking()
    u = stats.mannwhitneyu(confidences[right], confidences[~right]).statistic
    expected = u / (right.sum() * (~right).sum())
    assert metric.reduce([metric.observe(*pair) for pair in pairs]) == pytest.approx(
        expected, abs=1e-3
    )
    assert 0.6 < expected < 0.95
    perfect = heard((" yes", 0.9), (" no", 0.2))
    assert metric.reduce([metric.observe(row("yes maybe"), perfect)]) == 1
    assert metric.reduce([metric.observe(row("maybe no"), perfect)]) == 0
    assert metric.reduce([metric.observe(row("yes no"), perfect)]) is None


def test_figures_and_bins_stand_in_the_comparison() -> None:
    pairs, _, _ = random_items(100, 4)
    items = []
    for i, (each, base) in enumerate(pairs):
        sure = [[text, 1.0] for text, _ in base.details["words"]]
        adapter = Prediction("r", base.value, {"words": sure})
        items.append(Item(each, {"base": base, "adapter": adapter}, ("sentence", i)))
    found = {m.metric: m for m in measures(items, set(), set(), SpeechOptions())}
    # Whoever is always sure finds no error, and is wrong by the share of errors.
    assert found["AUROC of errors"].adapter.value == 0.5
    assert found["AUROC of errors"].difference.high < 0
    wrong = found["calibration error"].adapter.value
    assert wrong == pytest.approx(found["WER"].base.value)
    bins = reliability(items, "en")
    assert bins["adapter"] == [Bin(14 / 15, 1.0, 1.0, pytest.approx(1 - wrong), 100)]
    assert sum(each.n for each in bins["base"]) == 100
    comparison = Comparison("speech", list(found.values()), "", calibration=bins)
    values = json.loads(json.dumps(comparison.to_json()))
    assert set(values["calibration"]["base"][0]) == {"low", "high", "confidence", "accuracy", "n"}
    assert Comparison.from_json(values).calibration == bins
    untold = [Item(i.row, {m: Prediction("r", p.value) for m, p in i.heard.items()}, i.cluster)
              for i in items]  # fmt: skip
    assert reliability(untold, "en") == {}
    assert "calibration error" not in {
        m.metric for m in measures(untold, set(), set(), SpeechOptions())
    }
    assert not any(math.isnan(m.difference.value) for m in found.values())
