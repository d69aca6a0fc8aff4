"""Apply a suite's gates to a comparison: what passed, what failed, and what is not known.

A gate passes only on evidence: the end of the interval that the suite names must lie within the
threshold. It fails if the value itself doesn't. In between there is not enough data.
"""

from __future__ import annotations

import fnmatch
import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Literal, NamedTuple

from mmtune.evaluation.comparison import Comparison
from mmtune.evaluation.suite import Gate, Level, Selector, Suite, without_patterns
from mmtune.metrics.bootstrap import Interval
from mmtune.metrics.measure import Measure
from mmtune.metrics.rare import NO_EVENT_END
from mmtune.system.display import duration, numbered

Status = Literal["passed", "failed", "not enough data"]
MARGIN = 1.5  # of the items that are asked for where speakers are too few
MOST_TIMES = 20  # the data for which a gate may ask, as a multiple of what was measured
SEVERAL = "N"  # in `GateResult.data_options`: the setting's count isn't that of the items
ANSWERS: dict[Status, str] = {"passed": "yes", "failed": "no", "not enough data": "not known"}
MAIN_ITEMS = 10  # least number of items for the main measure
SIGNIFICANCE = 0.05  # level of the sign-flip test, which is used with few clusters
MAX_NEEDED = 1_000_000  # items; a larger estimate is not reported


class Step(NamedTuple):
    """What to do, the command that does it, and how long it takes."""

    text: str
    command: str
    time: str = ""

    def __str__(self) -> str:
        return " ".join(filter(None, self))


@dataclass(frozen=True)
class GateResult:
    """The result of one gate.

    Attributes:
        name, level, asks, metric, slice, of, end: as in the gate; `slice` is the measured one.
        status: whether the gate passed.
        finding: the figures that decide, in words; no setting is named.
        figure: value and interval; None if it wasn't measured.
        bound: the threshold in the metric's units; None if it isn't defined.
        items: number of items measured.
        more: estimated number of further items for a decision; None if it can't be estimated.
        upward: whether the threshold is an upper limit.
        data_options: options of `mmtune evaluate` that give the gate its data; None: its items are
            the test rows.
        near: whether the value is too close to the threshold for more items to decide.
        where: the slice in words; empty: as `slice`.
        setting: what the setting does that gives the gate data: "set task.probes"; may be empty.
        units: what items belong to, by which intervals are made: "speakers".
        new_rows: what other test rows are, where they need a folder of their own: "pictures that
            weren't trained on"; empty: they are added to the data.
        per_row: number of items that were made of each test row.
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
    data_options: str | None = None
    near: bool = False
    where: str = ""
    setting: str = ""
    units: str = "groups"
    new_rows: str = ""
    per_row: int = 1

    @property
    def place(self) -> str:
        """The slice in words."""
        return self.where or without_patterns(self.slice)

    @property
    def full_finding(self) -> str:
        """The finding, and what its setting does."""
        return f"{self.finding}; {self.setting}" if self.setting else self.finding

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
        return f"{ANSWERS[self.status].capitalize()}: {self.full_finding}."

    @property
    def sentence(self) -> str:
        """The question with its answer."""
        return f"{self.asks} {self.answer}"

    def step(self, run: str, seconds: float | None = None) -> Step | None:
        """How to get the data that the gate lacks; None if it lacks none.

        Args:
            run: the run folder, as in a command.
            seconds: computing time of one item with all models; None: unknown.
        """
        if self.status != "not enough data":
            return None
        command = f"mmtune evaluate {run}"
        if self.near:
            return Step("train with other settings, or set another threshold, then:", command)
        needs_rows = not self.data_options or self.data_options.startswith("--data ")
        if self.new_rows and needs_rows:
            return self._in_a_new_folder(command, seconds)
        if self.figure is not None and self.more is None:
            # As many items of the same speakers would tell no more.
            return Step(f"add rows of other {self.units}, then:", command)
        if self.data_options:
            items = self.items + (self.more or 0) or None
            name, _, value = self.data_options.partition(" ")
            if value == SEVERAL and items is not None:
                times = f"raise {name} about {items / self.items:.1f} times, then:"
                return Step(times, f"{command} {name} N", _time(items, seconds))
            counted = value.isdecimal() and items is not None
            option = f"{name} {items if counted else value}"
            return Step("", f"{command} {option}", _time(items, seconds))
        if self.more:
            count = math.ceil(self.more / self.per_row)
            rows = f"add about {numbered(count, 'test row')} to the data, then:"
            return Step(rows, command, _time(self.items + self.more, seconds))
        return Step("add other test rows to the data, then:", command)

    def _in_a_new_folder(self, command: str, seconds: float | None) -> Step:
        """How to measure on new rows alone: most rows added to the data would be trained on."""
        items = self.items + self.more if self.more else None
        what = self.new_rows
        if items is not None:
            what = f"about {math.ceil(items / self.per_row):,} {what}"
        elif self.figure is not None:
            what += f", of other {self.units},"
        text = f"put {what} into a folder of their own (only these are measured), then:"
        return Step(text, f"{command} --data NEW_FOLDER", _time(items, seconds))


def _time(items: int | None, seconds: float | None) -> str:
    if not items or not seconds:
        return ""
    return f"(about {duration(items * seconds)} on this machine)"


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


def matching(selector: Selector, comparison: Comparison) -> Iterator[Measure]:
    for measure in comparison.measures:
        if measure.metric == selector.metric and (
            measure.slice == selector.slice
            or ("*" in selector.slice and fnmatch.fnmatchcase(measure.slice, selector.slice))
        ):
            yield measure


def main_measure(suite: Suite, comparison: Comparison) -> Measure | None:
    """The suite's main measure: the first of its choices that was measured."""
    found = (m for selector in suite.main for m in matching(selector, comparison))
    return next(found, None)


