"""How much faster base and adapter are evaluated together than one after the other in transformers.

    python benchmarks/evaluation.py --data TEST.jsonl --adapter runs/dialect --rows 100 --repeats 3

The same clips are heard by the base and by the adapter: padded to 30 s, greedy, without times, on
the accelerator if there is one. All sides take turns in one process on the same threads, another
one first in each repeat; ratios are of one repeat's times, and the table has their median and
range. Loading and merging are in no time, reading the files is in every one. WER is normalized
alike.

- mmtune: what `mmtune evaluate` asks of its predictor; nothing is taken from a cache. A clip is
  encoded once for both where the adapter leaves the encoder alone, rows of like length are decoded
  together, and a row gets only as many ids as its length can need.
- transformers: `pipeline("automatic-speech-recognition")`, first with the base, then with the
  adapter merged by PEFT, one file at a time; it writes at most as many ids as its generation
  config says.
- transformers, in batches: the same with `batch_size`.

Beside them the encoder alone runs over each clip once, in mmtune's batches: what shares the encoder
and does all else in no time takes as long, so transformers' time over that is the most there is.

Without `--adapter` it is a LoRA of small random numbers, which scores nearly as the base does.
"""

from __future__ import annotations

import argparse
import os
import platform
import tempfile
from collections.abc import Callable, Sequence
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from timing import in_turns, spread

import mmtune
from mmtune.adapters.card import adapter_folder
from mmtune.config import LoraOptions
from mmtune.data.rows import Row
from mmtune.metrics.bootstrap import Interval, bootstrap, paired_bootstrap
from mmtune.metrics.metric import Stat
from mmtune.metrics.text.wer import WordErrors
from mmtune.predict import Prediction, Request
from mmtune.prefix.features import Features
from mmtune.speech.sound.read import SAMPLE_RATE, read_row
from mmtune.speech.transcription.predictor import DECODE_BATCH, LOADED_ADAPTER, SpeechPredictor
from mmtune.speech.whisper.base import load_base, resolve_base
from mmtune.speech.whisper.decoder_lora import MARKER, attach
from mmtune.speech.whisper.stages import NAME, AudioStage
from mmtune.system.precision import DTYPES
from mmtune.system.processes import this_process
from mmtune.system.quiet import quiet, quiet_libraries
from mmtune.training.randomness import Draw

Texts = tuple[list[str], list[str]]  # of the base, of the adapter, by row
Side = Callable[[Sequence[Row]], Texts]
OURS, THEIRS = "mmtune", "transformers, one file at a time"
ENCODER = "the encoder alone"
SMALL = 0.01  # deviation of a random LoRA's B


def ours(base: str, adapter: Path, dtype: torch.dtype) -> Side:
    """Both models in one call, as `mmtune.speech.evaluation.compare` asks them."""
    loaded = load_base(base, this_process().device, dtype)
    predictor = SpeechPredictor(loaded, {LOADED_ADAPTER: adapter})

    def run(rows: Sequence[Row]) -> Texts:
        requests = [
            Request(row, weights) for row in rows for weights in ({}, {LOADED_ADAPTER: 1.0})
        ]
        texts = [prediction.value for prediction in predictor.predict(requests)]
        return texts[::2], texts[1::2]

    return run


def encoder_alone(base: str, dtype: torch.dtype) -> Callable[[Sequence[Row]], None]:
    """Reads and encodes each clip once, as `ours` does first."""
    loaded = load_base(base, this_process().device, dtype)
    stage = AudioStage(loaded, "padded", None)
    features = Features({NAME: stage}, None)

    def run(rows: Sequence[Row]) -> None:
        for start in range(0, len(rows), DECODE_BATCH):
            features.get([stage.part(row) for row in rows[start : start + DECODE_BATCH]])

    return run


