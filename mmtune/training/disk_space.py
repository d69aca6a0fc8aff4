"""Estimate the disk space that a run needs, and refuse it before the first step if it lacks."""

from __future__ import annotations

import os
import shutil
from collections import defaultdict
from collections.abc import Iterable, Mapping
from pathlib import Path

from torch import Tensor

from mmtune.config import TrainOptions
from mmtune.errors import TrainingError
from mmtune.training.optimizer import OPTIMIZERS

MIB = 2**20
IN_CHECKPOINT = 2  # the weights and the best ones, beside the optimizer's states of the same size
OTHER = 32 * MIB  # log, answers and report


def run_bytes(weights: Iterable[Tensor], options: TrainOptions) -> int:
    """Estimate what a run folder holds at most at once: checkpoints, snapshots and the adapter.

    Args:
        weights: the trainable parameters.
        options: how many checkpoints and snapshots are kept.
    """
    size = sum(weight.numel() * weight.element_size() for weight in weights)
    # A checkpoint is complete before an older one is deleted, and so is the adapter.
    checkpoints = (options.keep + 1) * (IN_CHECKPOINT + OPTIMIZERS[options.optimizer].states)
    snapshots = options.compare_checkpoints + 2 if options.compare_checkpoints else 0
    return size * (checkpoints + snapshots + 2) + OTHER


def require_space(needs: Mapping[Path, tuple[str, int]]) -> None:
    """Check that each disk has room for what the run will write on it.

    Quotas are not known to the system's figure, so a write may still fail.

    Args:
        needs: for each folder, which needn't exist yet: what will be written, and how many bytes.

    Raises:
        TrainingError: a disk has too little room; the error names the figures.
    """
    by_disk: dict[int, list[tuple[Path, str, int]]] = defaultdict(list)
    for folder, (what, size) in needs.items():
        place = _existing(folder)
        by_disk[place.stat().st_dev].append((place, what, size))
    for parts in by_disk.values():
        free = shutil.disk_usage(parts[0][0]).free
        needed = sum(size for _, _, size in parts)
        if free < needed:
            listed = ", ".join(f"{what} {size / MIB:,.0f} MiB" for _, what, size in parts)
            raise TrainingError(
                f"the disk of {parts[0][0]} has {free / MIB:,.0f} MiB free, and the run needs "
                f"about {needed / MIB:,.0f} MiB ({listed})",
                "free space, or choose a larger disk with --out for the run and MMTUNE_CACHE for "
                "the cache; a lower --rank and --keep, and --cache false, need less",
            )


def bytes_in(folders: Iterable[Path]) -> int:
    """Bytes of all files in folders; a missing folder has none."""
    return sum(
        Path(place, name).lstat().st_size
        for folder in folders
        for place, _, names in os.walk(folder)
        for name in names
    )


def _existing(path: Path) -> Path:
    while not path.exists():
        path = path.parent
    return path
