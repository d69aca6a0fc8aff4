"""Run whisper.cpp in a process of its own, because errors make it end its process.

Otherwise a file that whisper.cpp can't use would end `mmtune export` without a message. `run` is
called here; `main` runs in the other process, where torch isn't loaded.
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
from mmtune.system.files import stream_aside, write_json

MODEL_FILE = "ggml-model.bin"  # in an export's folder
JOB, CLIPS, TEXTS = "job.json", "clips.npz", "texts.json"


def run(
    model: Path,
    clips: Sequence[NDArray[np.float32]],
    options: Mapping[str, Any],
    each: Sequence[Mapping[str, Any]],
) -> list[str]:
    """Transcribe clips with whisper.cpp in another process.

    Args:
        model: the model's file.
        clips: [samples] each, mono, 16 kHz.
        options: options of `pywhispercpp.model.Model` for all clips.
        each: additional options for each clip.

    Raises:
        AdapterError: whisper.cpp ended its process; the message has its last line.
    """
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        with stream_aside(folder / CLIPS) as stream:
            np.savez(stream, *clips)
        job = {"model": str(model), "options": dict(options), "each": [dict(o) for o in each]}
        write_json(folder / JOB, job)
        done = subprocess.run(
            [sys.executable, "-m", "mmtune.speech.export.whisper_cpp", scratch],
            capture_output=True,
            text=True,
            errors="replace",
            check=False,
            # whisper.cpp's backtrace would start a debugger.
            env=os.environ | {"GGML_NO_BACKTRACE": "1"},
        )
        if done.returncode:
            raise AdapterError(
                f"whisper.cpp ended with code {done.returncode} at {model.name}: "
                f"{_last(done.stderr)}",
                "compare the versions in PARITY.json; try another version of pywhispercpp",
            )
        texts: list[str] = json.loads((folder / TEXTS).read_text(encoding="utf-8"))
        return texts


def _last(said: str) -> str:
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    telling = [line for line in lines if "GGML_ASSERT" in line or "error" in line.lower()]
    return (telling or lines or ["no message"])[-1][:300]


def main(folder: Path) -> None:
    """Read a job from `folder`, transcribe its clips, and write the texts there."""
    from pywhispercpp.model import Model

    job = json.loads((folder / JOB).read_text(encoding="utf-8"))
    # A model keeps its options, so each set of options needs a process of its own.
    model = Model(job["model"], print_progress=False, **job["options"])
    texts = []
    with np.load(folder / CLIPS) as clips:
        for i, options in enumerate(job["each"]):
            found = model.transcribe(clips[f"arr_{i}"], **options)
            texts.append(" ".join(segment.text.strip() for segment in found).strip())
    write_json(folder / TEXTS, texts)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
