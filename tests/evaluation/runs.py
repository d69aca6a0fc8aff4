"""Finished runs of both modalities, small, without training: a random adapter and its settings."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import soundfile

from mmtune.adapters.card import read_card
from mmtune.config import RunConfig
from mmtune.data.check import check
from mmtune.data.manifest import write_manifest
from mmtune.runs.modalities import find_modality
from mmtune.runs.recipes import configure
from tests.image import adapters, tiny
from tests.speech.real import TINY
from tests.speech.test_compose import make

KIND = "sdxl-one-encoder"


def _written(config: RunConfig) -> Path:
    config.folder.mkdir(parents=True, exist_ok=True)
    (config.folder / "config.yaml").write_text(config.dump(), encoding="utf-8")
    return config.folder


def speech(folder: Path) -> Path:
    """Nine tones of one to two seconds."""
    data = folder / "data"
    data.mkdir(parents=True)
    rows: list[dict[str, object]] = []
    for i in range(9):
        times = np.arange(16_000 + 1600 * i) / 16_000
        tone = 0.3 * np.sin(2 * np.pi * (200 + 40 * i) * times)
        soundfile.write(data / f"{i}.wav", tone, 16_000)
        split = "train" if i < 2 else "test"
        rows.append({"id": str(i), "audio": f"{i}.wav", "text": f"say {i} now", "split": split})
    write_manifest(data / "manifest.jsonl", rows)
    values = {
        "recipe": "terminology", "modality": "speech", "name": "run", "base": TINY,
        "out": str(folder), "data": {"path": str(data)}, "suite": "terminology",
        "task": {"score_windows": "trimmed", "probes": 2},
    }  # fmt: skip
    run = _written(configure(values, "test", {}))
    make(run / "adapter", 1)
    return run


def image(folder: Path, rank: int = 4, strength: float = 5.0) -> Path:
    """Eight captions with three seeds each: more images than fit a batch."""
    data = tiny.brand(folder / "data", 12)
    config = tiny.config(
        tiny.saved(KIND), data, folder,
        test="0.8", validation="0", seeds="3", copy_captions="2", cache="false",
        backbone="starter:style",
    )  # fmt: skip
    run = _written(config)
    adapter = adapters.make(run / "adapter", KIND, strength=strength, r=rank)
    dataset = check(data, find_modality("image"), config.data, settings=config.task)
    read_card(adapter).model_copy(update={"dataset": dataset.fingerprint}).write(adapter)
    return run


MAKE: dict[str, Callable[[Path], Path]] = {"speech": speech, "image": image}
