"""What earlier runs on this machine took, beside what was said: it corrects the next estimate."""

from __future__ import annotations

import contextlib
import math
import statistics
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mmtune.errors import MmtuneError
from mmtune.system.files import write_json
from mmtune.system.resources import cache_root
from mmtune.system.stored import read_json_object
from mmtune.training.estimate import CHOICE, COMPARISON, REPORT, LaterWork

FILE = "timing.json"
KEPT = 8  # runs of each kind
MAX_FACTOR = 4.0  # a factor beyond it comes from another load of the machine
FIRST_REPORT = 5.0  # seconds of a report, before one was timed
LATER = (CHOICE, COMPARISON, REPORT)


def corrected(kind: str, work: LaterWork) -> LaterWork:
    """Multiply each part of the later work by what earlier runs took of what was said.

    Args:
        kind: of the run; others may have other factors.
        work: as it is computed from measured units.
    """
    factors = {phase: _factor(_read(kind), phase) for phase in LATER}
    return LaterWork(
        work.choosing * factors[CHOICE],
        work.comparison * factors[COMPARISON],
        work.report * factors[REPORT],
    )


def record(kind: str, said: LaterWork, took: Mapping[str, float]) -> None:
    """Keep what a run took, in the cache's folder; a folder that can't be written is no error.

    Args:
        kind: of the run.
        said: the later work, as it was computed from measured units.
        took: seconds of each phase.
    """
    figures = {CHOICE: said.choosing, COMPARISON: said.comparison, REPORT: said.report}
    entry = {phase: [figures[phase], took.get(phase, 0.0)] for phase in LATER}
    runs = {**_read_all(), kind: [*_read(kind), entry][-KEPT:]}
    with contextlib.suppress(OSError):
        root = cache_root()
        root.mkdir(parents=True, exist_ok=True)
        write_json(root / FILE, runs, private=True)


def _factor(runs: list[Mapping[str, Any]], phase: str) -> float:
    ratios = [took / said for said, took in (_pair(run, phase) for run in runs) if said and took]
    return min(MAX_FACTOR, max(1 / MAX_FACTOR, statistics.median(ratios))) if ratios else 1.0


def _pair(run: Mapping[str, Any], phase: str) -> tuple[float, float]:
    try:
        said, took = map(float, run[phase])
    except (KeyError, TypeError, ValueError):  # of another version, or damaged
        return 0.0, 0.0
    usable = math.isfinite(said) and math.isfinite(took) and min(said, took) > 0
    return (said, took) if usable else (0.0, 0.0)


def _read(kind: str) -> list[Mapping[str, Any]]:
    found = _read_all().get(kind)
    return [run for run in found if isinstance(run, dict)] if isinstance(found, list) else []


def _read_all() -> dict[str, Any]:
    path: Path = cache_root() / FILE
    try:
        return read_json_object(path, "delete the file")
    except (OSError, MmtuneError):
        return {}
