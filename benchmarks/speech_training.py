"""How much faster Whisper LoRA trains here than as transformers and PEFT document it, at what WER.

    python benchmarks/speech_training.py --data TRAIN.jsonl --test TEST.jsonl

Both sides start from the same weights, see the same rows for the same epochs with the same batch
size, learning rate and schedule, and are scored alike: our decoder loop, greedy, on 30 s windows
computed by the model that was trained, the same normalization.

- theirs: `Seq2SeqTrainer` with the collator of transformers' fine-tuning guide and the LoraConfig
  of PEFT's Whisper guide (rank 32, q_proj and v_proj of encoder and decoder), features computed
  beforehand for 30 s windows; the time counts features and training. And the strongest that
  their data path allows: the same with the adapter on the decoder alone, so that nothing is
  propagated back through the encoder.
- ours: `mmtune.training.loop.fit` from an empty cache; the time counts preflight, encoding, storing
  and training. The adapter is the default one, on the decoder, or also on upper encoder layers;
  with several views each clip is also stored in augmented versions, of which an epoch draws one.
  Labels are without times, as theirs are.

Model loading, checking the data and scoring are in neither time. CPU seconds are given beside the
clock because they don't depend on what else the machine does.
"""

from __future__ import annotations

import argparse
import platform
import statistics
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from mmtune.config import DataOptions, LoraOptions, TrainOptions
from mmtune.data.check import check
from mmtune.data.rows import Row
from mmtune.metrics.bootstrap import Interval, bootstrap, paired_bootstrap
from mmtune.metrics.metric import Stat
from mmtune.metrics.text.wer import WordErrors
from mmtune.predict import Prediction
from mmtune.prefix.cache import PrefixCache
from mmtune.runs.modalities import find_modality
from mmtune.speech.sound.read import SAMPLE_RATE, read_row
from mmtune.speech.speech_options import MixOptions, SpeechOptions
from mmtune.speech.speech_task import SpeechTask
from mmtune.speech.whisper.base import WhisperBase, load_base
from mmtune.speech.whisper.decode import DecodeOptions, decode, most_ids
from mmtune.speech.whisper.labels import prefix_ids
from mmtune.speech.whisper.stages import MAX_WINDOW, AudioStage, seconds_of
from mmtune.system.precision import DTYPES, cpu_has_bf16
from mmtune.training.loop import fit
from mmtune.training.randomness import Draw

SCORED = 8  # rows decoded together
OURS, THEIRS = "mmtune", "transformers + PEFT"
STRONGEST = f"{THEIRS}, decoder"
SIDES = (THEIRS, STRONGEST)
ADAPTED = {"0": "decoder", "all": "decoder and encoder"}


@dataclass(frozen=True)
class Run:
    """One training run. Speeds are in utterances per second over all epochs."""

    side: str
    precision: str
    speed: float  # by the clock
    cpu_speed: float  # per CPU second of all cores together
    stats: list[Stat]  # word errors of the test rows; none for a run that was cut short
    note: str = ""


class Clock:
    """Time since its making: by the clock, and CPU seconds of this process."""

    def __init__(self) -> None:
        self.wall, self.cpu = time.perf_counter(), time.process_time()

    def since(self) -> tuple[float, float]:
        """(seconds, CPU seconds)."""
        return time.perf_counter() - self.wall, time.process_time() - self.cpu


def device() -> torch.device:
    """Where both sides train."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def load_rows(source: Path, count: int | None) -> list[Row]:
    """Rows of a manifest, in an order that doesn't follow the speakers."""
    options = DataOptions(path=source, validation=0, test=0)
    rows = check(source, find_modality("speech"), options).rows
    mixed = sorted(rows, key=lambda row: Draw(0, 0, row.id).key("benchmark"))
    return mixed[:count]


