"""May this adapter be shipped? Gates on a comparison's intervals, and what follows from them.

A gate passes on evidence, not on absence of it: the end of the interval that the suite names has to
lie within the bound. It fails where the figure itself doesn't. In between there is not enough data.
"""

from __future__ import annotations

import fnmatch
import json
import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pydantic import TypeAdapter

from mmtune.evaluate.comparison import Comparison
from mmtune.evaluate.suite import Gate, Level, Selector, Suite
from mmtune.metrics.bootstrap import Interval
from mmtune.metrics.measure import Measure
from mmtune.system.display import Displayed, Rows
from mmtune.system.files import write_text
from mmtune.system.formats import with_format, without_format

VERDICT_FILE = "verdict.json"
Status = Literal["passed", "failed", "not enough data"]
Decision = Literal["ship", "ship with conditions", "keep the base"]
ANSWERS: dict[Status, str] = {"passed": "yes", "failed": "no", "not enough data": "not known"}
MAIN_ITEMS = 10  # fewer can't show that an adapter helps
NONE_SEEN = 3.0  # Hanley and Lippman-Hand, JAMA 1983: 95 % upper end of no event in n is 3 / n
LEVEL = 0.05  # of the sign-flip test, where clusters are few
MOST_MORE = 1_000_000  # items; beyond that a number says nothing


@dataclass(frozen=True)
class GateResult:
    """What one gate found.

    Attributes:
        asks: the question; `finding` is what the answer rests on.
        figure: value and interval; None where it wasn't measured.
        bound: what it was held to, in the metric's units; None where it isn't defined.
        items: that were measured.
        more: items that a decision still needs, about; None where that can't be said.
        upward: whether the bound is the most that is allowed, not the least.
    """

    name: str
    level: Level
    status: Status
    asks: str
    finding: str
    metric: str
    slice: str
    of: str
    end: str
    figure: Interval | None = None
    bound: float | None = None
    items: int = 0
    more: int | None = None
    upward: bool | None = None

    @property
    def allowed(self) -> str:
        """What the figure is held to, in words; empty where that isn't defined."""
        if self.bound is None:
            return ""
        upward = self.end != "lower" if self.upward is None else self.upward
        sign = "+" if self.of == "difference" and self.bound else ""
        what = "the figure itself" if self.end == "point" else f"the {self.end} end"
        return f"{what} {'at most' if upward else 'at least'} {self.bound:{sign}.3g}"

    @property
    def answer(self) -> str:
        """Yes, no or not known, and why."""
        return f"{ANSWERS[self.status].capitalize()}: {self.finding}."

    @property
    def sentence(self) -> str:
        """Question and answer."""
        return f"{self.asks} {self.answer}"


