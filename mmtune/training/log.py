"""The run's log: one JSON object per line."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mmtune.system.files import append_text, write_text
from mmtune.system.stored import intact_json_lines


class RunLog:
    """Appends entries to `log.jsonl`; only the main process writes."""

    def __init__(self, path: Path, active: bool) -> None:
        self.path = path
        self.active = active

    def write(self, **entry: Any) -> None:
        """Append one entry and flush it."""
        if self.active:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            append_text(self.path, json.dumps(entry) + "\n")

    def cut(self, step: int) -> None:
        """Delete entries after `step`, which a resumed run writes again."""
        if not self.active or not self.path.exists():
            return
        kept = [entry for entry in read_log(self.path) if entry.get("step", 0) <= step]
        write_text(self.path, "".join(json.dumps(entry) + "\n" for entry in kept))


def read_log(path: Path) -> list[dict[str, Any]]:
    """Read the entries of a log; a line that a crash cut off or that is damaged is skipped.

    An entry with a value of another type than `RunLog` gets from the loop is damaged too.
    """
    return [entry for entry in intact_json_lines(path) if _is_entry(entry)]


def _is_entry(entry: Mapping[str, Any]) -> bool:
    validation = entry.get("validation")
    measured = validation is not None or entry.get("loss") is not None
    numbers = [entry.get("step", None if measured else 0)]  # what is measured has a step
    if validation is not None:
        if not isinstance(validation, dict):
            return False
        numbers += validation.values()
    if entry.get("loss") is not None:
        numbers.append(entry["loss"])
    return all(isinstance(n, int | float) and not isinstance(n, bool) for n in numbers)