def score(base: WhisperBase, rows: Sequence[Row]) -> list[Stat]:
    """Word errors of each row: 30 s windows, greedy, with whatever is in the model's layers."""
    base.model.eval()
    stage, metric = AudioStage(base, "padded"), WordErrors()
    stats: list[Stat] = []
    for start in range(0, len(rows), SCORED):
        some = rows[start : start + SCORED]
        hidden = stage.encode_audio([read_row(row) for row in some], MAX_WINDOW)
        prefixes = [prefix_ids(base, "en")] * len(some)
        limits = tuple(most_ids(seconds_of(row)) for row in some)
        options = DecodeOptions(max_new_tokens=limits)
        spoken = decode(base.model, torch.stack(hidden), prefixes, options)
        for row, ids in zip(some, spoken, strict=True):
            text = base.tokenizer.decode(ids, skip_special_tokens=True)
            stats.append(metric.observe(row, Prediction(row.id, text)))
    return stats


def ours(
    args: argparse.Namespace,
    rows: list[Row],
    test: list[Row],
    seed: int,
    kind: str,
    layers: str,
    views: int = 1,
) -> Run:
    """mmtune, from an empty cache; `layers` of the encoder are adapted beside the decoder."""
    base = load_base(args.base, device(), DTYPES[kind])
    with tempfile.TemporaryDirectory() as folder:
        options = TrainOptions(
            epochs=args.epochs,
            batch_size=args.batch,
            lr=args.lr,
            schedule="linear",
            seed=seed,
            precision=kind,  # type: ignore[arg-type]
        )
        clock = Clock()
        cache = PrefixCache(Path(folder) / "cache")
        speech = SpeechOptions(
            encoder_layers=layers if layers == "all" else int(layers),
            views=views,
            timestamps=0,
            mix=MixOptions(nonspeech=0),  # the ids that theirs is trained on, and no others
        )
        task = SpeechTask(base, LoraOptions(), speech, cache, seed)
        fit(task, rows, [], options, Path(folder) / "run")
        wall, cpu = clock.since()
    seen = len(rows) * args.epochs
    side = f"{OURS}, {ADAPTED.get(layers, f'decoder and top {layers} of the encoder')}"
    side += f", {views} views" if views > 1 else ""
    return Run(side, kind, seen / wall, seen / cpu, score(base, test))


@dataclass
class Collator:
    """DataCollatorSpeechSeq2SeqWithPadding of transformers' and PEFT's guides."""

    processor: Any
    start: int

    def __call__(self, features: list[dict[str, Any]]) -> Any:
        """Pad features and labels apart; padding of labels becomes -100."""
        inputs = [{"input_features": each["input_features"]} for each in features]
        batch = self.processor.feature_extractor.pad(inputs, return_tensors="pt")
        labels = self.processor.tokenizer.pad(
            [{"input_ids": each["labels"]} for each in features], return_tensors="pt"
        )
        ids = labels["input_ids"].masked_fill(labels.attention_mask.ne(1), -100)
        if (ids[:, 0] == self.start).all().cpu().item():
            ids = ids[:, 1:]
        batch["labels"] = ids
        return batch