@dataclass(frozen=True)
class Verdict(Displayed):
    """What to do with an adapter, and why.

    Attributes:
        reasons: sentences, what decided first.
        conditions: what remains to be seen to before or while it is shipped.
        main: whether it helps; the gate of the suite's main measure.
    """

    decision: Decision
    suite: str
    reasons: list[str]
    conditions: list[str]
    main: GateResult
    gates: list[GateResult]

    @property
    def open(self) -> bool:
        """Whether a must-gate isn't passed: a figure that nobody took is no pass."""
        return self.decision == "keep the base" or any(
            gate.level == "must" and gate.status != "passed" for gate in self.gates
        )

    @property
    def summary(self) -> str:
        """What it comes to, in a sentence without figures."""
        if self.decision == "keep the base":
            broken = sum(g.level == "must" and g.status == "failed" for g in self.gates)
            if self.main.status != "passed":
                return "it isn't shown to be better than the base"
            return f"it helps, but {broken} of the {_musts(self.gates)} required checks failed"
        if not self.conditions:
            return f"better than the base, and all {len(self.gates)} checks passed"
        count = len(self.conditions)
        return (
            f"better than the base, and no required check failed; {count} of {len(self.gates)} "
            f"{'is' if count == 1 else 'are'} open"
        )

    def lines(self) -> list[str]:
        """For the terminal: the decision, and one line for each gate."""
        width = max(len(answer) for answer in ANSWERS.values())
        return [
            f"verdict  {self.decision}   (suite {self.suite})",
            *(
                f"  {ANSWERS[gate.status]:<{width}}  {gate.level:<6}  {gate.asks} {gate.finding}"
                for gate in (self.main, *self.gates)
            ),
        ]

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        return self.to_json()

    def shown(self) -> Iterable[str | Rows]:
        """The decision, and one line for each gate."""
        return self.lines()

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values."""
        values: dict[str, Any] = _ADAPTER.dump_python(self, mode="json")
        return values

    @staticmethod
    def from_json(values: dict[str, Any]) -> Verdict:
        """The inverse of `to_json`."""
        return _ADAPTER.validate_python(values)


def _musts(gates: Sequence[GateResult]) -> int:
    return sum(gate.level == "must" for gate in gates)


def judge(suite: Suite, comparison: Comparison) -> Verdict:
    """Hold a comparison to a suite.

    "ship": every gate passes, and the main measure improves by an interval that excludes 0. "ship
    with conditions": so it does, no must-gate fails, but some gate fails or lacks data. "keep the
    base": anything else.
    """
    main = _main(suite, comparison)
    gates = [result for gate in suite.gates for result in _results(gate, comparison)]
    broken = [g for g in gates if g.level == "must" and g.status == "failed"]
    unsettled = [g for g in gates if g.status != "passed" and g not in broken]
    decision: Decision = "ship"
    if main.status != "passed" or broken:
        decision = "keep the base"
        decided = [g for g in (main, *broken) if g.status != "passed"]
    else:
        decided = [main, *(g for g in gates if g.level == "must" and g.status == "passed")]
        if unsettled:
            decision = "ship with conditions"
    return Verdict(
        decision=decision,
        suite=suite.name,
        reasons=[g.sentence for g in decided],
        conditions=[_condition(g) for g in unsettled],
        main=main,
        gates=gates,
    )


def more_items(items: int, value: float, end: float, bound: float) -> int | None:
    """How many more items would bring `end` to `bound`, if the figure stayed what it is.

    The half-width h = |end - value| of an interval shrinks with 1 / sqrt(n), so that of n items

        n_needed = n * (h / room)^2,    room = |bound - value|

    are needed. It assumes that further items are of the same kind and clustered alike, and that
    the figure doesn't move, which it will: take it as an order of magnitude.

    Returns:
        None where the figure stands on the bound, or a million wouldn't do.
    """
    room = abs(bound - value)
    if room == 0 or not math.isfinite(room):
        return None
    needed = items * (abs(end - value) / room) ** 2
    return max(1, math.ceil(needed) - items) if needed <= MOST_MORE else None


def _condition(gate: GateResult) -> str:
    if gate.status == "failed":
        return f"Accept this knowingly. {gate.sentence}"
    when = "Find out before shipping." if gate.level == "must" else "Find out."
    return f"{when} {gate.sentence}"


def _matching(selector: Selector, comparison: Comparison) -> Iterator[Measure]:
    for measure in comparison.measures:
        if measure.metric == selector.metric and (
            measure.slice == selector.slice
            or ("*" in selector.slice and fnmatch.fnmatchcase(measure.slice, selector.slice))
        ):
            yield measure


def _main(suite: Suite, comparison: Comparison) -> GateResult:
    found = [m for selector in suite.main for m in _matching(selector, comparison)]
    if not found:
        first = suite.main[0]
        gate = Gate(**dict(first), name="it helps", asks="Does it help?", at_least=0)
        return _unknown(gate, None, f"{first.metric} on {first.slice} was not measured")
    measure = found[0]
    higher = measure.higher_is_better
    gate = Gate(
        name="it helps",
        asks="Does it help?",
        metric=measure.metric,
        slice=measure.slice,
        end="lower" if higher else "upper",
        at_least=0 if higher else None,
        at_most=None if higher else 0,
        min_items=MAIN_ITEMS,
    )
    return _hold(gate, measure, strictly=True)


def _results(gate: Gate, comparison: Comparison) -> Iterator[GateResult]:
    found = list(_matching(gate, comparison))
    if not found and not gate.optional:
        yield _unknown(gate, None, f"{gate.metric} on {gate.slice} was not measured")
    for measure in found:
        yield _hold(gate, measure)


def _hold(gate: Gate, measure: Measure, strictly: bool = False) -> GateResult:
    """One gate on one measure.

    `strictly`: on the bound is not within it, and where clusters are too few for an interval of
    them, the sign-flip test has to agree.
    """
    figure: Interval = getattr(measure, gate.of)
    if not math.isfinite(figure.value):
        note = measure.note.rstrip(".")
        return _unknown(gate, measure, "it can't be measured" + (f" ({note})" if note else ""))
    if gate.events and figure.value == figure.low == figure.high == 0 and measure.items:
        reach = NONE_SEEN / measure.items
        figure = Interval(0.0, -reach if gate.of == "difference" else 0.0, reach)
    bound = _bound(gate, measure)
    what = f"{_what(gate, measure)} {_written(gate, figure)}"
    if bound is None:
        return _unknown(gate, measure, f"{what}; {gate.times!r} is no measure to hold it to here")
    upward = gate.at_most is not None
    end = {"lower": figure.low, "point": figure.value, "upper": figure.high}[gate.end]

    def within(value: float) -> bool:
        if value == bound:
            return not strictly
        return value < bound if upward else value > bound

    sign = "+" if gate.of == "difference" else ""
    if strictly:
        what += ", " + ("below" if upward else "above") + " 0 is better"
    else:
        what += f"; allowed {'up to' if upward else 'from'} {bound:{sign}.3g}"
        what += "" if upward else " on"
        if gate.end != "point":
            what += f" for the {gate.end} end"
    more: int | None = None
    status: Status = "passed"
    if measure.items < gate.min_items:
        status, more = "not enough data", gate.min_items - measure.items
        what += f". Of {measure.items} items this says little"
    elif not within(end):
        # The far end may lie beyond the bound while the figure doesn't: then more items may tell.
        status = "not enough data" if within(figure.value) else "failed"
        more = more_items(measure.items, figure.value, end, bound)
        if gate.events and figure.value == 0 and upward:
            more = math.ceil(NONE_SEEN / bound) - measure.items if bound > 0 else None
        if status == "failed":
            more = None
    if strictly and status == "passed" and measure.p is not None and measure.p > LEVEL:
        # Sentences of seven speakers say little of an eighth.
        status = "not enough data"
    if measure.few:
        test = "" if measure.p is None else f", sign-flip test p = {measure.p:.2g}"
        what += f"; {measure.few}{test}"
    if status == "not enough data" and more is not None:
        what += f". About {more:,} more items would tell ({measure.items} were measured"
        what += f"; {gate.items_from} says how many)" if gate.items_from else ")"
    return GateResult(
        name=gate.name if "*" not in gate.slice else f"{gate.name}: {measure.slice}",
        level=gate.level,
        status=status,
        asks=gate.asks,
        finding=what,
        metric=measure.metric,
        slice=measure.slice,
        of=gate.of,
        end=gate.end,
        figure=figure,
        bound=bound,
        items=measure.items,
        more=more,
        upward=upward,
    )


def _bound(gate: Gate, measure: Measure) -> float | None:
    """The threshold in the metric's units; None where what it is a multiple of isn't clear."""
    threshold = gate.at_most if gate.at_most is not None else gate.at_least
    assert threshold is not None
    if gate.times is None:
        return threshold
    unit = measure.base if gate.times == "base" else measure.references.get(gate.times)
    if unit is None or not math.isfinite(unit.value) or unit.low <= 0:
        return None
    return threshold * unit.value


def _unknown(gate: Gate, measure: Measure | None, why: str) -> GateResult:
    cure = f"; set {gate.needs}" if gate.needs is not None and measure is None else ""
    return GateResult(
        name=gate.name,
        level=gate.level,
        status="not enough data",
        asks=gate.asks,
        finding=f"{why}{cure}",
        metric=gate.metric,
        slice=measure.slice if measure else gate.slice,
        of=gate.of,
        end=gate.end,
        items=measure.items if measure else 0,
    )


def _what(gate: Gate, measure: Measure) -> str:
    named = f"{measure.metric} on {measure.slice}"
    return f"{named}, adapter less base," if gate.of == "difference" else f"{named}:"


def _written(gate: Gate, figure: Interval) -> str:
    sign = "+" if gate.of == "difference" else ""
    return f"{figure.value:{sign}.3f} [{figure.low:{sign}.3f}, {figure.high:{sign}.3f}]"


def read_verdict(folder: Path) -> Verdict | None:
    """The verdict in a run's folder, if there is one."""
    path = folder / VERDICT_FILE
    if not path.is_file():
        return None
    values = json.loads(path.read_text(encoding="utf-8"))
    return Verdict.from_json(without_format(values, path))


def write_verdict(folder: Path, verdict: Verdict) -> None:
    """Write `verdict.json`, atomically."""
    text = json.dumps(verdict.to_json(), indent=2, ensure_ascii=False)
    write_text(folder / VERDICT_FILE, with_format(text) + "\n")


_ADAPTER: TypeAdapter[Verdict] = TypeAdapter(Verdict)