class Pipelines:
    """transformers' pipelines of the base, and of the adapter merged as PEFT documents it."""

    def __init__(self, base: str, adapter: Path, dtype: torch.dtype) -> None:
        from peft import PeftModel

        self.dtype = dtype
        folder = resolve_base(base)
        merged = PeftModel.from_pretrained(self._load(folder), str(adapter)).merge_and_unload()
        self.pipes = [self._pipe(folder, model) for model in (self._load(folder), merged)]

    def _load(self, folder: Path | str) -> Any:
        from transformers import WhisperForConditionalGeneration

        return WhisperForConditionalGeneration.from_pretrained(folder, dtype=self.dtype)

    def _pipe(self, folder: Path | str, model: Any) -> Any:
        from transformers import WhisperProcessor, pipeline

        processor = WhisperProcessor.from_pretrained(folder)
        return pipeline(
            "automatic-speech-recognition",
            model=model.eval(),
            tokenizer=processor.tokenizer,
            feature_extractor=processor.feature_extractor,
            device=this_process().device,
        )

    def side(self, language: str, batch: int) -> Side:
        """All rows by one and then by the other; `batch` 1 is a call for each row."""

        def heard(pipe: Any, rows: Sequence[Row]) -> list[str]:
            multilingual = bool(getattr(pipe.model.generation_config, "is_multilingual", False))
            options = {"language": language, "task": "transcribe"} if multilingual else {}
            generate = {"num_beams": 1, **options}
            # Samples, not a path: the pipeline would start a process for every file.
            clips = ({"raw": read_row(row), "sampling_rate": SAMPLE_RATE} for row in rows)
            with quiet():
                if batch > 1:
                    found = pipe(clips, batch_size=batch, generate_kwargs=generate)
                else:
                    found = (pipe(clip, generate_kwargs=generate) for clip in clips)
                return [str(each["text"]) for each in found]

        def run(rows: Sequence[Row]) -> Texts:
            base, adapter = (heard(pipe, rows) for pipe in self.pipes)
            return base, adapter

        return run


def small_adapter(base: str, folder: Path) -> Path:
    """A LoRA on the decoder that changes little."""
    model = attach(load_base(base, torch.device("cpu"), torch.float32), LoraOptions(), 0)
    generator = torch.Generator().manual_seed(0)
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            parameter.data.copy_(torch.randn(parameter.shape, generator=generator) * SMALL)
    model.save_pretrained(str(folder), save_embedding_layers=False)
    return folder


def some_rows(source: Path, count: int) -> list[Row]:
    """Rows of a manifest, in an order that doesn't follow the speakers."""
    rows = mmtune.check(source, "speech").rows
    return sorted(rows, key=lambda row: Draw(0, 0, row.id).key("benchmark"))[:count]


def percent(interval: Interval) -> str:
    """A rate and its interval in per cent."""
    return f"{100 * interval.value:.1f} [{100 * interval.low:.1f}, {100 * interval.high:.1f}]"


def scored(rows: Sequence[Row], texts: Sequence[str], language: str) -> list[Stat]:
    """Word errors of each row."""
    metric = WordErrors(language)
    return [metric.observe(r, Prediction(r.id, t)) for r, t in zip(rows, texts, strict=True)]


