"""What a metric gave for base and adapter, with intervals; tables and bins beside it."""

from __future__ import annotations

from dataclasses import dataclass, field

from mmtune.metrics.bootstrap import Interval


@dataclass(frozen=True)
class Measure:
    """One metric of base and adapter (and of a control) on one slice of the items.

    `base` and `adapter` are estimates with intervals of their own; `difference` is
    adapter - base, resampled in pairs.
    """

    metric: str
    slice: str  # "test", "unseen terms", "general speech" …
    items: int
    base: Interval
    adapter: Interval
    difference: Interval
    higher_is_better: bool
    note: str = ""
    control: Interval | None = None  # an adapter trained on the same data without the subject
    # What the figures are read beside: real held-out images, other styles, shuffled prompts.
    references: dict[str, Interval] = field(default_factory=dict)
    # Where too few speakers, terms … stand behind the intervals: who, and the sign-flip test's p.
    few: str = ""
    p: float | None = None
    # Label and value, where the slice is one group of the items: ("accent", "indian").
    group: tuple[str, str] | None = None


@dataclass(frozen=True)
class Table:
    """What a reader has to know beside the figures.

    Attributes:
        title: what it is, and what follows from it.
        columns: of each row.
        rows: text.
    """

    title: str
    columns: list[str]
    rows: list[list[str]]


@dataclass(frozen=True)
class Bin:
    """Predictions of like confidence: how sure the model was, and how often it was right.

    Attributes:
        low, high: between which the confidences are.
        confidence: their mean.
        accuracy: share of them that is right.
        n: how many; never 0.
    """

    low: float
    high: float
    confidence: float
    accuracy: float
    n: int
