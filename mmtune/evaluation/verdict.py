"""The verdict on an adapter: apply a suite's gates to a comparison, and decide.

A gate passes only on evidence: the end of the interval that the suite names must lie within the
threshold. It fails if the value itself doesn't. In between there is not enough data.
"""

from __future__ import annotations

import fnmatch
import json
import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pydantic import TypeAdapter

from mmtune.evaluation.comparison import Comparison
from mmtune.evaluation.suite import Gate, Level, Selector, Suite
from mmtune.metrics.bootstrap import Interval
from mmtune.metrics.measure import Measure
from mmtune.system.display import Displayed, Rows
from mmtune.system.files import write_text
from mmtune.system.formats import with_format, without_format
from mmtune.system.stored import damaged, read_json_object

VERDICT_FILE = "verdict.json"
Status = Literal["passed", "failed", "not enough data"]
Decision = Literal["ship", "ship with conditions", "keep the base"]
ANSWERS: dict[Status, str] = {"passed": "yes", "failed": "no", "not enough data": "not known"}
MAIN_ITEMS = 10  # least number of items for the main measure
# Hanley and Lippman-Hand, JAMA 1983: with no event in n items, the 95 % upper end is 3 / n.
NO_EVENT_END = 3.0
SIGNIFICANCE = 0.05  # level of the sign-flip test, which is used with few clusters
MAX_NEEDED = 1_000_000  # items; a larger estimate is not reported


@dataclass(frozen=True)
class GateResult:
    """The result of one gate.

    Attributes:
        name, level, asks, metric, slice, of, end: as in the gate; `slice` is the measured one.
        status: whether the gate passed.
        finding: the figures that decide, in words.
        figure: value and interval; None if it wasn't measured.
        bound: the threshold in the metric's units; None if it isn't defined.
        items: number of items measured.
        more: estimated number of further items for a decision; None if it can't be estimated.
        upward: whether the threshold is an upper limit.
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
        """The threshold in words; empty if it isn't defined."""
        if self.bound is None:
            return ""
        upward = self.end != "lower" if self.upward is None else self.upward
        sign = "+" if self.of == "difference" and self.bound else ""
        what = "the value itself" if self.end == "point" else f"the {self.end} end"
        return f"{what} {'at most' if upward else 'at least'} {self.bound:{sign}.3g}"

    @property
    def answer(self) -> str:
        """The answer (yes, no or not known) with its reason."""
        return f"{ANSWERS[self.status].capitalize()}: {self.finding}."

    @property
    def sentence(self) -> str:
        """The question with its answer."""
        return f"{self.asks} {self.answer}"


@dataclass(frozen=True)
class Verdict(Displayed):
    """The decision on an adapter, with reasons.

    Attributes:
        decision: what to do with the adapter.
        suite: name of the suite.
        reasons: sentences that explain the decision, the most important first.
        conditions: sentences on checks that failed or lack data without stopping the adapter.
        main: result of the suite's main measure: whether the adapter helps.
        gates: results of all gates.
    """

    decision: Decision
    suite: str
    reasons: list[str]
    conditions: list[str]
    main: GateResult
    gates: list[GateResult]

    @property
    def open(self) -> bool:
        """Whether any required gate didn't pass; a gate without data didn't pass."""
        return self.decision == "keep the base" or any(
            gate.level == "must" and gate.status != "passed" for gate in self.gates
        )

    @property
    def summary(self) -> str:
        """The verdict in one sentence, without figures."""
        if self.decision == "keep the base":
            broken = sum(g.level == "must" and g.status == "failed" for g in self.gates)
            if self.main.status != "passed":
                return "the adapter isn't shown to be better than the base"
            required = sum(gate.level == "must" for gate in self.gates)
            return f"the adapter helps, but {broken} of {required} required checks failed"
        if not self.conditions:
            return f"better than the base, and all {len(self.gates)} checks passed"
        failed = sum(gate.status == "failed" for gate in self.gates)
        unknown = sum(gate.status == "not enough data" for gate in self.gates)
        counts = {"failed": failed, "lack data": unknown}
        found = [f"{n} of {len(self.gates)} checks {what}" for what, n in counts.items() if n]
        return f"better than the base, and no required check failed; {', '.join(found)}"

    def lines(self) -> list[str]:
        """Format the decision and all gates for the terminal, one gate per line."""
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
        """Convert the verdict to JSON values."""
        values: dict[str, Any] = _ADAPTER.dump_python(self, mode="json")
        return values

    @staticmethod
    def from_json(values: dict[str, Any]) -> Verdict:
        """Make a verdict from the values of `to_json`."""
        return _ADAPTER.validate_python(values)


def judge(suite: Suite, comparison: Comparison) -> Verdict:
    """Apply a suite to a comparison.

    Returns:
        "ship" if every gate passes, and the main measure improves with an interval that excludes 0.
        "ship with conditions" if it improves like that and no required gate fails, but some gate
        fails or lacks data. "keep the base" otherwise.
    """
    main = _main_result(suite, comparison)
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
    """Estimate how many more items would move `end` to `bound` if the value stayed the same.

    The half-width h = |end - value| of an interval shrinks with 1 / sqrt(n). The number needed is

        n_needed = n * (h / room)^2,    room = |bound - value|

    This assumes that new items resemble these, are clustered alike, and don't change the value. The
    value will change, so the estimate is only an order of magnitude.

    Args:
        items: number of items measured.
        value: the value.
        end: the end of its interval that must reach `bound`.
        bound: the threshold.

    Returns:
        The number of further items; None if the value equals the threshold, or if more than
        `MAX_NEEDED` items are needed.
    """
    room = abs(bound - value)
    if room == 0 or not math.isfinite(room):
        return None
    needed = items * (abs(end - value) / room) ** 2
    return max(1, math.ceil(needed) - items) if needed <= MAX_NEEDED else None


