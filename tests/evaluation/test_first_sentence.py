"""The first sentence of ten kinds of run, written by hand first."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

from mmtune.evaluation.comparison import Comparison
from mmtune.evaluation.suite import load_suite
from mmtune.evaluation.verdict import judge
from mmtune.metrics.bootstrap import Interval
from mmtune.metrics.measure import Measure

SYNTHETIC = "Measured on synthetic voices only."
NAN = Interval(math.nan, math.nan, math.nan)


def counted(
    metric: str,
    slice_: str,
    base: int,
    adapter: int,
    total: int,
    *,
    higher: bool = False,
    **others: int,
) -> Measure:
    """A measure of counts, with intervals of two points around each share."""

    def around(value: float) -> Interval:
        return Interval(value, value - 0.02, value + 0.02)

    counts = {"base": base, "adapter": adapter, **others}
    return Measure(
        metric, slice_, 100, around(base / total), around(adapter / total),
        around((adapter - base) / total), higher,
        references={name: around(n / total) for name, n in others.items()},
        counts={name: (float(n), float(total)) for name, n in counts.items()},
        gained={name: around((n - base) / total) for name, n in others.items()},
        beyond={name: around((adapter - n) / total) for name, n in others.items()},
    )  # fmt: skip


def style(value: Interval, note: str = "") -> Measure:
    return Measure("style", "held-out captions", 40, Interval(0, 0, 0), value, value, True, note)


@pytest.mark.parametrize(
    ("suite", "measure", "on", "expected"),
    [
        (
            "terminology",
            counted("term recall", "seen terms", 5, 31, 120, higher=True),
            SYNTHETIC,
            "Terms right: 31 of 120, before 5. Measured on synthetic voices only.",
        ),
        (
            "terminology",
            counted("term recall", "seen terms", 5, 31, 120, higher=True),
            "Measured on 72 real recordings of 9 speakers.",
            "Terms right: 31 of 120, before 5. Measured on 72 real recordings of 9 speakers.",
        ),
        (
            "dialect",
            counted("WER", "test without repeats", 733, 412, 2903),
            "Measured on 300 real recordings of 30 speakers.",
            "Wrong words: 412 of 2,903, before 733. "
            "Measured on 300 real recordings of 30 speakers.",
        ),
        (
            "dialect",
            counted("WER", "test without repeats", 412, 733, 2903),
            "Measured on 40 real recordings of one speaker.",
            "Wrong words: 733 of 2,903, before 412. Measured on 40 real recordings of one speaker.",
        ),
        (
            "call_center",
            counted("cpWER", "calls", 476, 210, 1400),
            "Measured on 20 real calls.",
            "Words wrong or given to another speaker: 210 of 1,400, before 476. "
            "Measured on 20 real calls.",
        ),
        (
            "terminology",
            counted("term recall", "seen terms", 5, 5, 120, higher=True),
            "Measured on 125 recordings, 60 of them of synthetic voices.",
            "Terms right: 5 of 120, as before. "
            "Measured on 125 recordings, 60 of them of synthetic voices.",
        ),
        ("speech", None, "", "Nothing was measured that shows whether it helps."),
        (
            "brand_style",
            style(Interval(0.38, 0.28, 0.55)),
            "Measured on 40 captions of pictures that it wasn't trained on.",
            "Its pictures are 38 % of the way from the base's look to the brand's. "
            "Measured on 40 captions of pictures that it wasn't trained on.",
        ),
        (
            "brand_style",
            style(NAN, "5 held-out pictures are too few"),
            "",
            "Style can't be measured: 5 held-out pictures are too few.",
        ),
        (
            "terminology",
            counted(
                "term recall", "seen terms", 5, 31, 120, higher=True, **{"base + retrieval": 80}
            ),
            SYNTHETIC,
            "Terms right: 80 of 120 with base + retrieval, 31 with the adapter, 5 before. "
            "Measured on synthetic voices only.",
        ),
    ],
)
def test_ten_kinds_of_run(suite: str, measure: Measure | None, on: str, expected: str) -> None:
    comparison = Comparison(
        "x",
        [measure] if measure else [],
        "headline",
        measured_on=on,
        alternatives={"base + retrieval": "mmtune transcribe --base b --terms t.txt RECORDINGS"},
    )
    verdict = judge(load_suite(suite), comparison)
    assert verdict.first == expected
    assert verdict.lines()[1] == f"  {expected}"


@pytest.mark.parametrize(
    ("base", "adapter", "listed", "decision"),
    [
        (5, 31, 80, "no adapter needed"),
        (5, 80, 80, "no adapter needed"),  # the cheaper way wins
        (5, 81, 80, "not known yet"),  # it seems better, and its interval holds 0
        (5, 90, 80, "not known yet"),  # better than both; other checks lack data
        (5, 31, 6, "not known yet"),  # the list doesn't help for certain, so it is no rival
        (31, 5, 80, "no adapter needed"),
        (31, 5, 31, "keep the base"),
    ],
)
def test_the_adapter_is_held_to_the_list_too(
    base: int, adapter: int, listed: int, decision: str
) -> None:
    name = "base + retrieval"
    measure = counted(
        "term recall", "seen terms", base, adapter, 120, higher=True, **{name: listed}
    )
    use = "mmtune transcribe --base b --terms t.txt RECORDINGS"
    verdict = judge(
        load_suite("terminology"), Comparison("x", [measure], "", alternatives={name: use})
    )
    assert verdict.decision == decision
    if decision == "no adapter needed":
        assert [step.command for step in verdict.steps("runs/x")] == [use]
        assert verdict.exit_code == 1
    passed = verdict.main.status == "passed"
    assert passed == (adapter == 90 or (adapter, listed) == (31, 6))


def test_a_list_that_costs_other_words_is_no_rival() -> None:
    name = "base + retrieval"
    terms = counted("term recall", "seen terms", 5, 31, 120, higher=True, **{name: 80})
    words = counted("WER", "test without repeats", 100, 90, 1000, **{name: 130})
    verdict = judge(
        load_suite("terminology"), Comparison("x", [terms, words], "", alternatives={name: "use"})
    )
    assert (verdict.instead, verdict.main.status) == ("", "passed")


@pytest.mark.parametrize(("items", "instead"), [(3, ""), (9, ""), (10, "base + retrieval")])
def test_ten_items_make_a_rival(items: int, instead: str) -> None:
    """A way without an adapter needs as many items as an adapter."""
    name = "base + retrieval"
    terms = counted("term recall", "seen terms", 5, 31, 120, higher=True, **{name: 80})
    few = Comparison("x", [replace(terms, items=items)], "", alternatives={name: "use"})
    verdict = judge(load_suite("terminology"), few)
    assert verdict.instead == instead
    assert verdict.decision == ("no adapter needed" if instead else "not known yet")
