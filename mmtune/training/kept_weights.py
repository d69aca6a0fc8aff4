"""Snapshots: adapter weights at some validations, which are compared after training."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from mmtune.errors import TrainingError
from mmtune.system.hashing import hash_tensors
from mmtune.system.stored import damaged
from mmtune.system.tensors import load_tensors, read_metadata, require_finite, save_tensors

FOLDER = "validated"  # in a run's folder
HASH = "sha256"  # of the tensors, in the file's metadata
CURE = "delete this file, and repeat the command: the other checkpoints are compared without it"


@dataclass(frozen=True)
class Snapshot:
    """The adapter after a step; the adapter of step 0 equals the base.

    Attributes:
        step: the step.
        weights: the trainable parameters by name.
        values: the validation metrics.
    """

    step: int
    weights: Mapping[str, Tensor]
    values: Mapping[str, float]


class Snapshots:
    """The snapshots of one run: the base, evenly spaced validations, and the best one.

    The settings alone decide which validations are kept, so a resumed run keeps the same ones.

    Args:
        folder: the run folder.
        most: the most validations to keep; 0 keeps none.
        validations: number of validations in the whole run, without the base's.
    """

    def __init__(self, folder: Path, most: int, validations: int) -> None:
        self.folder = folder / FOLDER
        self.most = most
        self._every = math.ceil(validations / most) if most else 0
        self._last = validations

    def due(self, number: int) -> bool:
        """Whether validation `number` (counted from 1; 0 is the base's) is kept."""
        return bool(self.most) and (number % self._every == 0 or number == self._last)

    def put(self, snapshot: Snapshot) -> None:
        """Write a snapshot atomically.

        Raises:
            TrainingError: the disk is full or the folder can't be written.
        """
        path = self._path(snapshot.step)
        facts = {
            "validation": json.dumps(dict(snapshot.values)),
            "step": str(snapshot.step),
            HASH: hash_tensors(snapshot.weights.items()),
        }
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            save_tensors(path, snapshot.weights, facts)
        except OSError as error:
            raise TrainingError(
                f"can't write {path}: {error.strerror or error}",
                "free disk space and repeat the command, or add --compare_checkpoints 0",
            ) from error

    def holds(self, step: int) -> bool:
        """Whether the weights after `step` are kept."""
        return self._path(step).is_file()

    def _path(self, step: int) -> Path:
        return self.folder / f"step-{step:07d}.safetensors"


def read_snapshots(folder: Path) -> list[Snapshot]:
    """Read the snapshots of a run, in the order of steps.

    Args:
        folder: the run folder.

    Raises:
        TrainingError: a snapshot is damaged.
    """
    return [read_snapshot(path) for path in snapshot_files(folder)]


def snapshot_files(folder: Path) -> list[Path]:
    """List the snapshots of the run in `folder`, in the order of steps."""
    return sorted((folder / FOLDER).glob("step-*.safetensors"))


def read_snapshot(path: Path) -> Snapshot:
    """Read one snapshot. One of an earlier version has no hash that could be compared.

    Raises:
        TrainingError: it is damaged: it can't be read, isn't finite, or has another hash.
    """
    facts = read_metadata(path, TrainingError, CURE)
    weights = load_tensors(path, TrainingError, CURE)
    require_finite(weights, path, TrainingError, CURE)
    if facts.get(HASH, "") not in ("", hash_tensors(weights.items())):
        raise TrainingError(f"{path} is damaged: its tensors don't have the stored SHA-256", CURE)
    with damaged(path, CURE, TrainingError):
        return Snapshot(int(facts["step"]), weights, json.loads(facts["validation"]))
