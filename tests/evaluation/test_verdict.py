"""Gates and verdicts of speech: what passes, what fails, and what is not known."""

from __future__ import annotations

import json
import math
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmtune.cli import main
from mmtune.config import ReportOptions, RunConfig, read_yaml
from mmtune.evaluation.comparison import Comparison
from mmtune.evaluation.gate_result import more_items
from mmtune.evaluation.suite import Gate, Suite, load_suite, suites
from mmtune.evaluation.verdict import (
    VERDICT_FILE,
    judge,
    read_verdict,
    write_verdict,
)
from mmtune.metrics.bootstrap import Interval, paired_bootstrap
from mmtune.pages.report import content_policy, write_report
from mmtune.runs import pipeline
from mmtune.runs.folder import claim, keep_suite
from mmtune.runs.recipes import load_recipe
from tests.evaluation.verdicts import (
    GENERAL,
    REAL,
    gate,
    helpful,
    measure,
    without,
)


@pytest.fixture(scope="module")
def terminology() -> Suite:
    return load_suite("terminology")


def test_an_adapter_that_helps_and_forgets_nothing_is_shipped(terminology: Suite) -> None:
    verdict = judge(terminology, helpful())
    assert verdict.decision == "ship"
    assert verdict.conditions == []
    assert {g.status for g in verdict.gates} == {"passed"}
    assert verdict.reasons[0] == (
        "Does it help? Yes: term recall on seen terms, adapter - base: +0.600 [+0.500, +0.700]; "
        "above 0 is better."
    )
    assert len(verdict.lines()) == 3 + len(verdict.gates)


def test_one_that_forgets_is_not_however_well_it_learned(terminology: Suite) -> None:
    forgot = measure("WER", GENERAL, (0.3, 0.2, 0.45), 40)
    verdict = judge(terminology, helpful(general=forgot))
    assert verdict.decision == "keep the base"
    assert verdict.reasons == [
        f"Does it still transcribe other speech? No: WER on {GENERAL}, adapter - base: "
        "+0.300 [+0.200, +0.450]; the upper end must be at most +0.05."
    ]
    assert verdict.conditions[0].startswith(
        "Decide whether you accept this. Is its transcription of other speech almost unchanged?"
    )


@pytest.mark.parametrize(
    ("difference", "said"),
    [
        ((0.1, -0.05, 0.25), "Not known: "),
        ((-0.1, -0.2, -0.02), "No: "),
        ((0.1, 0.0, 0.2), "Not known: "),
        ((0.0, 0.0, 0.0), "No: "),
    ],
)
def test_without_a_clear_gain_it_is_not_shipped(
    terminology: Suite, difference: tuple[float, float, float], said: str
) -> None:
    recall = measure("term recall", "seen terms", difference, 72, higher=True)
    verdict = judge(terminology, helpful(recall=recall))
    assert verdict.decision == ("keep the base" if said == "No: " else "not known yet")
    assert verdict.reasons == [verdict.main.sentence]
    assert verdict.main.answer.startswith(said)


def test_word_errors_count_where_no_term_was_spoken(terminology: Suite) -> None:
    verdict = judge(terminology, without(helpful(), "seen terms"))
    assert (verdict.main.metric, verdict.decision) == ("WER", "ship")
    none = judge(terminology, Comparison("speech", [], "nothing"))
    assert none.decision == "not known yet"
    assert none.main.answer == "Not known: term recall on seen terms was not measured."


@pytest.mark.parametrize(
    ("gone", "steps"),
    [
        (GENERAL, ["mmtune evaluate runs/x --retention PATH"]),
        (REAL, ["mmtune evaluate runs/x --data RECORDINGS"]),
        ("non-speech", ["mmtune evaluate runs/x --probes 40"]),
    ],
)
def test_what_was_not_measured_is_not_known(
    terminology: Suite, gone: str, steps: list[str]
) -> None:
    verdict = judge(terminology, without(helpful(), gone))
    assert verdict.decision == "not known yet"
    assert verdict.exit_code == 3, "a must-gate that nobody measured stops a pipeline"
    assert [str(step) for step in verdict.steps("runs/x")] == steps
    assert len(verdict.reasons) == 1
    assert "Not known: " in verdict.reasons[0]
    assert verdict.reasons[0].count("was not measured") == 1
    assert "1 of 9 required checks without enough data" in verdict.summary


