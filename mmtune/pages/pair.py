"""The words of a page that compares two adapters: the other adapter stands in the base's place."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from mmtune.config import Content
from mmtune.evaluation.comparison import Comparison
from mmtune.metrics.explained import sentence_of
from mmtune.metrics.measure import Measure
from mmtune.pages.figures import reading
from mmtune.pages.redact import redact_base

WRONG = "Wrong "  # what begins a sentence that counts errors (`Metric.says`)
# Headings of examples that are chosen by result, in a comparison of base and adapter.
HEADINGS = {
    "most gained": "Where {adapter} is better",
    "most lost": "Where {base} is better",
    "still most wrong": "Where {adapter} gets most wrong",
}


@dataclass(frozen=True)
class Pair:
    """Two adapters that were compared.

    Attributes:
        adapter: name of the adapter.
        other: name of the one that stands in the base's place.
        bases: the bases of both, if they differ.
        content: what the other one's run allows a page to show.
    """

    adapter: str
    other: str
    bases: tuple[str, str] | None = None
    content: Content = "all"

    @property
    def names(self) -> dict[str, str]:
        """The names by the sides of a comparison."""
        return {"adapter": self.adapter, "base": self.other}

    def heading(self, kind: str) -> str:
        """The heading of a kind of examples."""
        return HEADINGS.get(kind, kind).format(**self.names) if kind in HEADINGS else kind

    def without_names(self) -> Pair:
        """The pair where names of folders may not be shown."""
        bases = self.bases and (redact_base(self.bases[0]), redact_base(self.bases[1]))
        return replace(self, adapter="A", other="B", bases=bases)


def pair_sentence(comparison: Comparison, pair: Pair) -> str:
    """Say in words and counts which adapter is better, and on what it was measured.

    Examples:
        "B gets 12 words of 100 wrong, A 15: B is better. Measured on synthetic voices only."
    """
    if not comparison.measures:
        return f"{pair.adapter} and {pair.other}: nothing was measured."
    main = comparison.measures[0]
    if not math.isfinite(main.difference.value):
        return f"{main.metric[0].upper()}{main.metric[1:]} can't be measured."
    found = {
        "better": f"{pair.adapter} is better",
        "worse": f"{pair.other} is better",
    }.get(reading(main), "no clear difference")
    bases = ""
    if pair.bases is not None:
        ours, theirs = pair.bases
        bases = (
            f"The bases differ: {pair.adapter} is an adapter of {ours}, {pair.other} of {theirs}."
        )
    parts = [f"{_values(main, pair)}: {found}.", bases, comparison.measured_on]
    return " ".join(filter(None, parts))


def _values(main: Measure, pair: Pair) -> str:
    label = sentence_of(main.metric).partition(":")[0]
    ours, theirs = main.counts.get("adapter"), main.counts.get("base")
    if label.startswith(WRONG) and ours and theirs:
        what = label.removeprefix(WRONG)
        first, second = _apart(100 * main.adapter.value, 100 * main.base.value)
        return f"{pair.adapter} gets {first} {what} of 100 wrong, {pair.other} {second}"
    if label and ours and theirs:
        return (
            f"{label}: {ours[0]:,.0f} of {ours[1]:,.0f} with {pair.adapter}, {theirs[0]:,.0f} "
            f"with {pair.other}"
        )
    side = "higher" if main.higher_is_better else "lower"
    first, second = _apart(main.adapter.value, main.base.value, 3)
    return (
        f"{main.metric[0].upper()}{main.metric[1:]} on {main.slice} ({side} is better): {first} "
        f"with {pair.adapter}, {second} with {pair.other}"
    )


def _apart(first: float, second: float, places: int = 0) -> tuple[str, str]:
    """Both numbers with as few decimals as tell them apart, 3 at most."""
    for decimals in range(places, 4):
        texts = f"{first:.{decimals}f}", f"{second:.{decimals}f}"
        if texts[0] != texts[1]:
            break
    return texts if first != second else (f"{first:.{places}f}", f"{second:.{places}f}")
