"""The axes of a plot: from values to coordinates, ticks, and places of labels."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from mmtune.pages.text_boxes import ASCENT, GAP, Box, box_of, cut, free_place, width_of

WIDTH, HEIGHT = 360, 210  # SVG units; drawn at about one CSS pixel each on a phone
LEFT, RIGHT, TOP, BOTTOM = 46, 14, 30, 46
TICK_GAP = 6  # between an axis and the labels at its left
LONG_NUMBER = 1e7  # from here on, ticks have powers of ten


@dataclass(frozen=True)
class Tick:
    """A tick on an axis.

    Attributes:
        place: a value, or its coordinate in the plot.
        label: its text.
        at: the coordinate of the label's middle; None: `place`.
    """

    place: float
    label: str
    at: float | None = None


@dataclass(frozen=True)
class Mark:
    """A point of a plot; base and adapter differ in shape and colour."""

    kind: str  # "base", "adapter", "control"
    x: float
    y: float
    tip: str
    chosen: bool = False  # drawn with a ring
    size: float = 4.0


@dataclass(frozen=True)
class Label:
    """A text beside the point that it names."""

    x: float
    y: float
    text: str
    anchor: str = "start"
    kind: str = ""


class Frame:
    """Converts values to coordinates inside a plot's axes."""

    def __init__(
        self, x: tuple[float, float], y: tuple[float, float], *, left: float | None = None
    ) -> None:
        self.x, self.y = x, y
        widest = max((width_of(t.label) for t in nice_ticks(*y)), default=0.0)
        self.left = max(LEFT, math.ceil(widest) + TICK_GAP) if left is None else left

    def across(self, value: float) -> float:
        """The horizontal coordinate of a value."""
        low, high = self.x
        share = (value - low) / (high - low) if high > low else 0.5
        return round(self.left + share * (WIDTH - self.left - RIGHT), 1)

    def down(self, value: float) -> float:
        """The vertical coordinate of a value, from the top."""
        low, high = self.y
        share = (value - low) / (high - low) if high > low else 0.5
        return round(HEIGHT - BOTTOM - share * (HEIGHT - TOP - BOTTOM), 1)

    def x_ticks(self, least: float = 0.0, most: int = 4) -> list[Tick]:
        """Ticks whose labels don't meet: as many as `most` gives, or fewer."""
        for number in range(most, 0, -1):
            found = [self._x_tick(t) for t in nice_ticks(*self.x, least=least, most=number)]
            if all(apart(a, b) for a, b in pairwise(found)):
                break
        kept: list[Tick] = []
        for tick in found:
            if not kept or apart(kept[-1], tick):
                kept.append(tick)
        return kept

    def _x_tick(self, tick: Tick) -> Tick:
        place, half = self.across(tick.place), width_of(tick.label) / 2
        return Tick(place, tick.label, round(min(place, max(WIDTH - half, half)), 1))

    def y_ticks(self) -> list[Tick]:
        """Ticks of the vertical axis."""
        return [Tick(self.down(t.place), t.label) for t in nice_ticks(*self.y)]

    def labels(self, wanted: Sequence[Label], marks: Sequence[Mark], first: int = 0) -> list[Label]:
        """Give labels places beside their points, apart from each other.

        Args:
            wanted: labels at their points.
            marks: all points.
            first: index of the most important label, which chooses before the others.

        Returns:
            Those that have a place, in order; the others are left out.
        """
        area = Box(self.left + 2, TOP - ASCENT, WIDTH, HEIGHT - BOTTOM + 4)
        points = [Box(m.x - 4, m.y - 4, m.x + 4, m.y + 4) for m in marks]
        placed: dict[int, Label] = {}
        for index in sorted(range(len(wanted)), key=lambda i: i != first):
            label = wanted[index]
            taken = [box_of(p.x, p.y, p.text, p.anchor, bold=True) for p in placed.values()]
            text = cut(label.text, (WIDTH - self.left) / 2)
            found = free_place(label.x, label.y, text, area, taken, points)
            if found is not None:
                x, y, anchor = found
                placed[index] = Label(x, y, text, anchor, label.kind)
        return [placed[index] for index in sorted(placed)]


def apart(first: Tick, second: Tick) -> bool:
    """Whether the labels of two neighbouring ticks below an axis don't meet."""
    room = (second.at or second.place) - (first.at or first.place)
    return room >= (width_of(first.label) + width_of(second.label)) / 2 + GAP


def nice_ticks(low: float, high: float, most: int = 4, least: float = 0.0) -> list[Tick]:
    """Choose round numbers (1, 2 or 5 times a power of ten) in [low, high] as ticks.

    Args:
        low: lower end; finite.
        high: upper end; finite, not below `low`.
        most: the most ticks, minus 1.
        least: smallest distance between ticks; 1 for values that are whole numbers.
    """
    raw = max((high - low) / most, least, 1e-12 * max(abs(low), abs(high)), 1e-300)
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(m * power for m in (1, 2, 5, 10) if m * power >= raw * (1 - 1e-9))
    places = max(0, -math.floor(math.log10(step) + 1e-9))
    values = [
        k * step for k in range(math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9) + 1)
    ]
    largest = max(abs(low), abs(high))
    if places < 6 and largest < LONG_NUMBER:
        return [Tick(v, f"{v:,.{places}f}") for v in values]
    digits = math.floor(math.log10(largest) + 1e-9) - math.floor(math.log10(step) + 1e-9)
    digits = min(max(0, digits), 15)  # those of a float
    return [Tick(v, f"{v:.{digits}e}" if v else "0") for v in values]