def test_nothing_measured_but_a_gain_is_not_known(terminology: Suite) -> None:
    only = [m for m in helpful().measures if m.slice == "seen terms"]
    verdict = judge(terminology, Comparison("speech", only, "headline"))
    assert verdict.decision == "not known yet"
    assert not any(gate.status == "failed" for gate in verdict.gates)


def test_a_failed_check_and_one_without_data_are_not_added_up(terminology: Suite) -> None:
    forgot = measure("WER", GENERAL, (0.3, 0.2, 0.45), 40)
    verdict = judge(terminology, without(helpful(general=forgot), "non-speech"))
    assert verdict.decision == "keep the base"
    assert len(verdict.reasons) == 1, "what lacks data decides nothing here"
    assert "1 of 9 required checks failed (general speech)" in verdict.summary
    wrong = measure("WER", "test without repeats", (0.3, 0.2, 0.45), 40)
    both = judge(terminology, helpful(general=forgot, test=wrong))
    assert "2 of 9 required checks failed (sentences, general speech)" in both.summary
    assert verdict.conditions[-1].startswith("Measure this before shipping. Does it stay silent")


@pytest.mark.parametrize(
    ("over", "decision", "code"),
    [
        ({}, "ship", 0),
        ({"general": (0.3, 0.2, 0.45)}, "keep the base", 1),
        ({"general": (0.01, -0.06, 0.09)}, "not known yet", 3),
        ({"windows": (0.2, 0.1, 0.3)}, "ship with conditions", 4),
        ({"general": (0.01, -0.06, 0.09), "windows": (0.2, 0.1, 0.3)}, "not known yet", 3),
    ],
)
def test_a_pipeline_learns_the_verdict_from_the_exit_code(
    terminology: Suite, over: dict[str, tuple[float, float, float]], decision: str, code: int
) -> None:
    names = {"general": GENERAL, "windows": "test, trimmed windows"}
    measures = {name: measure("WER", names[name], gap, 40) for name, gap in over.items()}
    verdict = judge(terminology, helpful(**measures))
    assert (verdict.decision, verdict.exit_code) == (decision, code)


def test_a_step_says_how_many_and_how_long(terminology: Suite) -> None:
    wide = measure("WER", GENERAL, (0.01, -0.06, 0.09), 40)
    verdict = judge(terminology, helpful(general=wide))
    [step] = verdict.steps("runs/x", seconds=1.5)
    assert str(step) == "mmtune evaluate runs/x --retention_rows 160 (about 4 min on this machine)"
    few = measure("WER", "test without repeats", (0.0, -0.04, 0.04), 100)
    [step] = judge(terminology, helpful(test=few)).steps("runs/x")
    assert str(step) == "add about 300 test rows to the data, then: mmtune evaluate runs/x"


@pytest.mark.parametrize(
    ("interval", "items", "units", "step"),
    [
        # The half-width 0.175 has to become 0.1: 1.75 ** 2 times 36 images, 2 of each picture.
        ((0.3, 0.125, 0.475), 36, 0, "put about 56 pictures of the brand that weren't trained on"),
        ((0.9, 0.8, 1.0), 6, 0, "put about 5 pictures of the brand that weren't trained on"),
        (
            (0.9, 0.9, 0.9),
            36,
            1,
            "put pictures of the brand that weren't trained on, of other subjects,",
        ),
    ],
)
def test_new_pictures_go_into_a_folder_of_their_own(
    interval: tuple[float, float, float], items: int, units: int, step: str
) -> None:
    style = measure("style", "held-out captions", interval, items, higher=True, base=0.0)
    gap = Interval(*interval)
    style = replace(style, base=Interval(0.0, 0.0, 0.0), adapter=gap, per_row=2, units=units)
    verdict = judge(load_suite("brand_style"), Comparison("image", [style], ""))
    found = gate(verdict, "style").step("RUN", seconds=1.0)
    assert found is not None
    assert found.text == f"{step} into a folder of their own (only these are measured), then:"
    assert found.command == "mmtune evaluate RUN --data NEW_FOLDER"
    assert ("2 of each test row)" in gate(verdict, "style").finding) == (units == 0)
    content = gate(verdict, "content").step("RUN")
    assert content is not None
    assert content.command == "mmtune evaluate RUN --data NEW_FOLDER"


