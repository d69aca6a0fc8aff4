"""What each method of training learns, and what it forgets: adapters and full fine-tuning.

    python benchmarks/methods.py --data speechocean762 --general general-en.jsonl

Each row of the table is one training of the same base on the same recordings of an accent, in the
same order, for as many steps. Adapters change decoder and top layers of the encoder (a prefix: the
decoder alone); full fine-tuning changes all layers of both. WER is of greedy decoding on windows of
30 s, on other speakers of the accent and on general speech, with paired 95 % intervals. Learning
rates are the usual ones of each method and aren't tuned (--rates sets others). Seconds of a step
are of the processor, without the frozen layers below, which are computed once.

Full fine-tuning is a loop of its own: mmtune trains adapters alone.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mmtune.predict import Prediction
    from mmtune.prefix.features import Features
    from mmtune.speech.speech_row import SpeechRow
    from mmtune.speech.speech_task import SpeechTask
    from mmtune.speech.whisper.base import WhisperBase

FULL = "full"
RATES = {
    **{"lora": 1e-3, "dora": 1e-3, "loha": 1e-3, "lokr": 1e-3},
    **{"ia3": 1e-2, "prefix": 1e-2, FULL: 2e-5},
}
LAYERS = 2  # top layers of the encoder that adapters change, as in the recipe dialect


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--data", type=Path, required=True, help="train.jsonl and test.jsonl")
    parser.add_argument("--general", type=Path, required=True, help="manifest of other speech")
    parser.add_argument("--base", default="starter:whisper-tiny.en")
    parser.add_argument("--rows", type=int, default=160, help="training rows")
    parser.add_argument("--test", type=int, default=90, help="test rows")
    parser.add_argument("--kept", type=int, default=60, help="rows of general speech")
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--methods", default=",".join(RATES), help="which, of: " + " ".join(RATES))
    parser.add_argument("--rates", default="", help="other learning rates, as lora=5e-4,ia3=3e-3")
    args = parser.parse_args()

    from mmtune.prefix.cache import PrefixCache
    from mmtune.prefix.features import Features
    from mmtune.speech.whisper.base import load_base
    from mmtune.speech.whisper.encoder import cut_of
    from mmtune.speech.whisper.stages import NAME, AudioStage
    from mmtune.system.quiet import quiet_libraries

    quiet_libraries()
    rates = RATES | {k: float(v) for k, _, v in (e.partition("=") for e in _list(args.rates))}
    rows = _rows(args.data / "train.jsonl", args.rows)
    sets = {"accent": _rows(args.data / "test.jsonl", args.test)}
    sets["general"] = _rows(args.general, args.kept)
    with tempfile.TemporaryDirectory() as folder:
        cache = PrefixCache(Path(folder) / "cache")

        def heard(base: WhisperBase) -> Features:
            cut = cut_of(base.model.model.encoder, LAYERS)
            return Features({NAME: AudioStage(base, "padded", cut)}, cache)

        base = load_base(args.base)
        before = {name: transcribe(base, {}, each, heard(base)) for name, each in sets.items()}
        print(_head(sets))
        print(_line("the base", sets, before, before, "", "", ""), flush=True)
        for method in _list(args.methods):
            base, place = load_base(args.base), Path(folder) / method
            if method == FULL:
                trained, seconds = fit_full(base, rows, rates[method], args, cache)
                size = sum(p.numel() * p.element_size() for p in base.model.parameters())
                after = {name: transcribe(base, {}, each) for name, each in sets.items()}
            else:
                trained, seconds = fit_adapter(
                    base, method, rows, rates[method], args, cache, place
                )
                size = (place / "adapter" / "adapter_model.safetensors").stat().st_size
                base = load_base(args.base)
                adapter = {"adapter": place / "adapter"}
                after = {
                    name: transcribe(base, adapter, each, heard(base) if i == 0 else None)
                    for i, (name, each) in enumerate(sets.items())
                }
            facts = f"{trained:,}", f"{size / 1e6:.2f}", f"{seconds:.2f}"
            print(_line(method, sets, before, after, *facts), flush=True)


def fit_adapter(
    base: WhisperBase,
    method: str,
    rows: Sequence[SpeechRow],
    rate: float,
    args: argparse.Namespace,
    cache: Any,
    place: Path,
) -> tuple[int, float]:
    """Train and save an adapter; return its trained numbers and the median seconds of a step."""
    from mmtune.training.loop import fit
    from mmtune.training.reporter import Reporter

    class Clock(Reporter):
        """CPU seconds of this process after each step."""

        def __init__(self) -> None:
            self.at: list[float] = []

        def step(self, *_: Any) -> None:
            self.at.append(time.process_time())

    clock = Clock()
    task = make_task(base, method, args.seed, cache, LAYERS)
    fit(task, rows, [], _options(rate, args), place, clock)
    task.save(place / "adapter")
    trained = sum(p.numel() for p in task.module.parameters() if p.requires_grad)
    return trained, statistics.median(b - a for a, b in pairwise(clock.at))


def make_task(base: WhisperBase, method: str, seed: int, cache: Any, layers: int | str) -> Any:
    """The task of the recipe dialect without its extra rows and times."""
    from mmtune.config import AdapterOptions, LoraOptions
    from mmtune.speech.speech_options import MixOptions, SpeechOptions
    from mmtune.speech.speech_task import SpeechTask

    options = SpeechOptions(
        encoder_layers=layers, timestamps=0, mix=MixOptions(nonspeech=0), language="en"
    )
    adapter = AdapterOptions.model_validate({"method": method})
    return SpeechTask(base, LoraOptions(), options, cache, seed, adapter=adapter)


def _options(rate: float, args: argparse.Namespace) -> Any:
    from mmtune.config import TrainOptions

    return TrainOptions(
        epochs=args.epochs,
        batch_size=args.batch,
        lr=rate,
        schedule="linear",
        seed=args.seed,
        precision="fp32",
    )


def fit_full(
    base: WhisperBase, rows: Sequence[SpeechRow], rate: float, args: argparse.Namespace, cache: Any
) -> tuple[int, float]:
    """Train all layers of encoder and decoder in place, on the adapters' batches."""
    import torch
    from torch.nn.functional import cross_entropy
    from transformers import get_linear_schedule_with_warmup

    from mmtune.speech.whisper.encoder import finish
    from mmtune.speech.whisper.stages import NAME
    from mmtune.training.batches import Plan
    from mmtune.training.optimizer import make_optimizer

    task: SpeechTask = make_task(base, "ia3", args.seed, cache, "all")
    base.model = task.model.unload()  # the task only gives the batches
    model, options = base.model, _options(rate, args)
    weights = [*model.model.encoder.layers.parameters(), *model.model.decoder.parameters()]
    weights += list(model.model.encoder.layer_norm.parameters())
    for weight in weights:
        weight.requires_grad_(True)
    optimizer = make_optimizer([{"params": weights}], options)
    plan = Plan(rows, task.bucket, args.batch, args.seed, None)
    steps = args.epochs * plan.steps_per_epoch
    schedule = get_linear_schedule_with_warmup(optimizer, round(options.warmup * steps), steps)
    times = []
    for epoch in range(args.epochs):
        for slots in plan.epoch(epoch):
            draws = [slot.draw(args.seed, epoch) for slot in slots]
            chosen = [task.choose(slot.row, d) for slot, d in zip(slots, draws, strict=True)]
            stored = task.features.get([each.parts[0] for each in chosen])
            batch = task.collate(chosen, [{NAME: each} for each in stored], draws)
            began = time.process_time()
            states = model.model.decoder(
                input_ids=batch["inputs"],
                encoder_hidden_states=finish(model.model.encoder, batch["hidden"], 0),
                use_cache=False,
            ).last_hidden_state
            logits = model.proj_out(states[batch["mask"]])
            cross_entropy(logits, batch["targets"][batch["mask"]]).backward()
            torch.nn.utils.clip_grad_norm_(weights, options.clip or float("inf"))
            optimizer.step()
            optimizer.zero_grad()
            schedule.step()
            times.append(time.process_time() - began)
    model.requires_grad_(False)
    return sum(weight.numel() for weight in weights), statistics.median(times)


