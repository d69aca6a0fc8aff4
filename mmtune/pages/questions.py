"""The questions of a suite with their answers, and what to do now, as the report shows them."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from mmtune.evaluation.comparison import Comparison
from mmtune.evaluation.gate_result import ANSWERS, GateResult, Step
from mmtune.evaluation.verdict import Verdict
from mmtune.pages.plots import ThresholdGauge, gauge, number

ORDER = ("failed", "not enough data", "passed")  # order of gates: the most important first
SYMBOLS = {"passed": "✓", "failed": "✕", "not enough data": "?"}
SMALLEST = 0.0005  # differences that are smaller are shown as none


@dataclass(frozen=True)
class Check:
    """A gate's result as the report shows it.

    Attributes:
        gate: the result.
        question: what it asks, with the slice if other gates ask the same.
        answer: yes, no, or not known.
        symbol: a mark for the answer.
        measured: the value in words; empty if there is none.
        gauge: the interval and the threshold; None if they aren't finite.
        step: what gives it the data that it lacks.
    """

    gate: GateResult
    question: str
    answer: str
    symbol: str
    measured: str
    gauge: ThresholdGauge | None
    step: Step | None = None


def checks_of(verdict: Verdict | None, run: str) -> dict[str, list[Check]]:
    """The gates of a verdict by level; those that failed come first.

    Args:
        verdict: the verdict; None: there is none.
        run: the run folder, as in a command.
    """
    found: dict[str, list[Check]] = {}
    gates = list(verdict.gates) if verdict else []
    for gate in sorted(gates, key=lambda g: ORDER.index(g.status)):
        drawn = None
        if gate.figure is not None and gate.bound is not None:
            upward = gate.end != "lower" if gate.upward is None else gate.upward
            drawn = gauge(gate.figure, gate.bound, upward)
        found.setdefault(gate.level, []).append(
            Check(
                gate,
                _question(gate, gates),
                ANSWERS[gate.status].capitalize(),
                SYMBOLS[gate.status],
                _measured(gate),
                drawn,
                gate.step(run),
            )
        )
    return {level: found[level] for level in ("must", "should") if level in found}


def next_steps(verdict: Verdict | None, comparison: Comparison, run: str) -> list[tuple[str, str]]:
    """What to do after a verdict: sentences, each with its command or "".

    Args:
        verdict: the verdict; None: there is none.
        comparison: what it judges.
        run: the run folder, as in a command.
    """
    if verdict is None:
        return []
    if verdict.decision == "no adapter needed":
        return [(f"Use {verdict.instead}:", verdict.use)]
    if verdict.decision == "keep the base":
        return [("Use the base without the adapter.", "")]
    if verdict.decision == "not known yet":
        return _missing(verdict, comparison, run)
    use = [(f"{what}:", command.format(run=run)) for what, command in comparison.use.items()]
    gates = list(verdict.gates)
    accept = [
        (f"Decide whether you accept this: {_question(gate, gates)} No.", "")
        for gate in gates
        if gate.status == "failed"
    ]
    open_ones = [(gate, gate.step(run, comparison.seconds)) for gate in gates]
    return [
        *use,
        *accept,
        *((f"Measure this: {_question(g, gates)}", step.command) for g, step in open_ones if step),
    ]


def _missing(verdict: Verdict, comparison: Comparison, run: str) -> list[tuple[str, str]]:
    """What gives the main measure and required checks their data; each command once."""
    found: dict[Step, list[str]] = {}
    for gate in (verdict.main, *(gate for gate in verdict.gates if gate.level == "must")):
        if (step := gate.step(run, comparison.seconds)) is not None:
            name = "whether it helps" if gate is verdict.main else gate.name
            found.setdefault(step, []).append(name)
    return [(_what(step, names), step.command) for step, names in found.items()]


def _what(step: Step, names: list[str]) -> str:
    listed = ", ".join(names[:-1]) + (" and " if len(names) > 1 else "") + names[-1]
    text = f"{listed}: {step.text}" if step.text else f"measure {listed}:"
    text = f"{text[:-1]} {step.time}:" if step.time and text.endswith(":") else text
    return f"{text[0].upper()}{text[1:]}"


def _question(gate: GateResult, gates: list[GateResult]) -> str:
    if Counter(each.asks for each in gates)[gate.asks] < 2:
        return gate.asks
    return f"{gate.asks} ({gate.place})"


def _measured(gate: GateResult) -> str:
    if gate.figure is None:
        return ""
    name, value = f"{gate.metric} on {gate.place}", gate.figure.value
    name = f"{name[0].upper()}{name[1:]}"
    if gate.of != "difference":
        return f"{name}: {_plain(value)}"
    if abs(value) < SMALLEST:
        return f"{name}: as with the base"
    return f"{name}: {_plain(abs(value))} {'more' if value > 0 else 'less'} than with the base"


def _plain(value: float) -> str:
    return f"{value:.3f}" if 0 < abs(value) < 1 else number(value)
