"""Checkpoints: written atomically with hashes, and deleted only after a newer one is complete.

Accelerate's `save_state` deletes the old checkpoint before it writes the new one, and neither it
nor safetensors detects a damaged file. A full disk or a bad sector would then cost the whole run.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from torch import Tensor

from mmtune.errors import MmtuneError, TrainingError
from mmtune.system.files import folder_aside, stream_aside, write_json
from mmtune.system.hashing import hash_file
from mmtune.system.stored import DAMAGE, read_json_object
from mmtune.system.tensors import load_tensors, require_finite, save_tensors

WEIGHTS, BEST, STATE = "weights.safetensors", "best.safetensors", "state.json"
TORCH, HASHES = "torch.pt", "sha256.json"
HASHED = (WEIGHTS, BEST, TORCH, STATE)


@dataclass(frozen=True)
class Checkpoint:
    """Everything that a run needs to resume.

    Attributes:
        weights: the trainable parameters by name.
        best: the parameters of the best validation so far; empty before the first. They are in the
            same folder so that they always belong to the state.
        state: step, best values and counters, as JSON values.
        tensors: states of optimizer, scheduler, gradient scaler and random generators.
    """

    weights: Mapping[str, Tensor]
    best: Mapping[str, Tensor]
    state: Mapping[str, Any]
    tensors: Mapping[str, Any]


def save_checkpoint(folder: Path, checkpoint: Checkpoint) -> None:
    """Write a checkpoint folder atomically: a crash leaves the old content or the new one.

    Raises:
        TrainingError: the disk is full or the folder can't be written.
    """
    try:
        # The folder exists only if it is damaged, or if this step was saved before a crash.
        with folder_aside(folder, durable=True) as partial:
            for name, values in ((WEIGHTS, checkpoint.weights), (BEST, checkpoint.best)):
                save_tensors(partial / name, values)
            with stream_aside(partial / TORCH) as stream:
                torch.save(dict(checkpoint.tensors), stream)
            write_json(partial / STATE, dict(checkpoint.state))
            hashes = {name: hash_file(partial / name) for name in HASHED}
            write_json(partial / HASHES, hashes)
    except OSError as error:
        raise TrainingError(
            f"can't write the checkpoint {folder}: {error.strerror or error}",
            "free disk space and repeat the command: the previous checkpoint is intact",
        ) from error


def load_checkpoint(folder: Path) -> Checkpoint | None:
    """Read a checkpoint; None if it is missing or damaged.

    It is damaged if a file can't be read, its hash doesn't match, or a weight isn't finite.
    """
    try:
        hashes = read_json_object(folder / HASHES, "")
        if any(hash_file(folder / name) != hashes.get(name) for name in HASHED):
            return None
        weights, best = load_tensors(folder / WEIGHTS), load_tensors(folder / BEST)
        for values in (weights, best):  # they have the same names
            require_finite(values, folder)
        return Checkpoint(
            weights=weights,
            best=best,
            state=read_json_object(folder / STATE, ""),
            tensors=torch.load(folder / TORCH, weights_only=True, map_location="cpu"),
        )
    except (OSError, MmtuneError, *DAMAGE, RuntimeError, UnpicklingError):
        return None


def step_folders(root: Path) -> list[Path]:
    """List the checkpoint folders of a run, newest first."""
    return sorted(root.glob("step-*"), reverse=True)


def newest(root: Path) -> tuple[Checkpoint | None, list[Path]]:
    """Read the newest undamaged checkpoint; also return the damaged folders that were skipped."""
    damaged: list[Path] = []
    for folder in step_folders(root):
        found = load_checkpoint(folder)
        if found is not None:
            return found, damaged
        damaged.append(folder)
    return None, damaged


def drop_old(root: Path, keep: int) -> None:
    """Delete all but the newest `keep` step checkpoints."""
    for folder in step_folders(root)[keep:]:
        shutil.rmtree(folder, ignore_errors=True)