def _condition(gate: GateResult) -> str:
    if gate.status == "failed":
        return f"Decide whether you accept this. {gate.sentence}"
    when = "Measure this before shipping." if gate.level == "must" else "Measure this."
    return f"{when} {gate.sentence}"


def _matching(selector: Selector, comparison: Comparison) -> Iterator[Measure]:
    for measure in comparison.measures:
        if measure.metric == selector.metric and (
            measure.slice == selector.slice
            or ("*" in selector.slice and fnmatch.fnmatchcase(measure.slice, selector.slice))
        ):
            yield measure


def _main_result(suite: Suite, comparison: Comparison) -> GateResult:
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
    return _apply(gate, measure, strictly=True)


def _results(gate: Gate, comparison: Comparison) -> Iterator[GateResult]:
    found = list(_matching(gate, comparison))
    if not found and not gate.optional:
        yield _unknown(gate, None, f"{gate.metric} on {gate.slice} was not measured")
    for measure in found:
        yield _apply(gate, measure)


def _apply(gate: Gate, measure: Measure, strictly: bool = False) -> GateResult:
    """Apply one gate to one measure.

    With `strictly`, a value equal to the threshold isn't within it, and the sign-flip test must
    agree if the clusters are too few for an interval.
    """
    figure: Interval = getattr(measure, gate.of)
    if not math.isfinite(figure.value):
        note = measure.note.rstrip(".")
        return _unknown(
            gate, measure, f"{measure.metric} can't be measured" + (f" ({note})" if note else "")
        )
    if gate.events and figure.value == figure.low == figure.high == 0 and measure.items:
        reach = NO_EVENT_END / measure.items
        figure = Interval(0.0, -reach if gate.of == "difference" else 0.0, reach)
    bound = _bound(gate, measure)
    what = f"{_title(gate, measure)}: {_format(gate, figure)}"
    if bound is None:
        return _unknown(
            gate, measure, f"{what}; the threshold, a multiple of {gate.times!r}, isn't defined"
        )
    upward = gate.at_most is not None
    end = {"lower": figure.low, "point": figure.value, "upper": figure.high}[gate.end]

    def within(value: float) -> bool:
        if value == bound:
            return not strictly
        return value < bound if upward else value > bound

    sign = "+" if gate.of == "difference" else ""
    if strictly:
        what += f"; {'below' if upward else 'above'} 0 is better"
    else:
        limit = f"{'at most' if upward else 'at least'} {bound:{sign}.3g}"
        what += f"; the {'value' if gate.end == 'point' else f'{gate.end} end'} must be {limit}"
    more: int | None = None
    status: Status = "passed"
    if measure.items < gate.min_items:
        status, more = "not enough data", gate.min_items - measure.items
        what += f". {measure.items} items are too few to decide"
    elif not within(end):
        # If only the end lies beyond the threshold, more items may decide.
        status = "not enough data" if within(figure.value) else "failed"
        more = more_items(measure.items, figure.value, end, bound)
        if gate.events and figure.value == 0 and upward:
            more = math.ceil(NO_EVENT_END / bound) - measure.items if bound > 0 else None
        if status == "failed":
            more = None
    if strictly and status == "passed" and measure.p is not None and measure.p > SIGNIFICANCE:
        # Many sentences of seven speakers still tell little about an eighth speaker.
        status = "not enough data"
    if gate.end != "point" and status == "passed" and 1 in (measure.units, measure.items):
        status = "not enough data"  # an interval over one speaker or item covers no other
    if measure.few:
        test = "" if measure.p is None else f", sign-flip test p = {measure.p:.2g}"
        what += f"; {measure.few}{test}"
    if status == "not enough data" and more is not None:
        what += f". About {more:,} more items are needed ({measure.items} were measured"
        what += f"; {gate.items_from} sets the number)" if gate.items_from else ")"
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
    """The threshold in the metric's units; None if it is a multiple of an undefined value."""
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


def _title(gate: Gate, measure: Measure) -> str:
    name = f"{measure.metric} on {measure.slice}"
    return f"{name}, adapter - base" if gate.of == "difference" else name


def _format(gate: Gate, figure: Interval) -> str:
    sign = "+" if gate.of == "difference" else ""
    return f"{figure.value:{sign}.3f} [{figure.low:{sign}.3f}, {figure.high:{sign}.3f}]"


def read_verdict(folder: Path) -> Verdict | None:
    """Read the verdict in a run folder; None if there is none.

    Raises:
        ConfigError: the verdict can't be read.
    """
    path = folder / VERDICT_FILE
    if not path.is_file():
        return None
    cure = f"write it again with mmtune evaluate {folder}"
    values = without_format(read_json_object(path, cure), path)
    with damaged(path, cure):
        return Verdict.from_json(values)


def write_verdict(folder: Path, verdict: Verdict) -> None:
    """Write `verdict.json` into a run folder, atomically."""
    text = json.dumps(verdict.to_json(), indent=2, ensure_ascii=False)
    write_text(folder / VERDICT_FILE, with_format(text) + "\n")


_ADAPTER: TypeAdapter[Verdict] = TypeAdapter(Verdict)