def main_result(suite: Suite, measure: Measure | None) -> GateResult:
    """Whether the main measure shows that the adapter helps."""
    if measure is None:
        first = suite.main[0]
        gate = Gate(**dict(first), name="it helps", asks="Does it help?", at_least=0)
        return _unknown(gate, None, f"{first.metric} on {first.slice} was not measured")
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


def rival(suite: Suite, comparison: Comparison, measure: Measure) -> str | None:
    """The best way without an adapter that helps too; None if there is none.

    It must be better than the base by the main measure, on as many items and units as an adapter
    needs, and no required gate that was measured with it may fail.
    """
    if measure.items < MAIN_ITEMS or 1 in (measure.units, measure.items):
        return None

    def helps(name: str) -> bool:
        gain = measure.gained[name]
        return gain.low > 0 if measure.higher_is_better else gain.high < 0

    def harmless(name: str) -> bool:
        return all(
            _within(gate, other, other.gained[name].value)
            for gate in suite.gates
            if gate.level == "must" and gate.of == "difference"
            for other in matching(gate, comparison)
            if name in other.gained
        )

    found = [n for n in comparison.alternatives if n in measure.gained and helps(n) and harmless(n)]
    sign = 1 if measure.higher_is_better else -1
    return max(found, key=lambda name: sign * measure.references[name].value, default=None)


def against(main: GateResult, measure: Measure, name: str) -> GateResult:
    """Hold the main result also to a way without an adapter.

    Returns:
        The result: it fails if the adapter is no better than that way, and lacks data if it seems
        better and its interval doesn't exclude 0.
    """
    gap, higher = measure.beyond[name], measure.higher_is_better
    sign = 1 if higher else -1
    finding = (
        f"{main.finding}; adapter - {name}: {gap.value:+.3f} [{gap.low:+.3f}, {gap.high:+.3f}]"
    )
    end = gap.low if higher else gap.high
    if sign * gap.value <= 0:
        return replace(main, status="failed", finding=finding, more=None)
    if main.status == "passed" and sign * end <= 0:
        more = more_items(measure.items, gap.value, end, 0.0)
        return replace(main, status="not enough data", finding=finding, more=more)
    return replace(main, finding=finding)


def _within(gate: Gate, measure: Measure, value: float) -> bool:
    bound = _bound(gate, measure)
    if bound is None or not math.isfinite(value):
        return True
    return value <= bound if gate.at_most is not None else value >= bound


def gate_results(gate: Gate, comparison: Comparison) -> Iterator[GateResult]:
    found = list(matching(gate, comparison))
    if not found and not gate.optional:
        where = gate.where or without_patterns(gate.slice)
        yield _unknown(gate, None, f"{gate.metric} on {where} was not measured")
    for measure in found:
        result = _apply(gate, measure)
        if result.more is None and _part_of(measure, comparison):
            yield replace(result, more=_for_enough(measure))
        else:
            yield result


