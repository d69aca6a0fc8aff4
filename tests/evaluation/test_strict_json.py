"""A comparison is strict JSON: other programs read no NaN."""

from __future__ import annotations

import json
import math

from mmtune.evaluation.comparison import Comparison
from mmtune.metrics.bootstrap import Interval
from mmtune.metrics.measure import Measure

SOME, NAN = Interval(0.5, 0.4, 0.6), Interval(math.nan, math.nan, math.nan)
HALF = Interval(0.5, math.nan, math.nan)


def test_undefined_figures_are_null_and_come_back() -> None:
    measures = [
        Measure("WER", "all", 4, SOME, NAN, HALF, False, control=NAN, references={"real": HALF}),
        Measure("WER", "few", 4, NAN, SOME, SOME, False),
    ]
    values = Comparison("speech", measures, "line").to_json()
    written = json.dumps(values, allow_nan=False)  # raises for NaN
    first, second = json.loads(written)["measures"]
    nothing = {"value": None, "low": None, "high": None}
    assert first["adapter"] == first["control"] == second["base"] == nothing
    assert first["difference"] == first["references"]["real"] == nothing | {"value": 0.5}
    assert first["base"] == second["adapter"] == {"value": 0.5, "low": 0.4, "high": 0.6}
    assert second["control"] is None
    back = Comparison.from_json(json.loads(written))
    assert json.dumps(back.to_json(), allow_nan=False) == written
    assert math.isnan(back.measures[0].adapter.value)
    assert back.measures[0].difference.value == 0.5
    assert math.isnan(back.measures[0].difference.low)
    assert back.measures[1].control is None
