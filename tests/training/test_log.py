"""The log of a run, and what is damaged in it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from mmtune.training.log import read_log

GOOD = {"step": 1, "loss": 0.5}


@pytest.mark.parametrize(
    ("entry", "read"),
    [
        ({"event": "begin"}, True),
        ({"step": 0, "validation": {"wer": 0.5}}, True),
        ({"step": 0, "validation": [0.5]}, False),
        ({"step": 0, "validation": {"wer": "0.5"}}, False),
        ({"validation": {"wer": 0.5}}, False),
        ({"step": True, "loss": 0.5}, False),
        ({"loss": 0.5}, False),
        ({"step": 2, "loss": "low"}, False),
    ],
)
def test_an_entry_with_other_types_is_left_out(
    tmp_path: Path, entry: dict[str, Any], read: bool
) -> None:
    path = tmp_path / "log.jsonl"
    path.write_text("".join(json.dumps(each) + "\n" for each in (entry, GOOD)))
    assert read_log(path) == ([entry] if read else []) + [GOOD]