@pytest.mark.parametrize(("speakers", "step"), [
    (30, "mmtune evaluate runs/x --probes 80"),
    (15, "add rows of other speakers, terms or recordings, then: mmtune evaluate runs/x"),
])  # fmt: skip
def test_more_of_the_rows_are_asked_for_where_they_have_other_speakers(
    terminology: Suite, speakers: int, step: str
) -> None:
    test = replace(measure("WER", "test without repeats", (-0.2, -0.3, -0.1), 125), units=speakers)
    times = measure("WER", "test with times", (-0.2, -0.3, -0.1), 40)
    times = replace(times, units=15, enough=20, few="not enough speakers (15 of 20)")
    whole = replace(measure("WER", "test", (-0.2, -0.3, -0.1), 125), units=speakers)
    comparison = helpful(test=test, times=times, whole=whole)
    assert list(map(str, judge(terminology, comparison).steps("runs/x"))) == [step]


@pytest.mark.parametrize(("value", "near"), [(0.042, False), (0.043, True), (0.0499, True)])
def test_nobody_is_sent_for_hopelessly_many_rows(
    terminology: Suite, value: float, near: bool
) -> None:
    """With 300 rows and a half-width of 0.034, 20 times the rows halve it 4.5 times."""
    wide = measure("WER", GENERAL, (value, value - 0.034, value + 0.034), 300)
    verdict = judge(terminology, helpful(general=wide))
    found = gate(verdict, "general speech")
    assert (found.status, found.near) == ("not enough data", near)
    assert ("too close to the threshold" in found.answer) == near
    assert ("more items are needed" in found.answer) != near
    [step] = verdict.steps("runs/x", seconds=1.5)
    assert ("--retention_rows" in str(step)) != near
    assert str(step).startswith("train with other settings") == near


def test_a_missing_should_leaves_the_way_open(terminology: Suite) -> None:
    windows = measure("WER", "test, trimmed windows", (0.2, 0.1, 0.3), 40)
    verdict = judge(terminology, helpful(windows=windows))
    assert verdict.decision == "ship with conditions"
    assert gate(verdict, "other windows: test, trimmed windows").status == "failed"
    assert "1 of 5 recommended checks failed (other windows" in verdict.summary


@pytest.mark.parametrize(
    ("items", "least", "words"),
    [
        (1, 2, "1 item is too few to decide. About 1 more item is needed (1 was measured)"),
        (1, 3, "1 item is too few to decide. About 2 more items are needed (1 was measured)"),
        (3, 4, "3 items are too few to decide. About 1 more item is needed (3 were measured)"),
        (9, 1009, "9 items are too few to decide. About 1,000 more items are needed (9 were"),
    ],
)
def test_counts_are_singular_or_plural(
    terminology: Suite, items: int, least: int, words: str
) -> None:
    general = next(each for each in terminology.gates if each.name == "general speech")
    asked = general.model_copy(update={"min_items": least})
    alone = terminology.model_copy(update={"gates": [asked]})
    few = measure("WER", GENERAL, (0.0, -0.001, 0.001), items)
    assert words in gate(judge(alone, helpful(general=few)), "general speech").finding


def test_too_wide_an_interval_says_how_many_more(terminology: Suite) -> None:
    wide = measure("WER", GENERAL, (0.01, -0.06, 0.09), 40)
    verdict = judge(terminology, helpful(general=wide))
    found = gate(verdict, "general speech")
    assert found.status == "not enough data"
    assert found.more == 40 * 4 - 40  # the half-width 0.08 has to become 0.04
    assert "About 120 more items are needed (40 were measured)" in found.finding
    assert found.full_finding.endswith("; task.retention_rows sets the number")


def test_few_items_decide_nothing(terminology: Suite) -> None:
    few = measure("WER", GENERAL, (0.0, 0.0, 0.0), 3)
    found = gate(judge(terminology, helpful(general=few)), "general speech")
    assert (found.status, found.more) == ("not enough data", 7)


