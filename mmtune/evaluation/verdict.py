"""The verdict on an adapter: what to do with it, by the results of a suite's gates."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from pydantic import TypeAdapter

from mmtune.evaluation.comparison import Comparison
from mmtune.evaluation.earlier_verdicts import as_now
from mmtune.evaluation.first_sentence import first_sentence, with_alternative
from mmtune.evaluation.gate_result import (
    ANSWERS,
    GateResult,
    Step,
    against,
    gate_results,
    main_measure,
    main_result,
    rival,
)
from mmtune.evaluation.suite import Suite
from mmtune.system.display import Displayed, Rows
from mmtune.system.files import write_text
from mmtune.system.formats import with_format, without_format
from mmtune.system.stored import damaged, read_json_object

VERDICT_FILE = "verdict.json"
Decision = Literal[
    "ship", "ship with conditions", "not known yet", "no adapter needed", "keep the base"
]
# Exit codes of `mmtune evaluate --gate`; 2 is an error.
EXIT_CODES: dict[Decision, int] = {
    "ship": 0,
    "keep the base": 1,
    "no adapter needed": 1,
    "not known yet": 3,
    "ship with conditions": 4,
}
AGAINST: tuple[Decision, ...] = ("keep the base", "no adapter needed")
LACKING = "without enough data"


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
        first: the main result in words and counts, and on what it was measured.
        instead: the way without an adapter that the adapter was held to too; empty: none.
        use: the command that uses it.
    """

    decision: Decision
    suite: str
    reasons: list[str]
    conditions: list[str]
    main: GateResult
    gates: list[GateResult]
    first: str = ""
    instead: str = ""
    use: str = ""

    @property
    def exit_code(self) -> int:
        """The exit code of `mmtune evaluate --gate`."""
        return EXIT_CODES[self.decision]

    @property
    def summary(self) -> str:
        """The verdict in one sentence, without figures."""
        musts = [gate for gate in self.gates if gate.level == "must"]
        failed = [gate.name for gate in musts if gate.status == "failed"]
        unknown = [gate.name for gate in musts if gate.status == "not enough data"]
        if self.decision == "no adapter needed":
            return f"{self.instead} is as good as the adapter, or better"
        rivals = f"{self.instead} (no adapter)" if self.instead else "the base"
        helps = f"the adapter is better than {rivals}"
        if self.main.status == "failed":
            return f"the adapter isn't better than {rivals}"
        if self.main.status != "passed":
            helps = f"the adapter isn't shown to be better than {rivals}"
        if failed:
            return f"{helps}; {_count(failed, musts, 'failed')}"
        if unknown or self.main.status != "passed":
            return helps + (f"; {_count(unknown, musts, LACKING)}" if unknown else "")
        if not self.conditions:
            return f"{helps}, and all {len(self.gates)} checks passed"
        shoulds = [gate for gate in self.gates if gate.level == "should"]
        missed = [gate.name for gate in shoulds if gate.status == "failed"]
        lacking = [gate.name for gate in shoulds if gate.status == "not enough data"]
        counts = [
            _count(names, shoulds, what, "recommended")
            for names, what in ((missed, "failed"), (lacking, LACKING))
            if names
        ]
        return f"{helps}, and all {len(musts)} required checks passed; {'; '.join(counts)}"

    def steps(self, run: str, seconds: float | None = None) -> list[Step]:
        """How to get the data that required checks and the main measure lack, or what to use.

        Args:
            run: the run folder, as in a command.
            seconds: computing time of one item with all models; None: unknown.
        """
        if self.decision == "no adapter needed":
            return [Step("", self.use)]
        gates = [self.main, *(gate for gate in self.gates if gate.level == "must")]
        return list(dict.fromkeys(filter(None, (gate.step(run, seconds) for gate in gates))))

    def lines(self) -> list[str]:
        """Format the decision and all gates for the terminal, one gate per line."""
        width = max(len(answer) for answer in ANSWERS.values())
        return [
            f"verdict  {self.decision}   (suite {self.suite})",
            *([f"  {self.first}"] if self.first else []),
            *(
                # The main measure is none of the required checks, which the summary counts.
                f"  {ANSWERS[gate.status]:<{width}}  "
                f"{'main' if gate is self.main else gate.level:<6}  {gate.asks} "
                f"{gate.full_finding}"
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
        """Make a verdict from the values of `to_json`, also of earlier versions."""
        values = dict(values)
        if isinstance(values.get("main"), dict):
            values["main"] = as_now(values["main"])
        if isinstance(values.get("gates"), list):
            values["gates"] = [as_now(e) if isinstance(e, dict) else e for e in values["gates"]]
        return _ADAPTER.validate_python(values)


def judge(suite: Suite, comparison: Comparison) -> Verdict:
    """Apply a suite to a comparison.

    Returns:
        "ship" if every gate passes, and the main measure improves with an interval that excludes 0.
        "ship with conditions" if it improves like that and every required gate passes.
        "no adapter needed" if a way without an adapter is as good by the main measure.
        "keep the base" if the main measure or a required gate fails.
        "not known yet" otherwise: nothing required fails, but some of it lacks data.
    """
    measure = main_measure(suite, comparison)
    main = main_result(suite, measure)
    other = rival(suite, comparison, measure) if measure is not None else None
    if measure is not None and other is not None:
        main = against(main, measure, other)
    main = replace(main, units=suite.units, new_rows=suite.new_rows)
    gates = [
        replace(result, units=suite.units, new_rows=suite.new_rows)
        for gate in suite.gates
        for result in gate_results(gate, comparison)
    ]
    required = [main, *(gate for gate in gates if gate.level == "must")]
    failed = [gate for gate in required if gate.status == "failed"]
    unknown = [gate for gate in required if gate.status == "not enough data"]
    decision: Decision = "ship"
    if main.status == "failed" and other is not None:
        decision = "no adapter needed"
    elif failed:
        decision = "keep the base"
    elif unknown:
        decision = "not known yet"
    elif any(gate.status != "passed" for gate in gates):
        decision = "ship with conditions"
    first = first_sentence(comparison, measure)
    if measure is not None and decision == "no adapter needed" and other is not None:
        first = " ".join((with_alternative(measure, other), comparison.measured_on)).strip()
    decided = failed or unknown or required
    return Verdict(
        decision=decision,
        suite=suite.name,
        reasons=[gate.sentence for gate in decided],
        conditions=[
            _condition(gate) for gate in gates if gate.status != "passed" and gate not in decided
        ],
        main=main,
        gates=gates,
        first=first,
        instead=other or "",
        use=comparison.alternatives[other] if other else "",
    )


def _count(
    names: Sequence[str], of: Sequence[GateResult], what: str, level: str = "required"
) -> str:
    shown = ", ".join(names[:3]) + (" and others" if len(names) > 3 else "")
    return f"{len(names)} of {len(of)} {level} checks {what} ({shown})"


def _condition(gate: GateResult) -> str:
    if gate.status == "failed":
        return f"Decide whether you accept this. {gate.sentence}"
    when = "Measure this before shipping." if gate.level == "must" else "Measure this."
    return f"{when} {gate.sentence}"


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
