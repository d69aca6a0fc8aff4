"""Snapshots: adapter weights at some validations, which are compared after training."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from mmtune.errors import TrainingError, first_line
from mmtune.system.files import file_aside
from mmtune.system.stored import damaged

FOLDER = "validated"  # in a run's folder


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
        from safetensors.torch import save_file

        path = self._path(snapshot.step)
        tensors = {k: v.detach().cpu().contiguous().clone() for k, v in snapshot.weights.items()}
        facts = {"validation": json.dumps(dict(snapshot.values)), "step": str(snapshot.step)}
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            with file_aside(path) as partial:
                save_file(tensors, partial, metadata=facts)
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
    """
    from safetensors import SafetensorError, safe_open
    from safetensors.torch import load_file

    found = []
    for path in sorted((folder / FOLDER).glob("step-*.safetensors")):
        cure = "restore the file, or start a new run with --name"
        try:
            with safe_open(path, "pt") as file:
                facts = file.metadata()
            weights = load_file(path)
        except SafetensorError as error:
            raise TrainingError(f"{path} can't be read: {first_line(error)}", cure) from None
        with damaged(path, cure, TrainingError):
            found.append(Snapshot(int(facts["step"]), weights, json.loads(facts["validation"])))
    return found