@pytest.mark.parametrize(("p", "decision"), [(0.25, "not known yet"), (0.03, "ship")])
def test_few_speakers_need_the_sign_flip_test_too(
    terminology: Suite, p: float, decision: str
) -> None:
    recall = measure("term recall", "seen terms", (0.6, 0.5, 0.7), 72, higher=True)
    few = replace(recall, few="not enough speakers (3 of 20)", p=p)
    verdict = judge(terminology, helpful(recall=few))
    assert verdict.decision == decision
    assert f"not enough speakers (3 of 20), sign-flip test p = {p}" in verdict.main.answer


def test_no_event_in_few_items_is_not_none(terminology: Suite) -> None:
    none = measure("false insertions", "test", (0.0, 0.0, 0.0), 20, base=0.0)
    found = gate(judge(terminology, helpful(insertions=none)), "false insertions")
    assert found.figure == Interval(0.0, -0.15, 0.15)
    assert (found.status, found.more) == ("not enough data", 40)


@given(st.integers(10, 500), st.floats(0.001, 1), st.floats(0.001, 1))
def test_as_many_more_items_bring_the_end_to_the_bound(n: int, half: float, room: float) -> None:
    more = more_items(n, 0.0, half, room)
    if more is not None:
        reached = half * math.sqrt(n / (n + more))
        assert reached <= room * (1 + 1e-9) or more_items(n, 0.0, half, room) == 1
        if more > 1:
            assert half * math.sqrt(n / (n + more - 1)) > room * (1 - 1e-9)


def test_the_estimate_of_items_holds_for_a_real_bootstrap() -> None:
    rng = np.random.default_rng(3)
    base, adapter = rng.normal(0, 1, (4000, 1)), rng.normal(0.02, 1, (4000, 1))

    def mean(stats: np.ndarray) -> float:
        return float(stats.mean())

    few = paired_bootstrap(list(base[:250]), list(adapter[:250]), mean)[2]
    whole = paired_bootstrap(list(base), list(adapter), mean)[2]
    half, wanted = few.high - few.value, whole.high - whole.value
    more = more_items(250, few.value, few.high, few.value + wanted)
    assert more is not None
    assert 250 + more == pytest.approx(4000, rel=0.25)
    assert half > wanted


def test_a_verdict_is_read_back_as_it_was_written(terminology: Suite, tmp_path: Path) -> None:
    verdict = judge(terminology, without(helpful(), GENERAL, "non-speech"))
    write_verdict(tmp_path, verdict)
    assert read_verdict(tmp_path) == verdict
    assert json.loads((tmp_path / VERDICT_FILE).read_text())["decision"] == "not known yet"
    assert read_verdict(tmp_path / "nowhere") is None


def test_the_page_begins_with_the_verdict(terminology: Suite, tmp_path: Path) -> None:
    comparison = without(helpful(), GENERAL)
    write_verdict(tmp_path, judge(terminology, comparison))
    write_report(tmp_path / "report.html", [comparison], [tmp_path])
    page = (tmp_path / "report.html").read_text()
    body = page[page.index("<body>") :]
    shown = ("Not known yet", ">Not known<", ">Yes<", "Does it help?", "headline")
    places = [body.index(text) for text in shown]
    assert places == sorted(places)
    assert body.count(">Not known<") == 2
    assert body.count('class="check ') == len(read_verdict(tmp_path).gates)


def test_the_docs_table_holds_every_gate_with_its_level_and_threshold() -> None:
    text = (Path(__file__).parents[2] / "docs/evaluation.md").read_text(encoding="utf-8")
    _, _, table = text.partition("| gate | level | threshold | why |\n|---|---|---|---|\n")
    lines = table.partition("\n\n")[0].splitlines()
    cells = [[cell.strip() for cell in line.split("|")[1:-1]] for line in lines]
    rows = {name: rest for name, *rest in cells}
    del rows["main measure"]
    gates = {each.name: each for name in suites() for each in load_suite(name).gates}
    assert rows.keys() == gates.keys()
    for name, each in gates.items():
        level, threshold, _ = rows[name]
        bound = each.at_most if each.at_most is not None else each.at_least
        ends = {"upper": "upper end", "lower": "lower end", "point": "value"}
        assert level == {"must": "required", "should": "recommended"}[each.level], name
        assert ends[each.end] in threshold, name
        stated = re.search(r"[≤≥] ([+−]?[\d.]+)", threshold)
        assert stated is not None, name
        assert float(stated[1].replace("−", "-")) == bound, name


