"""How many hours of audio an hour transcribes, beside transformers' pipeline and faster-whisper.

    pip install "mmtune[demo,bench]"
    python benchmarks/transcribe.py --data TEST.jsonl --minutes 10 --repeats 3

All engines get the same recording (real utterances of a manifest, joined with pauses), the same
weights (CTranslate2's own converter makes faster-whisper's from our transformers folder), greedy
search, batches of the same size, and the same number of threads. The time is that from samples in
memory to text; loading is not in it. Each repeat runs all engines once, in an order that changes,
so that what else the machine does hits all of them; the ratio is the median of the repeats' own.
WER is of the whole text, normalized alike.

- mmtune: `mmtune.speech.transcription.transcribe.listen`.
- transformers: `pipeline("automatic-speech-recognition")`, chunks of 30 s, batched.
- faster-whisper: `BatchedInferencePipeline` and plain `transcribe`, float32 and int8, with its own
  voice activity detection.
"""

from __future__ import annotations

import argparse
import os
import platform
import statistics
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from timing import in_turns, spread

Engine = Callable[[], str]
OURS = "mmtune"


@dataclass
class Runs:
    """What an engine did."""

    seconds: list[float] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)
    text: str = ""


def recording(manifest: Path, minutes: float, seed: int) -> tuple[NDArray[np.float32], str]:
    """Utterances of a manifest in a fixed random order, with pauses of 0.2 to 1.5 s."""
    import mmtune
    from mmtune.speech.sound.read import SAMPLE_RATE, read_row

    rows = list(mmtune.check(manifest, "speech").rows)
    draw = np.random.default_rng(seed)
    pieces: list[NDArray[np.float32]] = []
    said: list[str] = []
    length = 0
    for place in draw.permutation(len(rows)):
        if length >= minutes * 60 * SAMPLE_RATE:
            break
        pause = np.zeros(int(draw.uniform(0.2, 1.5) * SAMPLE_RATE), np.float32)
        pieces += [read_row(rows[place]), pause]
        said.append(rows[place].reference)
        length += len(pieces[-2]) + len(pause)
    return np.concatenate(pieces), " ".join(said)


def ours(base: str, audio: NDArray[np.float32], language: str) -> Engine:
    """`listen`, on a loaded predictor."""
    from mmtune.speech.transcription.predictor import open_predictor
    from mmtune.speech.transcription.transcribe import listen
    from mmtune.speech.transcription.transcript import make_transcript

    predictor = open_predictor(base, language=language)

    def run() -> str:
        found, heard = listen(predictor, [audio])
        return make_transcript(found[0], heard).text

    return run


def transformers_pipeline(
    folder: Path, audio: NDArray[np.float32], language: str, batch: int
) -> Engine:
    """The pipeline as its documentation shows it for long recordings."""
    import torch
    from transformers import pipeline

    pipe: Any = pipeline(
        "automatic-speech-recognition",
        model=str(folder),
        chunk_length_s=30,
        batch_size=batch,
        dtype=torch.float32,
        device="cpu",
    )
    multilingual = bool(getattr(pipe.model.generation_config, "is_multilingual", False))
    options = {"language": language, "task": "transcribe"} if multilingual else {}

    def run() -> str:
        given = {"raw": audio.copy(), "sampling_rate": 16_000}
        return str(pipe(given, generate_kwargs={"num_beams": 1, **options})["text"])

    return run


def faster_whisper(
    folder: Path, audio: NDArray[np.float32], language: str, kind: str, batch: int, threads: int
) -> Engine:
    """faster-whisper on CTranslate2's conversion; batch 0 is its plain `transcribe`."""
    from faster_whisper import BatchedInferencePipeline, WhisperModel

    model = WhisperModel(str(folder), device="cpu", compute_type=kind, cpu_threads=threads)
    options: dict[str, Any] = {"beam_size": 1, "language": language}
    target: Any = model
    if batch:
        target = BatchedInferencePipeline(model=model)
        options["batch_size"] = batch
    else:
        options["vad_filter"] = True  # the batched one always does

    def run() -> str:
        segments, _ = target.transcribe(audio, **options)
        return " ".join(segment.text.strip() for segment in segments)

    return run


def to_ctranslate2(folder: Path, out: Path) -> Path:
    """The same weights for faster-whisper; each compute type is made from float32 on loading."""
    from ctranslate2.converters import TransformersConverter

    files = ["tokenizer.json", "preprocessor_config.json"]
    TransformersConverter(str(folder), copy_files=files).convert(str(out), quantization="float32")
    return out


def table(names: list[str], runs: dict[str, Runs], hours: float, said: str, language: str) -> str:
    """The results in Markdown."""
    from jiwer import wer

    from mmtune.metrics.text.normalize import normalize

    reference = normalize(said, language)
    lines = [
        "| engine | hours of audio an hour (range) | mmtune is faster by (range) | CPU s | WER |",
        "|---|---|---|---|---|",
    ]
    for name in names:
        run = runs[name]
        speeds = [hours / (seconds / 3600) for seconds in run.seconds]
        ratios = [a / b for a, b in zip(run.seconds, runs[OURS].seconds, strict=True)]
        error = wer(reference, normalize(run.text, language))
        lines.append(
            f"| {name} | {spread(speeds, 1)} | {spread(ratios, 2)} "
            f"| {statistics.median(run.cpu):.1f} | {error:.3f} |"
        )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--data", type=Path, required=True, help="manifest of speech with text")
    parser.add_argument("--base", default="starter:whisper-tiny.en")
    parser.add_argument("--language", default="en")
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()

    import torch

    from mmtune.speech.whisper.base import resolve_base
    from mmtune.system.quiet import quiet_libraries

    quiet_libraries()
    audio, said = recording(options.data, options.minutes, options.seed)
    hours = len(audio) / 16_000 / 3600
    folder = resolve_base(options.base)
    with tempfile.TemporaryDirectory() as scratch:
        converted = to_ctranslate2(folder, Path(scratch) / "ct2")
        language, batch, threads = options.language, options.batch, options.threads
        engines: dict[str, Engine] = {
            OURS: ours(options.base, audio, language),
            "transformers pipeline": transformers_pipeline(folder, audio, language, batch),
        }
        for kind in ("float32", "int8"):
            for size, label in ((batch, "batched"), (0, "plain")):
                engines[f"faster-whisper {label}, {kind}"] = faster_whisper(
                    converted, audio, language, kind, size, threads
                )
    torch.set_num_threads(threads)
    names = list(engines)
    runs = {name: Runs() for name in names}
    for name, text, wall, cpu in in_turns(engines, options.repeats):
        run = runs[name]
        run.seconds.append(wall)
        run.cpu.append(cpu)
        if run.text and run.text != text:
            print(f"note: {name} gave another text in repeat {len(run.seconds)}", flush=True)
        run.text = run.text or text
    versions = ", ".join(
        f"{name} {version(name)}" for name in ("torch", "transformers", "faster-whisper")
    )
    print(
        f"\n{options.base}, {hours * 60:.1f} minutes of audio, {options.repeats} repeats, ", end=""
    )
    print(f"batch {batch}, {threads} threads, {platform.machine()}; {versions}\n")
    print(table(names, runs, hours, said, language))


if __name__ == "__main__":
    main()
