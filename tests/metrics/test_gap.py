"""The gap between groups, and how often a language is recognised, by hand."""

from __future__ import annotations

import numpy as np
import pytest

from mmtune.metrics.gap import GroupGap, WorstGroup, gap_unit, worst_unit
from mmtune.metrics.metric import Stat
from mmtune.metrics.text.language import LanguageAccuracy
from mmtune.metrics.text.number_recall import LONG_NUMBERS, NUMBERS
from mmtune.metrics.text.wer import WordErrors
from mmtune.predict import Prediction
from mmtune.speech.speech_row import SpeechRow


def errors(wrong: int, words: int = 10) -> tuple[SpeechRow, Prediction]:
    said = [f"w{chr(97 + i)}" for i in range(words)]
    heard = ["other"] * wrong + said[wrong:]
    return SpeechRow(id="r", audio="a", text=" ".join(said)), Prediction("r", " ".join(heard))


def observed(metric: GroupGap | WorstGroup, *rows: tuple[str, int]) -> list[Stat]:
    found = []
    for name, wrong in rows:
        row, prediction = errors(wrong)
        found.append(metric.observe(row.model_copy(update={"id": name}), prediction))
    return found


def test_the_gap_is_between_the_worst_and_the_best_group() -> None:
    metric = GroupGap(WordErrors(), {"a1": 0, "a2": 0, "b1": 1, "b2": 1, "c1": 2})
    assert (metric.name, metric.unit) == ("WER gap", gap_unit("WER"))
    assert not metric.higher_is_better
    stats = observed(metric, ("a1", 1), ("a2", 3), ("b1", 5), ("b2", 4), ("c1", 3), ("none", 10))
    # 0.2, 0.45 and 0.3; the row without a group doesn't count.
    assert metric.reduce(stats) == pytest.approx(0.25)
    assert metric.reduce(stats[:2]) is None
    assert metric.reduce(stats[-1:]) is None
    assert metric.reduce([stats[0], stats[2]]) == pytest.approx(0.4)


def test_the_worst_group_is_the_one_with_most_errors() -> None:
    metric = WorstGroup(WordErrors(), {"a1": 0, "a2": 0, "b1": 1, "b2": 1, "c1": 2})
    assert (metric.name, metric.unit) == ("WER, worst group", worst_unit("WER"))
    assert not metric.higher_is_better
    stats = observed(metric, ("a1", 1), ("a2", 3), ("b1", 5), ("b2", 4), ("c1", 3), ("none", 10))
    assert (metric.worst(stats), metric.reduce(stats)) == (1, pytest.approx(0.45))
    # A resample in which another group is worse has the value of the group that was chosen.
    pinned = metric.pinned(stats)
    assert pinned(observed(metric, ("a1", 9), ("b1", 2), ("c1", 4))) == pytest.approx(0.2)
    assert pinned(stats[:2]) is None
    assert metric.reduce(stats[-1:]) is None
    assert metric.worst(stats[-1:]) is None
    assert metric.pinned(stats[-1:])(stats) == pytest.approx(0.45)


def test_where_higher_is_better_the_lowest_group_is_worst() -> None:
    metric = WorstGroup(LanguageAccuracy("en"), {"a": 0, "b": 1})
    rows = [SpeechRow(id=name, audio="x", text="word") for name in "ab"]
    stats = [
        metric.observe(row, Prediction(row.id, "word", {"heard": heard}))
        for row, heard in zip(rows, ("en", "de"), strict=True)
    ]
    assert metric.higher_is_better
    assert (metric.worst(stats), metric.reduce(stats)) == (1, 0.0)


def test_resamples_keep_the_two_groups_that_all_items_choose() -> None:
    metric = GroupGap(WordErrors(), {"a": 0, "b": 1, "c": 2})
    stats = observed(metric, ("a", 2), ("b", 6), ("c", 4))
    pinned = metric.pinned(stats)
    assert pinned(stats) == pytest.approx(0.4)
    # In this resample group c is worst, and a isn't best: b less a is still what counts.
    other = observed(metric, ("a", 5), ("b", 3), ("c", 9))
    assert pinned(other) == pytest.approx(-0.2)
    assert metric.reduce(other) == pytest.approx(0.6)
    # A resample without one of the two groups has no gap.
    assert pinned(stats[1:]) is None
    assert pinned(stats[:1] + stats[2:]) is None
    # Of one group alone no two can be chosen.
    assert metric.pinned(stats[:1])(stats) == pytest.approx(0.4)
    # Two groups that are equal have a gap of 0, not a group with itself.
    equal = observed(metric, ("a", 3), ("b", 3))
    assert metric.pinned(equal)(equal) == 0
    assert metric.pinned(equal)(observed(metric, ("a", 1), ("b", 2))) in (
        pytest.approx(0.1), pytest.approx(-0.1),
    )  # fmt: skip


def test_language_accuracy_is_a_share_of_rows() -> None:
    metric = LanguageAccuracy("de")
    rows = [
        SpeechRow(id="a", audio="a", text="x"), SpeechRow(id="b", audio="a", text="x"),
        SpeechRow(id="c", audio="a", text="x", language="fr"),
        SpeechRow(id="d", audio="a", text="x", language="fr"),
    ]  # fmt: skip
    stats = [
        metric.observe(row, Prediction(row.id, "", {"heard": heard}))
        for row, heard in zip(rows, ("de", "en", "fr", "de"), strict=True)
    ]
    assert metric.reduce(stats) == 0.5
    assert metric.reduce(stats[:1] + stats[2:3]) == 1
    assert metric.reduce(stats[:3]) == pytest.approx(2 / 3)
    assert metric.reduce([]) is None
    assert metric.higher_is_better


@pytest.mark.parametrize(
    ("spoken", "written", "numbers", "long"),
    [
        ("call 555 1234", "call 5551234", (1, 1), (1, 1)),
        ("code 12345", "code 12345", (1, 1), (0, 0)),  # five digits are no long number
        ("code 123456", "code 123456", (1, 1), (1, 1)),
        ("code 123 45", "code 12345", (0, 2), (0, 0)),
        ("code 123 456", "code 123 456", (1, 1), (1, 1)),
        ("account 123456", "account 123457", (0, 1), (0, 1)),
        ("room 7 of 7", "room 7", (1, 2), (0, 0)),
        ("room 7", "room 7 or 7", (1, 1), (0, 0)),
    ],
)
def test_numbers_are_counted_as_they_are_spoken(
    spoken: str, written: str, numbers: tuple[int, int], long: tuple[int, int]
) -> None:
    row = SpeechRow(id="r", audio="a", text=spoken)
    for metric, expected in ((NUMBERS, numbers), (LONG_NUMBERS, long)):
        found = metric.observe(row, Prediction("r", written))
        assert tuple(found) == expected, metric.name
        hits, count = expected
        assert metric.reduce([found, found]) == (hits / count if count else None)
        assert metric.higher_is_better
    assert np.isfinite(NUMBERS.observe(row, Prediction("r", ""))).all()
