"""The record of a run, `run.json`: what it was made of, on which machine, and at what cost."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml
from packaging.requirements import Requirement

from mmtune.config import RunConfig
from mmtune.data.version_rows import SHOWN_DIGITS
from mmtune.system.files import write_json
from mmtune.system.formats import FORMAT, without_format
from mmtune.system.hashing import hash_file, hash_json
from mmtune.system.nested import flat
from mmtune.system.run_folder import LOG_FILE
from mmtune.system.stored import read_json_object
from mmtune.system.version import VERSION
from mmtune.training.log import read_log

if TYPE_CHECKING:
    from mmtune.data.dataset import Dataset

RECORD = "run.json"  # in a run's folder
STOPPED = "stopped"  # the log's event with the seconds of a call that was interrupted
FORMULA = (
    "FLOPs of one training step × number of steps. Those of one step are counted while it runs "
    "(torch.utils.flop_counter): matrix products, convolutions and attention, forward and "
    "backward, 2 for each multiplication with its addition, scaled from the measured rows to a "
    "batch. The frozen prefix, validation and the comparison aren't counted."
)


def write_record(
    config: RunConfig, dataset: Dataset, base_hash: str, steps: int, seconds: Mapping[str, float]
) -> None:
    """Write the record of a run that was trained in this call.

    Args:
        config: the run's settings.
        dataset: what it was trained on.
        base_hash: of the base's weights.
        steps: how many it made.
        seconds: of this call, by phase; those of interrupted calls are added.
    """
    folder = config.folder
    settings = yaml.safe_load(config.dump())
    values = {
        "format": FORMAT,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "dataset": {
            "source": str(dataset.source),
            "fingerprint": dataset.fingerprint,
            "version": dataset.version,
        },
        "base": {"name": config.base, "sha256": base_hash},
        "code": {"mmtune": VERSION, "sha256": code_hash()},
        "libraries": libraries(),
        "settings": settings,
        "seeds": {
            name: value
            for name, value in flat(settings).items()
            if name.rpartition(".")[2].endswith("seed")
        },
        "machine": machine(),
        "seconds": _with_earlier(folder, seconds),
        "flops": _flops(folder, steps),
    }
    write_json(folder / RECORD, values, private=True)  # its settings may name recordings


def add_seconds(folder: Path, seconds: Mapping[str, float]) -> None:
    """Replace the seconds in a run's record, when the command is at its end."""
    values = read_json_object(folder / RECORD, "repeat the run's mmtune train command")
    write_json(folder / RECORD, values | {"seconds": _with_earlier(folder, seconds)}, private=True)


def read_record(folder: Path) -> dict[str, Any]:
    """Read the record of a run; empty if an earlier mmtune made the run.

    Raises:
        ConfigError: it is damaged, or a newer mmtune wrote it.
    """
    path = folder / RECORD
    try:
        return without_format(read_json_object(path, "restore it from a backup"), path)
    except FileNotFoundError:
        return {}


def _with_earlier(folder: Path, seconds: Mapping[str, float]) -> dict[str, float]:
    """Seconds by phase of this call and of those that were interrupted."""
    found = dict(seconds)
    for entry in read_log(folder / LOG_FILE):
        phases = entry.get("phases")
        if entry.get("event") == STOPPED and isinstance(phases, dict):
            for name, value in phases.items():
                found[name] = found.get(name, 0.0) + float(value)
    return {name: round(value, 3) for name, value in found.items()}


def _flops(folder: Path, steps: int) -> dict[str, Any]:
    counted = [
        float(entry["step_flops"])
        for entry in read_log(folder / LOG_FILE)
        if entry.get("event") == "preflight" and entry.get("step_flops")
    ]
    step = counted[-1] if counted else None
    total = None if step is None else step * steps
    return {"total": total, "step": step, "steps": steps, "formula": FORMULA}


def libraries() -> dict[str, str]:
    """Installed versions of the packages that mmtune needs, and of Python."""
    found = {"python": platform.python_version()}
    for line in importlib.metadata.requires("mmtune") or ():
        need = Requirement(line)
        if need.marker is not None and not need.marker.evaluate({"extra": ""}):
            continue
        try:
            found[need.name] = importlib.metadata.version(need.name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return dict(sorted(found.items()))


@cache
def code_hash() -> str:
    """The hash of mmtune's own modules, by their place in the package."""
    root = Path(__file__).parent.parent
    files = sorted(root.rglob("*.py"))
    return hash_json({path.relative_to(root).as_posix(): hash_file(path) for path in files})


def machine() -> dict[str, Any]:
    """Facts of the machine that change figures and times; its name isn't one of them."""
    import psutil
    import torch

    gpus = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    return {
        "system": f"{platform.system()} {platform.release()}",
        "processor": _processor(),
        "cores": os.cpu_count() or 1,
        "threads": torch.get_num_threads(),
        "memory_gib": round(psutil.virtual_memory().total / 2**30, 1),
        "gpus": gpus,
        "cuda": torch.version.cuda if gpus else None,
    }


def _processor() -> str:
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        return platform.processor() or platform.machine()
    found = re.search(r"^model name\s*:\s*(.+)$", text, re.M)
    return found[1].strip() if found else platform.machine()


def made_otherwise(then: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """What two runs' records say differently of base, code, libraries and machine."""
    kinds = ("base", "code", "libraries", "machine")
    old, new = (flat({kind: each.get(kind, {}) for kind in kinds}) for each in (then, now))
    return [
        f"{name}: {_short(old.get(name))} then, {_short(new.get(name))} now"
        for name in sorted(old.keys() | new.keys())
        if old.get(name) != new.get(name)
    ]


def _short(value: Any) -> str:
    text = "unknown" if value is None else str(value)
    return text[:SHOWN_DIGITS] if re.fullmatch(r"[0-9a-f]{64}", text) else text