def theirs(
    args: argparse.Namespace,
    rows: list[Row],
    test: list[Row],
    seed: int,
    kind: str,
    steps: int,
    side: str = THEIRS,
) -> Run:
    """transformers and PEFT; with `steps` only so many, for the speed alone."""
    from peft import LoraConfig, get_peft_model
    from transformers import (
        Seq2SeqTrainer,
        Seq2SeqTrainingArguments,
        TrainerCallback,
        WhisperProcessor,
        set_seed,
    )

    class Steps(TrainerCallback):  # type: ignore[misc]
        """The clock after each step."""

        def __init__(self) -> None:
            self.times: list[tuple[float, float]] = []

        def on_step_end(self, *_args: Any, **_more: Any) -> None:
            self.times.append((time.perf_counter(), time.process_time()))

    set_seed(seed)
    base = load_base(args.base, device(), torch.float32)
    processor = WhisperProcessor(base.feature_extractor, base.tokenizer)
    if base.multilingual:
        processor.tokenizer.set_prefix_tokens(language="en", task="transcribe")
    modules: Any = ["q_proj", "v_proj"]
    if side == STRONGEST:
        modules = r".*\.decoder\..*\.(q_proj|v_proj)"
    config = LoraConfig(r=32, lora_alpha=64, target_modules=modules, lora_dropout=0.05, bias="none")
    model = get_peft_model(base.model, config)
    clock = Clock()
    used = rows[: steps * args.batch] if steps else rows
    data = [
        {
            "input_features": processor.feature_extractor(
                read_row(row), sampling_rate=SAMPLE_RATE
            ).input_features[0],
            "labels": processor.tokenizer(row.reference).input_ids,
        }
        for row in used
    ]
    features = clock.since()
    watch = Steps()
    with tempfile.TemporaryDirectory() as folder:
        trainer = Seq2SeqTrainer(
            model=model,
            args=Seq2SeqTrainingArguments(
                output_dir=folder,
                per_device_train_batch_size=args.batch,
                learning_rate=args.lr,
                lr_scheduler_type="linear",
                warmup_steps=round(0.05 * args.epochs * -(-len(rows) // args.batch)),
                num_train_epochs=args.epochs,
                max_steps=steps or -1,
                bf16=kind == "bf16",
                remove_unused_columns=False,
                label_names=["labels"],
                save_strategy="no",
                report_to=[],
                disable_tqdm=True,
                seed=seed,
                use_cpu=device().type == "cpu",
            ),
            train_dataset=data,
            data_collator=Collator(processor, base.model.config.decoder_start_token_id),
            callbacks=[watch],
        )
        clock = Clock()
        trainer.train()
        wall, cpu = clock.since()
    if not steps:
        seen = len(rows) * args.epochs
        return Run(
            side,
            kind,
            seen / (wall + features[0]),
            seen / (cpu + features[1]),
            score(base, test),
        )
    # The first step warms up; each utterance's features are computed once for all epochs.
    pairs = zip(watch.times, watch.times[1:], strict=False)
    taken = [(after[0] - before[0], after[1] - before[1]) for before, after in pairs]
    wall, cpu = (
        statistics.mean(each[i] for each in taken) / args.batch
        + features[i] / len(used) / args.epochs
        for i in (0, 1)
    )
    note = f"speed from {len(taken)} steps"
    return Run(side, kind, 1 / wall, 1 / cpu, [], note)


def spread(values: Sequence[float]) -> str:
    """Mean, and the range over repeats."""
    if len(values) == 1:
        return f"{values[0]:.2f}"
    return f"{statistics.mean(values):.2f} ({min(values):.2f} to {max(values):.2f})"


def words(interval: Interval) -> str:
    """A rate and its interval in per cent."""
    return f"{100 * interval.value:.1f} % [{100 * interval.low:.1f}, {100 * interval.high:.1f}]"


def table(runs: list[Run], base: list[Stat], test: list[Row], args: argparse.Namespace) -> str:
    """Markdown for docs/results.md."""
    metric, clusters = WordErrors(), [getattr(row, "speaker", row.id) for row in test]
    lines = [
        "| | utterances/s | per CPU second | ratio | to their decoder alone | WER, 30 s windows |",
        "|---|---|---|---|---|---|",
        f"| base | | | | | {words(bootstrap(base, metric.reduce, clusters=clusters))} |",
    ]
    for kind in dict.fromkeys(run.precision for run in runs):
        of = {s: [r for r in runs if (r.side, r.precision) == (s, kind)] for s in SIDES}
        for side in dict.fromkeys(run.side for run in runs):
            mine = [r for r in runs if (r.side, r.precision) == (side, kind)]
            if not mine:
                continue
            ratios = " | ".join(times(mine, of[each]) for each in SIDES)
            scored = [s for r in mine for s in r.stats]
            repeated = clusters * (len(scored) // len(test))
            rate = words(bootstrap(scored, metric.reduce, clusters=repeated)) if scored else ""
            notes = "; ".join(dict.fromkeys(r.note for r in mine if r.note))
            label = f"{side}, {kind}" + (f" ({notes})" if notes else "")
            lines.append(
                f"| {label} | {spread([r.speed for r in mine])} | "
                f"{spread([r.cpu_speed for r in mine])} | {ratios} | {rate} |"
            )
        lines += difference(runs, kind, clusters)
    cores = torch.get_num_threads()
    lines += [
        "",
        f"{args.base}, {args.rows} utterances, {args.epochs} epochs, batch {args.batch}, learning "
        f"rate {args.lr}, {len(test)} test utterances of other speakers; {device().type}, "
        f"{cores} threads, {platform.processor() or platform.machine()}; torch "
        f"{torch.__version__.split('+')[0]}. "
        "Ranges are over repeats with other seeds; brackets are 95 % bootstrap intervals over "
        "speakers.",
    ]
    return "\n".join(lines)


def times(mine: list[Run], reference: list[Run]) -> str:
    """How many times as fast, by the clock and by CPU time."""
    if not reference:
        return ""
    wall, cpu = (
        statistics.mean(getattr(r, name) for r in mine)
        / statistics.mean(getattr(r, name) for r in reference)
        for name in ("speed", "cpu_speed")
    )
    return f"{wall:.1f}x (CPU time {cpu:.1f}x)"


def difference(runs: list[Run], kind: str, clusters: list[Any]) -> list[str]:
    """Our WER minus theirs, paired by test row and repeat."""
    by: dict[str, list[list[Stat]]] = {}
    for run in runs:
        if run.precision == kind and run.stats:
            by.setdefault(run.side, []).append(run.stats)
    reference = by.pop(THEIRS, [])
    by.pop(STRONGEST, None)
    lines = []
    for side, mine in by.items():
        pairs = list(zip(reference, mine, strict=False))
        if pairs:
            a = [s for pair in pairs for s in pair[0]]
            b = [s for pair in pairs for s in pair[1]]
            gap = paired_bootstrap(a, b, WordErrors().reduce, clusters=clusters * len(pairs))[2]
            lines.append(f"| difference: {side}, {kind} | | | | | {words(gap)} |")
    return lines


def report(run: Run, seed: int) -> None:
    """A line while it runs."""
    rate = WordErrors().reduce(run.stats) if run.stats else None
    scored = f", WER {rate:.3f}" if rate is not None else ""
    print(f"{run.side}, {run.precision}, {seed}: {run.speed:.2f} utterances/s{scored}", flush=True)


def main() -> None:
    """Run all sides, print and write the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="training manifest or folder")
    parser.add_argument("--test", type=Path, required=True, help="test manifest or folder")
    parser.add_argument("--base", default="starter:whisper-tiny.en")
    parser.add_argument("--rows", type=int, default=160)
    parser.add_argument("--test-rows", type=int, default=60)
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--lr", type=float, default=1e-3)
    parser.add_argument("--repeats", type=int, default=3, help="of our runs, with other seeds")
    parser.add_argument("--full", type=int, default=1, help="full runs of theirs, for its WER")
    parser.add_argument(
        "--steps", type=int, default=4, help="of theirs in the other repeats; the first warms up"
    )
    parser.add_argument(
        "--encoder-layers", nargs="*", default=["0", "2", "all"], help="of our runs: 0, N or all"
    )
    parser.add_argument(
        "--views", nargs="*", type=int, default=[1, 4], help="of our decoder-only runs"
    )
    parser.add_argument("--out", type=Path, help="write the table to this file")
    args = parser.parse_args()
    rows, test = load_rows(args.data, args.rows), load_rows(args.test, args.test_rows)
    args.rows = len(rows)
    base = score(load_base(args.base, device(), torch.float32), test)
    print("base: WER", words(bootstrap(base, WordErrors().reduce)), flush=True)
    kinds = ["fp32"]
    if device().type == "cuda" or cpu_has_bf16():
        kinds.append("bf16")
    else:
        print("bf16 is left out: this processor emulates it, so that its time would mean nothing")
    runs: list[Run] = []
    for kind in kinds:
        for seed in range(args.repeats):
            kinds_of_ours = [
                (layers, views)
                for layers in args.encoder_layers
                for views in (args.views if layers == "0" else [1])
            ]
            for layers, views in kinds_of_ours:
                runs.append(ours(args, rows, test, seed, kind, layers, views))
                report(runs[-1], seed)
            for side in SIDES:
                steps = 0 if seed < args.full and side == THEIRS else args.steps
                runs.append(theirs(args, rows, test, seed, kind, steps, side))
                report(runs[-1], seed)
    text = table(runs, base, test, args)
    print(text)
    if args.out:
        args.out.write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
