"""The questions of a page: in words, without patterns and settings; and what to do now."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest

from mmtune.evaluation.comparison import Comparison
from mmtune.evaluation.earlier_verdicts import as_now
from mmtune.evaluation.gate_result import GateResult
from mmtune.evaluation.verdict import Decision, Verdict, write_verdict
from mmtune.metrics.bootstrap import Interval
from mmtune.metrics.measure import Measure
from mmtune.pages.questions import checks_of, next_steps
from mmtune.pages.report import write_report

PASSED = GateResult(
    "silence", "must", "passed", "Is it silent?", "words on silence: 0", "words", "silence",
    "difference", "upper", Interval(0.0214, -0.03, 0.07), 0.1, 40,
)  # fmt: skip
OPEN = replace(
    PASSED, status="not enough data", figure=None, bound=None, data_options="--probes 40"
)
FAILED = replace(PASSED, status="failed")
MAIN = replace(PASSED, name="it helps", asks="Does it help?")


def verdict(decision: Decision, *gates: GateResult, main: GateResult = MAIN) -> Verdict:
    return Verdict(decision, "s", [], [], main, list(gates))


@pytest.mark.parametrize(
    ("stored", "shown"),
    [
        (
            "WER on test, * windows was not measured; set task.probes",
            "WER on test windows was not measured",
        ),
        ("WER on calls, *", "WER on calls"),
        ("WER on general speech, * without repeats", "WER on general speech without repeats"),
        ("language accuracy on general speech*", "language accuracy on general speech"),
        ("WER on degraded: *", "WER on degraded"),
        ("WER gap on test, by *", "WER gap on test"),
        (
            "About 20 more are needed (40 were measured; task.retention_rows sets the number)",
            "About 20 more are needed (40 were measured)",
        ),
        ("the upper end must be at most +0.05", "the upper end must be at most +0.05"),
    ],
)
def test_findings_of_earlier_versions_lose_patterns_and_names_of_settings(
    stored: str, shown: str
) -> None:
    assert as_now({"finding": stored})["finding"] == shown


def test_verdicts_of_earlier_versions_are_read_in_todays_form() -> None:
    now = verdict("not known yet", replace(OPEN, where="test", setting="set task.probes"))
    values = now.to_json()
    for each in (values["main"], *values["gates"]):
        each["closing"] = each.pop("data_options")
        each["finding"] = f"{each['finding']}; {each['setting']}".removesuffix("; ")
        for name in ("where", "setting", "units"):
            del each[name]
    found = Verdict.from_json(values)
    assert found.gates[0].full_finding == now.gates[0].full_finding
    assert found.gates[0].setting == "set task.probes"
    assert found.gates[0].step("RUN") == now.gates[0].step("RUN")
    assert found.lines() == now.lines()
    assert Verdict.from_json(found.to_json()) == found


def test_the_first_screen_is_in_words_and_no_pattern_is_on_the_page(tmp_path: Path) -> None:
    interval = Interval(0.5, 0.4, 0.6)
    found = Measure("WER", "test", 40, interval, interval, interval, False)
    heard = {"kind": "test", "reference": "a cat", "base": "a hat", "adapter": "a cat"}
    gates = [
        replace(OPEN, name="other windows", asks="Windows?", slice="test, * windows",
                where="test, other windows", setting="set task.probes",
                finding="WER on test, other windows was not measured"),
        PASSED,
    ]  # fmt: skip
    comparison = Comparison("speech", [found], "", examples=[heard])
    write_verdict(tmp_path, replace(verdict("not known yet", *gates), first="First."))
    write_report(tmp_path / "report.html", [comparison], [tmp_path])
    html = (tmp_path / "report.html").read_text().partition("<body>")[2]
    order = [
        "First.",
        "Not known yet",
        "What now",
        ">hat<",
        "Windows?",
        "statistics",
        "All measures",
    ]
    places = [html.index(text) for text in order]
    assert places == sorted(places)
    seen = html.partition('<details class="statistics">')[0]
    while "<details" in seen:
        before, _, inner = seen.partition("<details")
        seen = before + inner.partition("</details>")[2]
    assert re.findall(r"\[[-+]?\d", seen) == [], "intervals are folded"
    assert "[0.400, 0.600]" in html
    text = re.sub("<[^>]*>", "", html)
    assert "*" not in text
    assert "task.probes" not in text
    assert "WER on test, other windows was not measured" in text


def test_values_are_said_in_words_and_failures_come_first() -> None:
    values = {
        "less": replace(PASSED, figure=Interval(-0.176, -0.5, 0.1)),
        "same": replace(PASSED, figure=Interval(0.0001, -0.1, 0.1)),
        "of the adapter": replace(PASSED, of="adapter", figure=Interval(0.451, 0.3, 0.6)),
        "large": replace(PASSED, figure=Interval(12.363, 8, 16)),
        "failed": FAILED,
        "open": OPEN,
    }
    gates = [replace(gate, name=name, asks=f"{name}?") for name, gate in values.items()]
    [checks] = checks_of(verdict("ship", *gates), "RUN").values()
    assert [each.gate.name for each in checks] == ["failed", "open", *list(values)[:4]]
    assert [each.measured for each in checks] == [
        "Words on silence: 0.021 more than with the base",
        "",
        "Words on silence: 0.176 less than with the base",
        "Words on silence: as with the base",
        "Words on silence: 0.451",
        "Words on silence: 12.4 more than with the base",
    ]


def test_two_checks_that_ask_the_same_name_what_they_measured() -> None:
    gates = [replace(PASSED, slice=f"test, by {label}") for label in ("accent", "age")]
    [checks] = checks_of(verdict("ship", *gates, replace(PASSED, asks="Other?")), "RUN").values()
    assert [each.question for each in checks] == [
        "Is it silent? (test, by accent)", "Is it silent? (test, by age)", "Other?",
    ]  # fmt: skip


def test_what_now() -> None:
    comparison = Comparison("x", [], "", use={"Use it": "mmtune transcribe --adapter {run} IN"})
    times = replace(OPEN, name="times")
    lacking = replace(OPEN, name="it helps", data_options=None)
    should = replace(FAILED, level="should")
    cases: list[tuple[Verdict, list[tuple[str, str]]]] = [
        (verdict("keep the base", FAILED), [("Use the base without the adapter.", "")]),
        (verdict("ship"), [("Use it:", "mmtune transcribe --adapter RUN IN")]),
        (
            verdict("ship with conditions", should, replace(OPEN, level="should", asks="Open?")),
            [
                ("Use it:", "mmtune transcribe --adapter RUN IN"),
                ("Decide whether you accept this: Is it silent? No.", ""),
                ("Measure this: Open?", "mmtune evaluate RUN --probes 40"),
            ],
        ),
        (
            # Two checks that one command answers; the main measure lacks rows.
            verdict("not known yet", OPEN, times, should, main=lacking),
            [
                ("Whether it helps: add other test rows to the data, then:", "mmtune evaluate RUN"),
                ("Measure silence and times:", "mmtune evaluate RUN --probes 40"),
            ],
        ),
        (
            replace(verdict("no adapter needed"), instead="a prompt", use="mmtune transcribe"),
            [("Use a prompt:", "mmtune transcribe")],
        ),
    ]
    for judged, expected in cases:
        assert next_steps(judged, comparison, "RUN") == expected, judged.decision
    assert next_steps(None, comparison, "RUN") == []