def _part_of(measure: Measure, comparison: Comparison) -> bool:
    """Whether other items of its slice have more speakers: "test with times" of "test"."""
    return any(
        measure.slice.startswith((f"{m.slice} ", f"{m.slice},")) and m.units > measure.units
        for m in comparison.measures
    )


def _for_enough(measure: Measure) -> int | None:
    """How many more items have enough speakers, with half as many again to be sure."""
    if not 0 < measure.units < measure.enough:
        return None
    return math.ceil(MARGIN * measure.items * measure.enough / measure.units) - measure.items


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
    no_event = bool(
        gate.events and measure.items and not any((figure.value, figure.low, figure.high))
    )
    if no_event:
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
    near = False
    status: Status = "passed"
    if measure.items < gate.min_items:
        status, more = "not enough data", gate.min_items - measure.items
        what += f". {numbered(measure.items, 'item')} "
        what += f"{'is' if measure.items == 1 else 'are'} too few to decide"
    elif not within(end):
        # If only the end lies beyond the threshold, more items may decide.
        status = "not enough data" if within(figure.value) else "failed"
        more = more_items(measure.items, figure.value, end, bound)
        near = more is None or measure.items + more > MOST_TIMES * measure.items
        near &= math.isfinite(end) and not no_event
        if no_event and upward:
            more = math.ceil(NO_EVENT_END / bound) - measure.items if bound > 0 else None
        if status == "failed":
            more = None
    if strictly and status == "passed" and measure.p is not None and measure.p > SIGNIFICANCE:
        # Many sentences of seven speakers still tell little about an eighth speaker.
        status = "not enough data"
    if gate.end != "point" and status == "passed" and 1 in (measure.units, measure.items):
        status = "not enough data"  # an interval over one speaker or item covers no other
    few = measure.units < measure.enough
    if not strictly and gate.end != "point" and status == "passed" and few:
        # No interval's end holds the truth often enough (benchmarks/coverage.py).
        status = "not enough data"
    if measure.few:
        test = "" if measure.p is None else f", sign-flip test p = {measure.p:.2g}"
        what += f"; {measure.few}{test}"
    setting = ""
    if near := near and status == "not enough data":
        what += ". The value is too close to the threshold: more items would hardly decide"
    elif status == "not enough data" and more is not None:
        each = f", {measure.per_row} of each test row" if measure.per_row > 1 else ""
        needed = f"{numbered(more, 'more item')} {'is' if more == 1 else 'are'} needed"
        measured = f"{measure.items} {'was' if measure.items == 1 else 'were'} measured"
        what += f". About {needed} ({measured}{each})"
        setting = f"{gate.items_from} sets the number" if gate.items_from else ""
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
        data_options=_more_of(gate),
        near=near,
        where=measure.slice,
        setting=setting,
        per_row=measure.per_row,
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
    return GateResult(
        name=gate.name,
        level=gate.level,
        status="not enough data",
        asks=gate.asks,
        finding=why,
        metric=gate.metric,
        slice=measure.slice if measure else gate.slice,
        of=gate.of,
        end=gate.end,
        items=measure.items if measure else 0,
        # What can't be measured lacks other rows, or what a gate without `needs` names.
        data_options=_first_data(gate) if measure is None or gate.needs is None else None,
        where=measure.slice if measure else gate.where or without_patterns(gate.slice),
        setting=f"set {gate.needs}" if gate.needs is not None and measure is None else "",
    )


def _first_data(gate: Gate) -> str | None:
    """The option that gives data to a gate whose measure has none."""
    needed = f"--{gate.needs.rpartition('.')[2]} VALUE" if gate.needs else None
    return gate.data_options or needed


def _more_of(gate: Gate) -> str | None:
    """The option that gives more items to a gate whose measure has some."""
    if gate.items_from is None:
        return None
    return f"--{gate.items_from.rpartition('.')[2]} {SEVERAL if gate.several else 0}"


def _title(gate: Gate, measure: Measure) -> str:
    name = f"{measure.metric} on {measure.slice}"
    return f"{name}, adapter - base" if gate.of == "difference" else name


def _format(gate: Gate, figure: Interval) -> str:
    sign = "+" if gate.of == "difference" else ""
    return f"{figure.value:{sign}.3f} [{figure.low:{sign}.3f}, {figure.high:{sign}.3f}]"
