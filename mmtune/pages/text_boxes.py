"""Where texts stand in a plot, so that none covers another: widths, boxes, and free places."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

SIZE = 13  # font size in SVG units
ASCENT, DESCENT = 12.5, 4.0  # of a line of text, above and below its baseline
BOLD = 1.13  # width of bold letters, in those of plain ones
# Widths in em of DejaVu Sans and Verdana, the widest of the fonts that systems use for pages.
NARROW, WIDE, UPPER, OTHER, IDEOGRAPH = 0.40, 1.0, 0.76, 0.65, 1.0
GAP = 4.0  # least distance of two texts on one line
FIRST_IDEOGRAPH = "\u1100"


def width_of(text: str, bold: bool = False) -> float:
    """An upper estimate of a text's width in SVG units, whichever font the page has."""
    ems = 0.0
    for letter in text:
        if letter >= FIRST_IDEOGRAPH and letter != "…":
            ems += IDEOGRAPH
        elif letter in "il.,:;|'!()[]fjrtI -":
            ems += NARROW
        elif letter in "mwMW@%…—":
            ems += WIDE
        else:
            ems += UPPER if letter.isupper() else OTHER
    return SIZE * ems * (BOLD if bold else 1)


def cut(text: str, width: float) -> str:
    """The text, or its beginning with an ellipsis if it is wider than `width`."""
    if width_of(text) <= width:
        return text
    while text and width_of(f"{text}…") > width:
        text = text[:-1]
    return f"{text.rstrip()}…"


def cut_apart(texts: Sequence[str], width: float) -> list[str]:
    """Cut texts to a width; those that would be alike lose their middle in place of their end."""
    found = [cut(text, width) for text in texts]
    alike = {text for text in found if found.count(text) > 1}
    for place, text in enumerate(texts):
        if found[place] != text and found[place] in alike:
            half = cut(text, width / 2)
            tail = text
            while tail and width_of(half + tail) > width:
                tail = tail[1:]
            found[place] = half + tail
    return found


@dataclass(frozen=True)
class Box:
    """A rectangle."""

    left: float
    top: float
    right: float
    bottom: float

    def meets(self, other: Box) -> bool:
        """Whether they overlap."""
        return (
            self.left < other.right
            and other.left < self.right
            and self.top < other.bottom
            and other.top < self.bottom
        )

    def within(self, other: Box) -> bool:
        """Whether it lies in the other one."""
        return (
            other.left <= self.left
            and other.top <= self.top
            and self.right <= other.right
            and self.bottom <= other.bottom
        )


def box_of(x: float, y: float, text: str, anchor: str, bold: bool = False) -> Box:
    """The box of a text whose baseline is at `y`; `anchor` is start, middle or end."""
    width = width_of(text, bold)
    left = x - {"start": 0.0, "middle": width / 2, "end": width}[anchor]
    return Box(left, y - ASCENT, left + width, y + DESCENT)


# Places of a label around its point, the best first: offset, and the label's anchor.
AROUND = (
    *((8, -6, "start"), (-8, -6, "end"), (8, 17, "start"), (-8, 17, "end")),
    *((0, -11, "middle"), (0, 22, "middle"), (12, 5, "start"), (-12, 5, "end")),
    *((8, -22, "start"), (-8, -22, "end"), (8, 33, "start"), (-8, 33, "end")),
)


def free_place(
    x: float, y: float, text: str, area: Box, taken: Iterable[Box], marks: Iterable[Box]
) -> tuple[float, float, str] | None:
    """A place for the label of a point, inside the area and apart from the labels so far.

    Args:
        x, y: the point.
        text: the label, in bold.
        area: where labels may stand.
        taken: boxes of other labels.
        marks: boxes of points; a place that covers none is preferred.

    Returns:
        x, baseline and anchor; None if no place is free.
    """
    others, points = list(taken), list(marks)
    free: list[tuple[int, int, int, int, str]] = []
    for across, down, anchor in AROUND:
        box = box_of(x + across, y + down, text, anchor, bold=True)
        if box.within(area) and not any(box.meets(other) for other in others):
            free.append(
                (sum(box.meets(point) for point in points), len(free), across, down, anchor)
            )
    if not free:
        return None
    _, _, across, down, anchor = min(free)
    return round(x + across, 1), round(y + down, 1), anchor
