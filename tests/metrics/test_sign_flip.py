"""The sign-flip test, against scipy's."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from mmtune.evaluation.comparison import Comparison
from mmtune.metrics.bootstrap import EXACT_FLIPS, by_cluster, sign_flip
from mmtune.metrics.text.wer import WordErrors
from mmtune.predict import Prediction
from mmtune.speech.evaluation.items import Item
from mmtune.speech.evaluation.measures import measure
from mmtune.speech.speech_row import SpeechRow


def scipys(values: np.ndarray, resamples: float) -> float:
    found = stats.permutation_test(
        (values,), np.mean, permutation_type="samples", n_resamples=resamples, random_state=1
    )
    return float(found.pvalue)


@pytest.mark.parametrize("n", [2, 5, 8, EXACT_FLIPS])
@pytest.mark.parametrize("shift", [0.0, 0.7])
def test_few_differences_are_exact(n: int, shift: float) -> None:
    values = np.random.default_rng(n).normal(shift, 1, n).round(1)  # rounded: with ties
    assert sign_flip(list(values)) == pytest.approx(scipys(values, np.inf))


def test_many_are_near_and_the_same_each_time() -> None:
    values = np.random.default_rng(4).normal(0.35, 1, 30)
    p = sign_flip(list(values))
    assert p == sign_flip(list(values))
    assert p == pytest.approx(scipys(values, 20_000), abs=0.02)


def test_ends() -> None:
    assert sign_flip([]) is None
    assert sign_flip([0.0, 0.0, 0.0]) == 1
    assert sign_flip([-0.1] * 5) == 2 / 32
    assert sign_flip([0.1] * 40) == pytest.approx(1e-4)


def test_differences_are_of_whole_clusters() -> None:
    base = [np.array([1.0, 0, 0, 4]), np.array([1.0, 0, 0, 1]), np.array([0.0, 0, 0, 0])]
    adapter = [np.array([0.0, 0, 0, 4]), np.array([1.0, 0, 0, 1]), np.array([0.0, 0, 0, 0])]
    found = by_cluster(base, adapter, WordErrors().reduce, ["a", "a", "b"])
    assert found == pytest.approx([-0.2])


@pytest.mark.parametrize(
    ("speakers", "few", "p"),
    [(1, "speakers (1 of 20)", 1.0), (6, "speakers (6 of 20)", 2 / 64), (24, "", None)],
)
def test_a_measure_says_where_speakers_are_few(speakers: int, few: str, p: float | None) -> None:
    items = []
    for i in range(48):
        speaker = f"s{i % speakers}"
        row = SpeechRow(id=str(i), audio="a", text=f"word {i}", speaker=speaker)
        heard = {"base": Prediction(row.id, "other"), "adapter": Prediction(row.id, row.text)}
        cluster = ("speaker", speaker) if speakers >= 20 else ("sentence", row.text)
        items.append(Item(row, heard, cluster))
    found = measure(WordErrors(), "test", items)
    assert found.few == (f"not enough {few}" if few else "")
    assert found.p == p
    back = Comparison.from_json(Comparison("speech", [found], "").to_json()).measures[0]
    assert (back.few, back.p) == (found.few, found.p)
