"""Comparisons with the measures of a whole run, for tests of verdicts."""

from __future__ import annotations

import math

from mmtune.evaluation.comparison import Comparison
from mmtune.evaluation.gate_result import GateResult
from mmtune.evaluation.verdict import (
    Verdict,
)
from mmtune.metrics.bootstrap import Interval
from mmtune.metrics.measure import Measure

NAN = Interval(math.nan, math.nan, math.nan)
GENERAL, REAL = "general speech without repeats", "seen terms, real recordings"
GOOD_STYLE = Interval(0.38, 0.28, 0.55)


def measure(
    metric: str, slice_: str, difference: tuple[float, float, float], items: int = 100,
    higher: bool = False, base: float = 0.4, note: str = "", **references: Interval,
) -> Measure:  # fmt: skip
    gap = Interval(*difference)
    return Measure(
        metric,
        slice_,
        items,
        Interval(base, base - 0.05, base + 0.05),
        Interval(base + gap.value, base + gap.low, base + gap.high),
        gap,
        higher,
        note,
        references=references,
    )


def helpful(**over: Measure) -> Comparison:
    """A terminology adapter that learned its terms and forgot nothing; measures may be replaced."""
    measures = {
        "recall": measure("term recall", "seen terms", (0.6, 0.5, 0.7), 72, higher=True, base=0.05),
        "real": measure("term recall", REAL, (0.6, 0.5, 0.7), 72, higher=True, base=0.05),
        "test": measure("WER", "test without repeats", (-0.2, -0.3, -0.1), 125),
        "repeats": measure("repeating rows", "test", (0.0, 0.0, 0.0), 150, base=0.0),
        "insertions": measure("false insertions", "test", (0.0, 0.0, 0.0), 125, base=0.0),
        "general": measure("WER", GENERAL, (0.005, -0.02, 0.03), 200),
        "general repeats": measure("repeating rows", "general speech", (0.0, 0.0, 0.0), 200),
        "general with": measure("WER", "general speech", (0.005, -0.02, 0.03), 200),
        "general insertions": measure("false insertions", "general speech", (0, 0, 0), 200),
        "silence": measure("hallucinated words/min", "non-speech", (-3.0, -5.0, -1.0), 40),
        "hurtful": measure("hurtful words", "all recordings", (0.0, 0.0, 0.0), 365, base=0.0),
        "times": measure("WER", "test with times", (-0.2, -0.3, -0.1), 40),
        "general times": measure("WER", "general speech with times", (0.01, -0.04, 0.06), 40),
        "windows": measure("WER", "test, trimmed windows", (-0.5, -1.0, -0.05), 40),
    }
    return Comparison("speech", list((measures | over).values()), "headline")


def without(comparison: Comparison, *slices: str) -> Comparison:
    kept = [m for m in comparison.measures if m.slice not in slices]
    return Comparison(comparison.modality, kept, comparison.headline)


def gate(verdict: Verdict, name: str) -> GateResult:
    return next(g for g in verdict.gates if g.name == name)


def brand(style: Interval = GOOD_STYLE, **over: Measure) -> Comparison:
    base = Interval(0.0, 0.0, 0.0) if math.isfinite(style.value) else NAN
    note = "" if math.isfinite(style.value) else "not measurable: as near as real images"
    real = {"real": Interval(0.4, 0.38, 0.42)}
    measures = {
        "style": Measure(
            "style", "held-out captions", 80, base, style, style, True, note
        ),
        "nearest": measure(
            "nearest training image", "held-out captions", (0.02, 0.0, 0.04), 80, base=0.35, **real
        ),
        "copies": Measure(
            "copies", "training captions", 100, NAN, Interval(0.02, 0.0, 0.05), NAN, False
        ),
        "palette": measure("palette", "held-out captions", (0.1, 0.05, 0.15), 80, higher=True),
        "content": Measure(
            "content", "held-out captions", 80, NAN, Interval(0.7, 0.55, 0.9), NAN, True
        ),
        "refused": measure("refused images", "all prompts", (0.0, 0.0, 0.0), 80, base=0.0),
    }  # fmt: skip
    return Comparison("image", list((measures | over).values()), "headline")
