"""The page of two adapters: its first sentence, its names, and what it may show."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest

from mmtune.evaluation.comparison import Comparison
from mmtune.metrics.bootstrap import Interval
from mmtune.metrics.measure import Bin, Measure
from mmtune.pages.content import stricter
from mmtune.pages.pair import Pair, pair_sentence
from mmtune.pages.plots import calibration_plot, group_plots

PAIR = Pair("A", "B")
SYNTHETIC = "Measured on synthetic voices only."


def measure(
    metric: str, ours: float, theirs: float, gap: float = 0.01, *, higher: bool = False, **over: Any
) -> Measure:
    """A measure whose difference has an interval of `gap` at each side."""

    def around(value: float) -> Interval:
        return Interval(value, value - gap, value + gap)

    return Measure(metric, "test", 50, around(theirs), around(ours), around(ours - theirs), higher,
                   **over)  # fmt: skip


def counts(ours: int, theirs: int, total: int) -> dict[str, tuple[float, float]]:
    return {"adapter": (ours, total), "base": (theirs, total)}


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        (
            measure("WER", 0.15, 0.12, counts=counts(150, 120, 1000)),
            "A gets 15 words of 100 wrong, B 12: B is better.",
        ),
        (
            measure("WER", 0.121, 0.124, 0.02, counts=counts(121, 124, 1000)),
            "A gets 12.1 words of 100 wrong, B 12.4: no clear difference.",
        ),
        (
            measure("WER", 0.12, 0.12, counts=counts(12, 12, 100)),
            "A gets 12 words of 100 wrong, B 12: no clear difference.",
        ),
        (
            measure("term recall", 0.5, 0.25, higher=True, counts=counts(600, 300, 1200)),
            "Terms right: 600 of 1,200 with A, 300 with B: A is better.",
        ),
        (
            measure("style distance", 0.4, 0.5),
            "Style distance on test (lower is better): 0.400 with A, 0.500 with B: A is better.",
        ),
        (
            measure("WER", 0.5, 0.1, units=1),
            "WER on test (lower is better): 0.500 with A, 0.100 with B: no clear difference.",
        ),
        (measure("WER", math.nan, 0.1), "WER can't be measured."),
    ],
)
def test_the_first_sentence(found: Measure, expected: str) -> None:
    assert pair_sentence(Comparison("x", [found], ""), PAIR) == expected


def test_the_first_sentence_says_what_differs_and_on_what_it_was_measured() -> None:
    comparison = Comparison(
        "x", [measure("WER", 0.2, 0.1, counts=counts(20, 10, 100))], "", measured_on=SYNTHETIC
    )
    pair = Pair("mine", "yours", ("/home/me/base", "openai/whisper-small"))
    assert pair_sentence(comparison, pair) == (
        "mine gets 20 words of 100 wrong, yours 10: yours is better. The bases differ: mine is an "
        f"adapter of /home/me/base, yours of openai/whisper-small. {SYNTHETIC}"
    )
    hidden = pair_sentence(comparison, pair.without_names())
    assert "A is an adapter of a local folder, B of openai/whisper-small." in hidden
    assert "mine" not in hidden
    assert pair_sentence(Comparison("x", [], ""), PAIR) == "A and B: nothing was measured."


def test_plots_and_headings_name_the_adapters() -> None:
    bins = {"base": [Bin(0, 1, 0.7, 0.5, 9)], "adapter": [Bin(0, 1, 0.7, 0.7, 9)]}
    names = Pair("rank-32", "rank-8").names
    named = calibration_plot(bins, names)
    assert named is not None
    assert "rank-8 is off by 0.200" in named.note
    assert named.marks[1].tip.startswith("rank-32: confidence")
    assert [mark.kind for mark in named.marks] == ["base", "adapter"], "they keep their looks"
    groups = [
        replace(measure("WER", 0.2, 0.1), slice=f"test, site {name}", group=("site", name))
        for name in ("base camp", "valley")
    ]
    [by_site] = group_plots(groups, names)
    assert by_site.text.startswith("WER of rank-8 and rank-32 by site: base camp 0.100 to 0.200")
    assert by_site.marks[0].tip.startswith("base camp, rank-8:"), "labels of users stay"
    assert PAIR.heading("most gained") == "Where A is better"
    assert PAIR.heading("held-out captions") == "held-out captions"


def test_the_stricter_policy_holds() -> None:
    assert stricter("all", "generated") == stricter("generated", "all") == "generated"
    assert stricter("none", "generated") == "none"
