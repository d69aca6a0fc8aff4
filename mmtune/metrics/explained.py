"""What a stored figure counts and in what unit, found by its name: a view of the definitions."""

from __future__ import annotations

from typing import NamedTuple

from mmtune.errors import MmtuneError
from mmtune.metrics.gap import GroupGap, WorstGroup, gap_unit, worst_unit
from mmtune.metrics.registry import METRICS, registered

# Ends of names of figures that are made of another.
STRICT, GAP, WORST = ", strict", " gap", ", worst group"


class Explained(NamedTuple):
    """What a figure counts, and in what."""

    unit: str
    meaning: str
    says: str = ""


def _find(metric: str) -> Explained | None:
    if metric.endswith(STRICT):
        found = _find(metric.removesuffix(STRICT))
        said = "Here only the list's own spelling counts."
        return found and found._replace(meaning=f"{found.meaning} {said}")
    name = registered(metric)
    if name is None and metric.endswith(WORST):
        return Explained(worst_unit(metric.removesuffix(WORST)), WorstGroup.meaning)
    if name is None and metric.endswith(GAP):
        return Explained(gap_unit(metric.removesuffix(GAP)), GroupGap.meaning)
    if name is None:
        return None
    try:
        known = METRICS.find(name)
        return Explained(known.unit, known.meaning, getattr(known, "says", ""))
    except (MmtuneError, AttributeError):  # a broken plugin must not keep a report from its reader
        return None


def explain(metric: str) -> str:
    """What a metric counts, in a sentence; empty for one that isn't known here."""
    found = _find(metric)
    return found.meaning if found else ""


def unit_of(metric: str) -> str:
    """The label of a metric's axis: its unit, else its name."""
    found = _find(metric)
    return found.unit if found else metric


def sentence_of(metric: str) -> str:
    """The sentence that says a metric's result in words (`Metric.says`); empty if it has none."""
    found = _find(metric)
    return found.says if found else ""
