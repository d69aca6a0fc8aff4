"""The run folder: write its files, and refuse to mix runs with other settings or data."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

import yaml

from mmtune.adapters.card import read_card
from mmtune.config import RunConfig, read_yaml
from mmtune.data.rows import Split
from mmtune.errors import ConfigError
from mmtune.evaluation.comparison import COMPARISON_FILE, Comparison
from mmtune.evaluation.suite import load_suite, suite_path
from mmtune.runs.build import build
from mmtune.system.files import write_text
from mmtune.system.formats import FORMAT, with_format, without_format

if TYPE_CHECKING:
    from mmtune.data.dataset import Dataset


SUITE_FILE = "suite.yaml"  # in a run's folder: the one that judged it


AFTERWARDS = {"suite", "report.content"}  # settings that change nothing of what is trained


def keep_suite(folder: Path, suite: str | None) -> None:
    """Copy the suite into the run folder, so that the folder doesn't depend on other files."""
    path = folder / SUITE_FILE
    if suite is None:
        path.unlink(missing_ok=True)
    elif suite_path(suite).resolve() != path.resolve():
        path.write_text(load_suite(suite).dump(), encoding="utf-8")


def claim(config: RunConfig) -> None:
    """Write the run's settings, or check that the folder already holds the same settings.

    Raises:
        ConfigError: the folder holds a run with other settings.
    """
    path = config.folder / "config.yaml"
    if not begun(config.folder) or not path.exists():
        config.folder.mkdir(parents=True, exist_ok=True)
        _write_settings(path, config)
        return
    # Settings that came with a later version have their defaults in the run of an earlier one.
    stored = without_format(read_yaml(path), path)
    before = build(stored, str(path), type(config.task), {})
    old, new = (_flat(yaml.safe_load(each.dump())) for each in (before, config))
    differing = [k for k in sorted(old.keys() | new.keys()) if old.get(k) != new.get(k)]
    if differing and set(differing) <= AFTERWARDS:
        _write_settings(path, config)
    elif differing:
        key = differing[0]
        raise ConfigError(
            f"{config.folder} holds a run with other settings: {key} was {old.get(key)!r}, "
            f"now {new.get(key)!r}" + (f", and {len(differing) - 1} more" * (len(differing) > 1)),
            f"give the old settings to resume it, or a new run: --name {config.name}-2",
        )


def _write_settings(path: Path, config: RunConfig) -> None:
    path.write_text(f"format: {FORMAT}\n{config.dump()}", encoding="utf-8")


def begun(folder: Path) -> bool:
    """Whether a run has begun in this folder: its log exists."""
    # A command that failed before training, such as on a wrong path, must not occupy the name.
    return (folder / "log.jsonl").exists()


def _flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in values.items():
        if isinstance(value, Mapping) and value:
            flat |= _flat(value, f"{prefix}{key}.")
        else:
            flat[prefix + key] = value
    return flat


def record_data(folder: Path, dataset: Dataset) -> None:
    """Write what the check found; refuse to resume a run with other data.

    Raises:
        ConfigError: the data has changed since the run began.
    """
    path = folder / "data.json"
    if begun(folder) and path.exists():
        old = without_format(json.loads(path.read_text(encoding="utf-8")), path)["fingerprint"]
        if old != dataset.fingerprint:
            raise ConfigError(
                f"{dataset.source} has changed since {folder} began "
                f"({old[:12]} then, {dataset.fingerprint[:12]} now)",
                "restore the data to resume, or start a new run with --name",
            )
        return
    facts = {
        "format": FORMAT,
        "source": str(dataset.source),
        "fingerprint": dataset.fingerprint,
        "rows": rows_by_split(dataset),
        "quarantined": list(dataset.quarantined),
        "findings": [dataclasses.asdict(finding) for finding in dataset.findings],
    }
    path.write_text(json.dumps(facts, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def rows_by_split(dataset: Dataset) -> dict[str, int]:
    """Count a dataset's rows by split."""
    return {name: len(dataset.split(name)) for name in get_args(Split)}


def keep_comparison(config: RunConfig, found: Comparison) -> None:
    """Write the comparison, and its measures into the adapter's card."""
    text = json.dumps(found.to_json(), indent=2, ensure_ascii=False)
    write_text(config.folder / COMPARISON_FILE, with_format(text) + "\n")
    measures = [dataclasses.asdict(measure) for measure in found.measures]
    card = read_card(config.folder / "adapter")
    card.model_copy(update={"measures": measures}).write(config.folder / "adapter")