def table(
    rows: Sequence[Row],
    texts: dict[str, Texts],
    seconds: dict[str, list[float]],
    cpu: dict[str, list[float]],
    language: str,
) -> str:
    """The results in Markdown."""
    lines = [
        "| | rows/s, both models | seconds | CPU seconds | mmtune is faster by | "
        "WER % base | WER % adapter | adapter - base |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for name, heard in texts.items():
        wall = seconds[name]
        ratios = [theirs / mine for theirs, mine in zip(wall, seconds[OURS], strict=True)]
        stats = [scored(rows, each, language) for each in heard]
        reduce = WordErrors(language).reduce
        rates = [percent(bootstrap(each, reduce)) for each in stats]
        gap = percent(paired_bootstrap(*stats, reduce)[2])
        faster = "" if name == OURS else spread(ratios)
        lines.append(
            f"| {name} | {spread([len(rows) / s for s in wall])} | {spread(wall, 1)} | "
            f"{spread(cpu[name], 1)} | {faster} | {rates[0]} | {rates[1]} | {gap} |"
        )
    return "\n".join(lines)


def alike(texts: dict[str, Texts]) -> str:
    """How many transcripts are those of mmtune, letter by letter."""
    mine = [text.strip() for each in texts[OURS] for text in each]
    parts = []
    for name, heard in texts.items():
        if name != OURS:
            theirs = [text.strip() for each in heard for text in each]
            same = sum(a == b for a, b in zip(mine, theirs, strict=True))
            parts.append(f"{name}: {same} of {len(mine)}")
    return "Transcripts that are mmtune's own, letter by letter: " + "; ".join(parts) + "."


def machine() -> str:
    """The accelerator's name, or the processor's."""
    if torch.cuda.is_available():
        return torch.cuda.get_device_name()
    return platform.processor() or platform.machine()


def main() -> None:
    """Run all sides in turns, and print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--data", type=Path, required=True, help="manifest of speech with text")
    parser.add_argument("--base", default="starter:whisper-tiny.en")
    parser.add_argument("--adapter", type=Path, help="a run or adapter/ (default: a random LoRA)")
    parser.add_argument("--rows", type=int, default=100)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--batch", type=int, default=16, help="of transformers in batches")
    parser.add_argument("--language", default="en", help="of multilingual bases")
    parser.add_argument("--precision", choices=list(DTYPES), default="fp32", help="of all sides")
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    options = parser.parse_args()
    quiet_libraries()
    dtype = DTYPES[options.precision]
    rows = some_rows(options.data, options.rows)
    with tempfile.TemporaryDirectory() as scratch:
        adapter = (
            adapter_folder(options.adapter, MARKER)
            if options.adapter is not None
            else small_adapter(options.base, Path(scratch) / "adapter")
        )
        theirs = Pipelines(options.base, adapter, dtype)
        sides = {
            OURS: ours(options.base, adapter, dtype),
            THEIRS: theirs.side(options.language, 1),
            f"transformers, batches of {options.batch}": theirs.side(
                options.language, options.batch
            ),
        }
    torch.set_num_threads(options.threads)
    timed: dict[str, Callable[[Sequence[Row]], Texts | None]] = {
        **sides, ENCODER: encoder_alone(options.base, dtype)
    }  # fmt: skip
    for side in timed.values():
        side(rows[:1])  # what is made at the first use is in no time
    texts: dict[str, Texts] = {}
    seconds: dict[str, list[float]] = {name: [] for name in timed}
    cpu: dict[str, list[float]] = {name: [] for name in timed}
    runs = {name: partial(side, rows) for name, side in timed.items()}
    for name, heard, wall, used in in_turns(runs, options.repeats):
        print(f"{name}: {wall:.1f} s", flush=True)
        if heard is not None and texts.setdefault(name, heard) != heard:
            print(f"note: {name} gave other texts than before", flush=True)
        seconds[name].append(wall)
        cpu[name].append(used)
    ordered = {name: texts[name] for name in sides}
    versions = ", ".join(f"{name} {version(name)}" for name in ("torch", "transformers", "peft"))
    named = "a random LoRA" if options.adapter is None else str(options.adapter)
    print(
        f"\n{options.base} with {named}, {len(rows)} rows, {options.repeats} repeats, "
        f"{options.precision}, {options.threads} threads, {machine()}; {versions}\n"
    )
    print(table(rows, ordered, seconds, cpu, options.language))
    print(f"\n{alike(ordered)}")
    most = [t / e for t, e in zip(seconds[THEIRS], seconds[ENCODER], strict=True)]
    print(
        f"The encoder alone, once over each clip, takes {spread(seconds[ENCODER], 1)} s: nothing "
        f"that encodes padded clips is faster than {THEIRS} by more than {spread(most)}."
    )


if __name__ == "__main__":
    main()
