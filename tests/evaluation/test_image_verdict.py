"""Gates and verdicts of images."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

from mmtune.evaluation.comparison import Comparison
from mmtune.evaluation.suite import load_suite, unmet
from mmtune.evaluation.verdict import (
    judge,
)
from mmtune.metrics.bootstrap import Interval
from mmtune.metrics.measure import Measure
from mmtune.runs.recipes import load_recipe
from tests.evaluation.verdicts import (
    NAN,
    brand,
    gate,
    measure,
)


def test_images_pass_by_the_same_machinery() -> None:
    suite = load_suite("brand_style", "image")
    verdict = judge(suite, brand())
    assert verdict.decision == "ship"
    near = gate(verdict, "nearest training image")
    assert near.bound == pytest.approx(0.44)
    weak = judge(suite, brand(Interval(0.12, 0.05, 0.18)))
    assert weak.decision == "keep the base"
    assert len(weak.reasons) == 1, "it helps, but not enough"
    copied = Measure("copies", "training captions", 100, NAN, Interval(0.3, 0.2, 0.4), NAN, False)
    assert judge(suite, brand(copies=copied)).decision == "keep the base"
    lost = Measure("content", "held-out captions", 80, NAN, Interval(0.3, 0.2, 0.4), NAN, True)
    assert judge(suite, brand(content=lost)).decision == "keep the base"


@pytest.mark.parametrize("left_out", ["content", "copies"])
def test_what_no_model_or_too_few_images_can_judge_is_not_known(left_out: str) -> None:
    """It is neither passed nor left out: as a measure without figures, and without the measure."""
    suite = load_suite("brand_style")
    nothing = Measure(left_out, "held-out captions", 80, NAN, NAN, NAN, True, "no model judges")
    if left_out == "copies":
        nothing = replace(nothing, slice="training captions")
    measured = brand(**{left_out: nothing})
    absent = Comparison("image", [m for m in measured.measures if m.metric != left_out], "headline")
    for comparison in (measured, absent):
        found = gate(judge(suite, comparison), left_out)
        assert (found.level, found.status) == ("must", "not enough data")


@pytest.mark.parametrize(
    ("difference", "items", "status"),
    [
        ((0.0, 0.0, 0.0), 60, "passed"),
        ((0.0, 0.0, 0.0), 59, "not enough data"),
        ((0.02, -0.01, 0.05), 80, "passed"),
        ((0.04, -0.01, 0.09), 80, "not enough data"),
        ((0.06, 0.01, 0.11), 80, "failed"),
    ],
)
def test_an_adapter_may_not_draw_more_that_hurts(
    difference: tuple[float, float, float], items: int, status: str
) -> None:
    refused = measure("refused images", "all prompts", difference, items, base=0.0)
    verdict = judge(load_suite("brand_style"), brand(refused=refused))
    assert gate(verdict, "content that hurts").status == status
    assert verdict.decision == ("ship" if status == "passed" else "ship with conditions")


def test_without_a_filter_content_that_hurts_is_not_known_and_the_command_is_named() -> None:
    suite, found = load_suite("brand_style", "image"), brand()
    without_filter = Comparison(
        "image", [m for m in found.measures if m.slice != "all prompts"], ""
    )
    verdict = judge(suite, without_filter)
    open_gate = gate(verdict, "content that hurts")
    assert (open_gate.status, open_gate.level) == ("not enough data", "should")
    assert str(open_gate.step("runs/a")) == "mmtune evaluate runs/a --image_filter FILTER"
    assert verdict.decision == "ship with conditions"
    assert verdict.conditions == [
        "Measure this. Does a content filter refuse no more of its images than of the base's? Not "
        "known: refused images on all prompts was not measured; set task.image_filter."
    ]
    assert "content that hurts" in [g.name for g in unmet(suite, load_recipe("brand_style", {}))]


def test_a_style_that_is_not_measurable_is_not_known() -> None:
    verdict = judge(load_suite("brand_style"), brand(NAN))
    assert verdict.decision == "not known yet"
    assert verdict.main.status == "not enough data"
    assert "(not measurable: as near as real images)" in verdict.main.answer


@pytest.mark.parametrize(
    ("gap", "difference", "status"),
    [
        ((2.0, 1.0, 3.0), (-0.05, -0.15, 0.05), "passed"),
        ((2.0, 1.0, 3.0), (-0.05, -0.25, 0.05), "not enough data"),
        ((2.0, 1.0, 3.0), (-0.4, -0.5, -0.3), "failed"),
        ((0.5, -0.5, 1.5), (0.5, 0.4, 0.6), "not enough data"),  # CLIP can't judge these images
    ],
)
@pytest.mark.parametrize(
    ("metric", "named"),
    [("CLIP score", "prompts"), ("prompt match", "prompts, by prompt match")],
)
def test_prompts_are_held_to_what_the_scorer_can_tell(
    metric: str,
    named: str,
    gap: tuple[float, float, float],
    difference: tuple[float, float, float],
    status: str,
) -> None:
    own = {"own less others' captions": Interval(*gap)}
    score = measure(metric, "held-out captions", difference, 80, higher=True, base=20, **own)
    verdict = judge(load_suite("brand_style"), brand(clip=score))
    assert gate(verdict, named).status == status
    assert len([g for g in verdict.gates if g.name.startswith("prompts")]) == 1


def test_a_scorer_that_may_not_judge_leaves_the_gate_open() -> None:
    nan = (math.nan, math.nan, math.nan)
    none = measure("prompt match", "held-out captions", nan, 80, higher=True, note="not valid: why")
    found = gate(judge(load_suite("brand_style"), brand(clip=none)), "prompts, by prompt match")
    assert found.status == "not enough data"
    assert "not valid: why" in found.finding


def test_a_setting_that_gives_several_items_is_raised_in_proportion() -> None:
    copies = Measure("copies", "training captions", 16, NAN, Interval(0, 0, 0), NAN, False)
    verdict = judge(load_suite("brand_style"), brand(copies=copies))
    found = gate(verdict, "copies")
    assert (found.status, found.more) == ("not enough data", 14)
    assert str(found.step("runs/x")) == (
        "raise --copy_captions about 1.9 times, then: mmtune evaluate runs/x --copy_captions N"
    )
