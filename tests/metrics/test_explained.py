"""Every figure says what it counts and in what unit, at its definition."""

from __future__ import annotations

import ast
import importlib
import inspect
import pkgutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import mmtune.metrics
from mmtune.metrics.explained import explain, unit_of
from mmtune.metrics.gap import GroupGap, WorstGroup
from mmtune.metrics.registry import METRICS, make_metric
from mmtune.metrics.remembered import Remembered
from mmtune.metrics.text.critical_errors import KINDS, CriticalErrors
from mmtune.metrics.text.drift import start_figures
from mmtune.metrics.text.wer import WordErrors

ROOT = Path(__file__).parents[2]

# What comparisons of runs before this test hold by name alone.
STORED = (
    *("WER", "CER", "WER, strict", "term recall", "term recall, strict", "term precision"),
    *("term precision, strict", "false insertions", "formatted WER", "critical errors"),
    *("number errors", "dose errors", "negation errors", "side errors", "name errors"),
    *("AUROC of errors", "calibration error", "Brier score", "language accuracy", "WER gap"),
    "WER, worst group",
    *("start error, median s", "start error, 95th percentile s", "drift, s/min"),
    *("hallucinated words/min", "style", "style distance", "nearest training image", "copies"),
    *("palette", "diversity", "KID", "CMMD", "CLIP score", "prompt match"),
    *("wer", "loss", "style_distance"),  # keys of a log
)


def described(meaning: str, unit: str) -> bool:
    return meaning.endswith(".") and len(meaning.split()) >= 3 and bool(unit)


@pytest.mark.parametrize("name", STORED)
def test_a_stored_figure_is_explained_by_its_name(name: str) -> None:
    assert described(explain(name), unit_of(name))


def test_strict_figures_say_what_is_strict() -> None:
    assert explain("WER, strict").startswith(explain("WER"))
    assert "spelling" in explain("WER, strict")
    assert unit_of("WER, strict") == unit_of("WER")


@pytest.mark.parametrize("name", list(METRICS))
def test_a_registered_metric_carries_unit_and_meaning(name: str) -> None:
    metric: Any = METRICS[name]
    assert metric.name.replace("_", " ").casefold() == name.casefold()
    assert described(metric.meaning, metric.unit)
    assert (explain(name), unit_of(name)) == (metric.meaning, metric.unit)
    assert isinstance(metric.higher_is_better, bool)


def classes() -> Iterator[type]:
    for each in pkgutil.walk_packages(mmtune.metrics.__path__, "mmtune.metrics."):
        module = importlib.import_module(each.name)
        for _, found in inspect.getmembers(module, inspect.isclass):
            own = found.__module__ == each.name and not getattr(found, "_is_protocol", False)
            if own and callable(getattr(found, "reduce", None)) and hasattr(found, "observe"):
                yield found


def test_no_metric_of_the_package_is_left_out() -> None:
    found = {kind for kind in classes() if not kind.__name__.startswith("_")}
    assert len(found) > 12
    values = [METRICS[name] for name in METRICS]
    registered = {value if isinstance(value, type) else type(value) for value in values}
    assert found - registered == {GroupGap, WorstGroup, Remembered}  # made of another metric


def test_made_metrics_carry_them_too() -> None:
    made: list[Any] = [GroupGap(WordErrors(), {}), *start_figures()]
    made.append(WorstGroup(WordErrors(), {}))
    made += [CriticalErrors(kind=kind) for kind in (None, *KINDS)]
    for metric in made:
        assert described(metric.meaning, metric.unit)
        assert (explain(metric.name), unit_of(metric.name)) == (metric.meaning, metric.unit)


def test_figures_that_are_named_where_they_are_made_are_explained() -> None:
    named = {
        keyword.value.value
        for path in (ROOT / "mmtune").rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call)
        for keyword in node.keywords
        if keyword.arg == "metric" and isinstance(keyword.value, ast.Constant)
    }
    assert [name for name in named if not explain(str(name))] == []


def test_an_unknown_figure_goes_by_its_name() -> None:
    assert (explain("of a plugin that is gone"), unit_of("of a plugin that is gone")) == (
        "",
        "of a plugin that is gone",
    )


def test_a_metric_is_found_by_the_name_of_an_entry_point() -> None:
    assert make_metric("critical_errors").name == "critical errors"
    assert make_metric("WER").name == make_metric("wer").name == "WER"
