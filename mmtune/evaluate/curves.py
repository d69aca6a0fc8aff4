"""Geometry of small line charts, drawn by the report's template as inline SVG."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

WIDTH, HEIGHT = 360, 170
LEFT, RIGHT, TOP, BOTTOM = 50, 10, 10, 26
MOST_POINTS = 400


@dataclass(frozen=True)
class Tick:
    """A mark on an axis: its place (a value, or in SVG units) and its label."""

    place: float
    label: str


@dataclass(frozen=True)
class Chart:
    """One curve in SVG units (`WIDTH` x `HEIGHT`), with its axes' marks."""

    title: str
    points: str  # of a polyline
    dots: list[tuple[float, float, str]]  # x, y, tooltip; empty where there are too many
    x_ticks: list[Tick]
    y_ticks: list[Tick]
    last: str  # the final value, for readers of the text


def nice_ticks(low: float, high: float, most: int = 4, least: float = 0.0) -> list[Tick]:
    """Round numbers (1, 2 or 5 times a power of ten) within [low, high], at most `most` + 1.

    Args:
        low: finite.
        high: finite, not below `low`.
        least: smallest distance of two marks; 1 where only whole numbers make sense.
    """
    raw = max((high - low) / most, least, 1e-12 * max(abs(low), abs(high)), 1e-300)
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(m * power for m in (1, 2, 5, 10) if m * power >= raw * (1 - 1e-9))
    places = max(0, -math.floor(math.log10(step) + 1e-9))
    values = [
        k * step for k in range(math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9) + 1)
    ]
    return [Tick(v, f"{v:,.{places}f}" if places < 6 else f"{v:.2e}") for v in values]


def thin(points: Sequence[tuple[float, float]], most: int) -> list[tuple[float, float]]:
    """At most `most` points: means of equal runs of neighbours."""
    if len(points) <= most:
        return list(points)
    size = math.ceil(len(points) / most)
    runs = [points[i : i + size] for i in range(0, len(points), size)]
    return [(sum(x for x, _ in r) / len(r), sum(y for _, y in r) / len(r)) for r in runs]


def number(value: float) -> str:
    """Up to three significant digits, without a needless exponent."""
    if value != 0 and not 1e-3 <= abs(value) < 1e5:
        return f"{value:.1e}"
    return f"{value:.3g}" if abs(value) < 1000 else f"{value:,.0f}"


def chart(title: str, points: Sequence[tuple[float, float]]) -> Chart | None:
    """The chart of (step, value) points; None where fewer than one is finite."""
    finite = [(x, y) for x, y in points if math.isfinite(x) and math.isfinite(y)]
    if not finite:
        return None
    drawn = thin(finite, MOST_POINTS)
    xs, ys = [x for x, _ in drawn], [y for _, y in drawn]
    x_low, x_high = min(xs), max(xs)
    y_low, y_high = min(ys), max(ys)
    pad = (y_high - y_low) * 0.06 or abs(y_high) * 0.1 or 1.0
    y_low, y_high = y_low - pad, y_high + pad

    def across(x: float) -> float:
        share = (x - x_low) / (x_high - x_low) if x_high > x_low else 0.5
        return round(LEFT + share * (WIDTH - LEFT - RIGHT), 1)

    def down(y: float) -> float:
        share = (y - y_low) / (y_high - y_low)
        return round(HEIGHT - BOTTOM - share * (HEIGHT - TOP - BOTTOM), 1)

    few = len(drawn) <= 40
    return Chart(
        title=title,
        points=" ".join(f"{across(x)},{down(y)}" for x, y in drawn),
        dots=[(across(x), down(y), f"step {x:.0f}: {y:.4g}") for x, y in drawn] if few else [],
        x_ticks=[Tick(across(t.place), t.label) for t in nice_ticks(x_low, x_high, least=1.0)],
        y_ticks=[Tick(down(t.place), t.label) for t in nice_ticks(y_low, y_high)],
        last=number(finite[-1][1]),
    )
