"""whisper.cpp in a process of its own: where other engines raise, it ends its process.

A file that it can't use would otherwise take `mmtune export` with it, before anything is said.
This module is both sides: `run` here, `main` there, where torch isn't loaded.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mmtune.errors import AdapterError

MODEL_FILE = "ggml-model.bin"  # in an export's folder
JOB, CLIPS, TEXTS = "job.json", "clips.npz", "texts.json"


def run(
    model: Path,
    clips: Sequence[NDArray[np.float32]],
    options: Mapping[str, Any],
    each: Sequence[Mapping[str, Any]],
) -> list[str]:
    """Transcribe clips.

    Args:
        model: the file.
        clips: [samples] each, mono, 16 kHz.
        options: of `pywhispercpp.model.Model`, for all clips.
        each: further ones, for each clip.

    Raises:
        AdapterError: whisper.cpp ended; what it said last is in the message.
    """
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        np.savez(folder / CLIPS, *clips)
        job = {"model": str(model), "options": dict(options), "each": [dict(o) for o in each]}
        (folder / JOB).write_text(json.dumps(job), encoding="utf-8")
        done = subprocess.run(
            [sys.executable, "-m", "mmtune.speech.export.whisper_cpp", scratch],
            capture_output=True,
            text=True,
            errors="replace",
            check=False,
            # Its own backtrace starts a debugger.
            env=os.environ | {"GGML_NO_BACKTRACE": "1"},
        )
        if done.returncode:
            raise AdapterError(
                f"whisper.cpp ends with {done.returncode} at {model.name}: {_last(done.stderr)}",
                "look at the versions in PARITY.json; try another pywhispercpp",
            )
        texts: list[str] = json.loads((folder / TEXTS).read_text(encoding="utf-8"))
        return texts


def _last(said: str) -> str:
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    telling = [line for line in lines if "GGML_ASSERT" in line or "error" in line.lower()]
    return (telling or lines or ["it says nothing"])[-1][:300]


def main(folder: Path) -> None:
    """The other side: read a job, write the texts."""
    from pywhispercpp.model import Model

    job = json.loads((folder / JOB).read_text(encoding="utf-8"))
    # Options stay with a model, so each way of asking has a process of its own.
    model = Model(job["model"], print_progress=False, **job["options"])
    texts = []
    with np.load(folder / CLIPS) as clips:
        for i, options in enumerate(job["each"]):
            found = model.transcribe(clips[f"arr_{i}"], **options)
            texts.append(" ".join(segment.text.strip() for segment in found).strip())
    (folder / TEXTS).write_text(json.dumps(texts), encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