def test_a_gate_may_be_a_share_of_the_base() -> None:
    gate = {"name": "a", "asks": "Is it?", "metric": "WER", "slice": "test", "times": "base"}
    share = Gate.model_validate(gate | {"at_most": 0.1})
    suite = Suite(name="s", modality="speech", main=load_suite("dialect").main, gates=(share,))
    test = measure("WER", "test", (-0.2, -0.3, -0.1))
    assert judge(suite, Comparison("speech", [test], "")).gates[0].bound == pytest.approx(0.04)


@pytest.mark.parametrize(
    ("missing", "code"), [((), 0), ((GENERAL,), 3), (("test, trimmed windows",), 4)]
)
def test_evaluate_ends_with_the_verdict_and_its_exit_code(
    terminology: Suite,
    missing: tuple[str, ...],
    code: int,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    config = load_recipe("terminology", {"name": "run", "out": str(tmp_path)})
    config.folder.mkdir()
    (config.folder / "config.yaml").write_text(config.dump())
    verdict = judge(terminology, without(helpful(), *missing))

    def measured(config: RunConfig, suite: str | None, fresh: bool, changed: object) -> Comparison:
        assert (suite, fresh) == ("dialect", True)
        write_verdict(config.folder, verdict)
        return helpful()

    monkeypatch.setattr(pipeline, "evaluate", measured)
    words = ["evaluate", str(config.folder), "--suite", "dialect", "--fresh"]
    assert main([*words, "--gate"]) == code
    printed = capsys.readouterr().out.splitlines()
    steps = [f"next     {step}" for step in verdict.steps(str(config.folder))]
    assert printed[-len([*verdict.lines(), *steps]) :] == [*verdict.lines(), *steps]
    assert len(steps) == (code == 3)
    assert main(words) == 0, "without --gate it only says so"
    comparison = json.dumps(helpful().to_json())
    (config.folder / "comparison.json").write_text(comparison)
    assert main([*words, "--redacted"]) == 0
    redacted = config.folder / "report-redacted.html"
    assert f"redacted {redacted}" in capsys.readouterr().out
    assert "No items are shown" in redacted.read_text()


def test_suite_and_report_may_change_without_a_new_run(tmp_path: Path) -> None:
    config = load_recipe("terminology", {"name": "run", "out": str(tmp_path)})
    claim(config)
    (config.folder / "log.jsonl").touch()
    policy = ReportOptions(content="none")
    claim(config.model_copy(update={"suite": "dialect", "report": policy}))
    assert read_yaml(config.folder / "config.yaml")["suite"] == "dialect"
    assert content_policy(config.folder) == "none"
    keep_suite(config.folder, "dialect")
    assert load_suite(str(config.folder / "suite.yaml")).name == "dialect"
    keep_suite(config.folder, str(config.folder / "suite.yaml"))
    assert load_suite(str(config.folder / "suite.yaml")).name == "dialect"
    keep_suite(config.folder, None)
    assert not (config.folder / "suite.yaml").exists()


def test_one_better_and_one_worse_row_is_not_no_event(terminology: Suite) -> None:
    """The difference is 0, and the interval tells that there were events."""
    even = measure("repeating rows", "general speech", (0.0, -0.022, 0.022), 200)
    found = gate(
        judge(terminology, helpful(**{"general repeats": even})), "repeats in general speech"
    )
    assert found.status == "not enough data"
    assert found.more == 42  # 200 x (0.022 / 0.02)^2, and 200 were measured
    assert found.figure == Interval(0.0, -0.022, 0.022)


def test_more_rows_of_the_same_few_speakers_are_not_asked_for(terminology: Suite) -> None:
    general = replace(measure("WER", GENERAL, (0.0, -0.02, 0.02), 300), units=12, enough=20)
    verdict = judge(terminology, helpful(general=general))
    found = gate(verdict, "general speech")
    assert (found.status, found.more) == ("not enough data", None)
    [step] = verdict.steps("runs/x")
    assert str(step) == (
        "add rows of other speakers, terms or recordings, then: mmtune evaluate runs/x"
    )
    assert judge(terminology, helpful(general=replace(general, units=20))).decision == "ship"
