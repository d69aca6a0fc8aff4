"""An evaluation without a suite says that it has no verdict, with the command that gives one."""

from __future__ import annotations

from pathlib import Path

from mmtune.evaluation.comparison import Comparison
from mmtune.runs.pipeline import Evaluation


def test_without_a_suite_one_line_says_that_there_is_no_verdict() -> None:
    found = Evaluation(folder=Path("my runs/a"), comparison=Comparison("speech", [], "nothing"))
    lines = [line for line in found.shown() if isinstance(line, str)]
    assert lines[-1] == (
        "verdict  no suite was named, so there is no verdict: "
        "mmtune evaluate 'my runs/a' --suite NAME"
    )
