"""The table of measures: all rows, and a control only where there is one."""

from __future__ import annotations

import dataclasses
import math

from mmtune.metrics.bootstrap import Interval
from mmtune.metrics.measure import Measure, measure_rows

BASE, ADAPTER = Interval(0.5, 0.4, 0.6), Interval(0.25, 0.2, 0.3)
DIFFERENCE, NAN = Interval(-0.25, -0.3, -0.2), Interval(math.nan, math.nan, math.nan)
HEAD = ["metric", "on", "items", "base", "adapter", "difference"]


def test_a_measure_is_a_row_and_a_control_a_column() -> None:
    plain = Measure("WER", "all", 40, BASE, ADAPTER, DIFFERENCE, False)
    unknown = Measure("recall", "terms", 3, NAN, ADAPTER, NAN, True)
    own = ["WER", "all", "40", "0.500 [0.400, 0.600]", "0.250 [0.200, 0.300]",
           "-0.250 [-0.300, -0.200]"]  # fmt: skip
    other = ["recall", "terms", "3", "–", "0.250 [0.200, 0.300]", "–"]
    assert measure_rows([plain, unknown]) == [HEAD, own, other]
    assert measure_rows([]) == [HEAD]
    controlled = dataclasses.replace(plain, control=Interval(0.01, -0.1, 0.12))
    assert measure_rows(iter([unknown, controlled])) == [
        [*HEAD, "control"], [*other, ""], [*own, "0.010 [-0.100, 0.120]"],
    ]  # fmt: skip
    better = dataclasses.replace(plain, difference=Interval(0.25, 0.2, 0.3))
    assert measure_rows([better])[1][5] == "+0.250 [+0.200, +0.300]"
