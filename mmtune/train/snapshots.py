"""Adapter weights of some validations, kept so that they can be compared when training is done."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from mmtune.errors import TrainingError

FOLDER = "validated"  # in a run's folder


@dataclass(frozen=True)
class Snapshot:
    """The adapter after a step; step 0 is as it began, which is the base.

    Attributes:
        weights: the trainable parameters by name.
        values: what validation measured.
    """

    step: int
    weights: Mapping[str, Tensor]
    values: Mapping[str, float]


class Snapshots:
    """Those of one run: the base, at most `most` validations evenly apart, and the best one.

    Which are kept follows from the settings alone, so that a resumed run keeps the same.

    Args:
        folder: the run's.
        most: 0 keeps none.
        validations: that the whole run makes, the base's not counted.
    """

    def __init__(self, folder: Path, most: int, validations: int) -> None:
        self.folder = folder / FOLDER
        self.most = most
        self._every = math.ceil(validations / most) if most else 0
        self._last = validations

    def due(self, number: int) -> bool:
        """Whether validation `number` is kept, counted from 1; 0 is the base's."""
        return bool(self.most) and (number % self._every == 0 or number == self._last)

    def put(self, snapshot: Snapshot) -> None:
        """Write one, atomically.

        Raises:
            TrainingError: the disk is full or the folder can't be written.
        """
        from safetensors.torch import save_file

        path = self._path(snapshot.step)
        partial = path.with_name(f".{path.name}.partial")
        tensors = {k: v.detach().cpu().contiguous().clone() for k, v in snapshot.weights.items()}
        facts = {"validation": json.dumps(dict(snapshot.values)), "step": str(snapshot.step)}
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            save_file(tensors, partial, metadata=facts)
            partial.replace(path)
        except OSError as error:
            raise TrainingError(
                f"can't write {path}: {error}",
                "free disk space and repeat the command, or --compare_checkpoints 0",
            ) from error

    def holds(self, step: int) -> bool:
        """Whether the weights after `step` are kept."""
        return self._path(step).is_file()

    def _path(self, step: int) -> Path:
        return self.folder / f"step-{step:07d}.safetensors"


def read_snapshots(folder: Path) -> list[Snapshot]:
    """What a run has kept, by step.

    Args:
        folder: the run's.
    """
    from safetensors import safe_open
    from safetensors.torch import load_file

    found = []
    for path in sorted((folder / FOLDER).glob("step-*.safetensors")):
        with safe_open(path, "pt") as file:
            facts = file.metadata()
        found.append(Snapshot(int(facts["step"]), load_file(path), json.loads(facts["validation"])))
    return found