def transcribe(
    base: WhisperBase,
    adapters: Mapping[str, Path],
    rows: Sequence[SpeechRow],
    features: Features | None = None,
) -> list[Prediction]:
    """Transcribe rows on windows of 30 s, with the adapter if there is one."""
    from mmtune.predict import Request
    from mmtune.speech.transcription.predictor import SpeechPredictor

    predictor = SpeechPredictor(base, adapters, features, language="en")
    return predictor.predict([Request(row, dict.fromkeys(adapters, 1.0)) for row in rows])


def _rows(manifest: Path, count: int) -> list[SpeechRow]:
    """`count` rows of a manifest, evenly apart."""
    import mmtune
    from mmtune.speech.speech_row import speech_rows

    rows = speech_rows(mmtune.check(manifest, "speech").rows)
    return [rows[i * len(rows) // count] for i in range(min(count, len(rows)))]


def _list(text: str) -> list[str]:
    return [part for part in text.split(",") if part]


def _head(sets: Mapping[str, Sequence[SpeechRow]]) -> str:
    names = [f"WER, {name} ({len(rows)})" for name, rows in sets.items()]
    names += [f"less the base, {name}" for name in sets]
    cells = ["method", *names, "trained numbers", "MB", "CPU s a step"]
    return f"| {' | '.join(cells)} |\n{'|---' * len(cells)}|"


def _line(
    method: str,
    sets: Mapping[str, Sequence[SpeechRow]],
    before: Mapping[str, Sequence[Prediction]],
    after: Mapping[str, Sequence[Prediction]],
    *facts: str,
) -> str:
    from mmtune.metrics.bootstrap import paired_bootstrap
    from mmtune.metrics.text.wer import WordErrors

    metric, values, gaps = WordErrors("en"), [], []
    for name, rows in sets.items():
        _, value, gap = paired_bootstrap(
            [metric.observe(r, p) for r, p in zip(rows, before[name], strict=True)],
            [metric.observe(r, p) for r, p in zip(rows, after[name], strict=True)],
            metric.reduce,
            clusters=[next(iter(row.leakage_keys), f"row {row.id}") for row in rows],
        )
        values.append(str(value))
        gaps.append(f"{gap.value:+.3f} [{gap.low:+.3f}, {gap.high:+.3f}]")
    gaps = gaps if after is not before else [""] * len(gaps)
    return f"| {' | '.join([method, *values, *gaps, *facts])} |"


if __name__ == "__main__":
    main()
