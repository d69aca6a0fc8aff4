"""Each function of mmtune that writes a file, called alone: `mmtune writer NAME earlier|now`.

`earlier` writes what a user had before, `now` writes other content in its place. All write into
the current folder. They run as a command, so that an error passes the command line's border.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

STORED = Path(__file__).parents[1] / "conformance" / "stored"
WRITERS: dict[str, Callable[[Path, int], None]] = {}


def writes(name: str) -> Callable[[Callable[[Path, int], None]], Callable[[Path, int], None]]:
    """Register a function of a folder and 0 (earlier) or 1 (now)."""

    def register(function: Callable[[Path, int], None]) -> Callable[[Path, int], None]:
        WRITERS[name] = function
        return function

    return register


def writer_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", choices=list(WRITERS))
    parser.add_argument("state", choices=("earlier", "now"))


def writer(options: argparse.Namespace) -> int:
    WRITERS[options.name](Path.cwd(), int(options.state == "now"))
    return 0


@writes("write_text")
def _write_text(here: Path, state: int) -> None:
    from mmtune.system.files import write_text

    write_text(here / "text.txt", f"state {state}\n" * 2000)


@writes("aside")
def _aside(here: Path, state: int) -> None:
    from mmtune.system.files import aside

    if state == 0:
        return
    with aside(here / "made") as path:
        path.mkdir()
        for i in range(3):
            (path / f"{i}.txt").write_text(f"part {i}\n")
        path.rename(here / "made")


@writes("manifest")
def _manifest(here: Path, state: int) -> None:
    from mmtune.data.manifest import write_manifest

    rows = [{"id": str(i), "text": f"words of {state}" * 20} for i in range(200)]
    write_manifest(here / "manifest.jsonl", rows)


@writes("split ledger")
def _ledger(here: Path, state: int, **shares: float) -> None:
    from mmtune.config import DataOptions
    from mmtune.data.split_ledger import assign_and_keep
    from mmtune.speech.speech_row import SpeechRow

    rows = [
        SpeechRow(id=str(i), audio=f"{i}.wav", text=f"words {i}", content=f"{i:064d}")
        for i in range(30 + 30 * state)
    ]
    found = assign_and_keep(rows, here / "manifest.jsonl", DataOptions(**shares), [], record=True)
    for finding in found.findings:
        print(finding.message)


@writes("split ledger, other shares")
def _ledger_anew(here: Path, state: int) -> None:
    _ledger(here, 0, **({"test": 0.4} if state else {}))


@writes("cache put")
def _cache(here: Path, state: int) -> None:
    import torch

    from mmtune.prefix.cache import PrefixCache

    for i in range(1 + state):
        PrefixCache(here / "cache").put(f"{i:064d}", {"x": torch.arange(500) + i}, "toy")


@writes("cache pin")
def _pin(here: Path, state: int) -> None:
    from mmtune.prefix.cache import PrefixCache

    _cache(here, 0)
    if state:
        with PrefixCache(here / "cache").pin(["0" * 64]):
            pass


@writes("checkpoint")
def _checkpoint(here: Path, state: int) -> None:
    import torch

    from mmtune.training.checkpoint import Checkpoint, save_checkpoint

    weights = {"w": torch.full((400,), float(state)), "v": torch.ones(3)}
    values = Checkpoint(weights, weights, {"step": state}, {"optimizer": {"m": torch.ones(9)}})
    save_checkpoint(here / "checkpoints" / f"step-{state:07d}", values)


@writes("checkpoint again")
def _checkpoint_again(here: Path, state: int) -> None:
    """The same step, saved again after a crash."""
    import torch

    from mmtune.training.checkpoint import Checkpoint, save_checkpoint

    weights = {"w": torch.full((400,), 1.0)}
    save_checkpoint(here / "checkpoints" / "step-0000001", Checkpoint(weights, {}, {}, {}))


@writes("snapshot")
def _snapshot(here: Path, state: int) -> None:
    import torch

    from mmtune.training.kept_weights import Snapshot, Snapshots

    kept = Snapshots(here, 3, 3)
    for step in range(1 + state):
        kept.put(Snapshot(step, {"w": torch.full((400,), float(step))}, {"error": 0.5}))


@writes("log")
def _log(here: Path, state: int) -> None:
    from mmtune.training.log import RunLog

    log = RunLog(here / "log.jsonl", active=True)
    log.cut(2)
    for step in range(3 * state, 3 * state + 3):
        log.write(step=step, loss=0.25)


@writes("answers")
def _answers(here: Path, state: int) -> None:
    from mmtune.evaluation.answers import StoredPredictor
    from mmtune.predict import Request
    from tests.training.toy import rows

    predictor: Any = StoredPredictor(here, "f", lambda: _Echo(False), chunk=3)
    predictor.predict([Request(row) for row in rows(4 + 4 * state)])


@writes("answers with images")
def _image_answers(here: Path, state: int) -> None:
    from mmtune.evaluation.answers import StoredPredictor
    from mmtune.predict import Request
    from tests.training.toy import rows

    predictor: Any = StoredPredictor(here, "f", lambda: _Echo(True), chunk=2)
    predictor.predict([Request(row) for row in rows(2 + 2 * state)])


class _Echo:
    """A predictor without a model."""

    fingerprint = "echo"
    batch_size = 2

    def __init__(self, images: bool) -> None:
        self.images = images

    def batches(self, requests: Any) -> list[list[int]]:
        return [[i] for i in range(len(requests))]

    def predict(self, requests: Any) -> list[Any]:
        from PIL import Image

        from mmtune.predict import Prediction

        values: list[Any] = [request.row.id for request in requests]
        if self.images:
            values = [Image.new("RGB", (8, 8), (len(v), 9, 9)) for v in values]
        return [Prediction(r.row.id, v) for r, v in zip(requests, values, strict=True)]


@writes("card")
def _card(here: Path, state: int) -> None:
    from mmtune.adapters.card import Card

    versions = {"mmtune": "0.1.0"}
    Card(
        name=f"state {state}", recipe="r", modality="speech", base="b", base_hash="0" * 64,
        dataset="1" * 64, rows={"train": 3}, settings={}, versions=versions, created="now",
    ).write(here)  # fmt: skip


def _run(here: Path, modality: str = "speech") -> Path:
    """A copy of the stored run, as the current folder's."""
    if not (here / "trained").exists():
        shutil.copytree(STORED / modality, here, dirs_exist_ok=True)
    return here / "trained" / "finished"


def _config(here: Path, **changes: Any) -> Any:
    from mmtune.runs.recipes import load_run

    config = load_run(_run(here))
    return config.model_copy(update=changes)


@writes("run folder")
def _claim(here: Path, state: int) -> None:
    """config.yaml and data.json of a run that begins, or that changes its suite."""
    from mmtune.data.dataset import Dataset
    from mmtune.runs.folder import claim, keep_suite, record_data

    config = _config(here, out=here, name="new")
    if state:
        config = config.model_copy(update={"suite": str(here / "suite.yaml")})
    claim(config)
    data = {"source": Path("data"), "rows": (), "findings": (), "quarantined": ()}
    record_data(config.folder, _dataset(Dataset, data))
    keep_suite(config.folder, str(here / "suite.yaml"))
    if state == 0:
        (config.folder / "log.jsonl").write_text('{"step": 0}\n')


def _dataset(kind: Any, values: dict[str, Any]) -> Any:
    class Fixed:
        fingerprint = "0" * 64

        def __getattr__(self, name: str) -> Any:
            return values[name]

        def split(self, name: str) -> tuple[()]:
            return ()

    return Fixed()


@writes("comparison")
def _comparison(here: Path, state: int) -> None:
    from mmtune.evaluation.comparison import read_comparison
    from mmtune.runs.folder import keep_comparison

    config = _config(here)
    if state:
        found = read_comparison(config.folder)
        keep_comparison(config, replace(found, headline="another"))


@writes("verdict")
def _verdict(here: Path, state: int) -> None:
    from mmtune.evaluation.comparison import read_comparison
    from mmtune.evaluation.suite import load_suite
    from mmtune.evaluation.verdict import judge, write_verdict

    run = _run(here)
    found = read_comparison(run)
    changed = replace(found, measures=found.measures[:1]) if state else found
    write_verdict(run, judge(load_suite(str(run / "suite.yaml")), changed))


@writes("report")
def _report(here: Path, state: int) -> None:
    from mmtune.runs.pipeline import report

    run = _run(here)
    if state:
        path = run / "comparison.json"
        path.write_text(path.read_text().replace("WER", "wer"))
    report([run])


@writes("report of images")
def _image_report(here: Path, state: int) -> None:
    from mmtune.runs.pipeline import report

    report([_run(here, "image")], redacted=bool(state))


@writes("review page")
def _review(here: Path, state: int) -> None:
    from mmtune.pages.review import write_review

    write_review(_run(here, "image"), None, items=2, seed=0)


@writes("review answers")
def _review_answers(here: Path, state: int) -> None:
    from mmtune.pages.preference import read_review
    from mmtune.pages.review import write_review

    run = _run(here, "image")
    page = write_review(run, None, items=2, seed=0)
    key = json.loads(page.key.read_text())
    answers = here / "answers-of-people.json"
    values = {
        "review": key["review"],
        "rater": "x",
        "answers": dict.fromkeys(key["sides"], "AB"[state]),
    }
    answers.write_text(json.dumps(values))
    read_review(run, [answers])


@writes("route")
def _route(here: Path, state: int) -> None:
    from mmtune.adapters.routing import write_route

    _run(here)
    (here / "route.yaml").write_text(
        "by: accent\nlabels: {a: trained/finished, b: none}\notherwise: none\n"
    )
    if state:
        write_route(here / "route.yaml", here / "routed")


@writes("init")
def _init(here: Path, state: int) -> None:
    from mmtune.cli import run_commands

    if state:
        run_commands.init(argparse.Namespace(recipe="terminology", to=here / "mine"))


@writes("import")
def _import(here: Path, state: int) -> None:
    from mmtune.speech.corpus.importers import import_speech

    source = here.parent / f"{here.name}-source-{state}"
    source.mkdir(exist_ok=True)
    lines = ["audio,text"]
    for i in range(2 + state):
        shutil.copy(STORED / "speech" / "data" / f"{i + state}.flac", source / f"{i}.flac")
        lines.append(f"{i}.flac,words {i} of {state}")
    (source / "table.csv").write_text("\n".join(lines) + "\n")
    import_speech(source, here / "corpus")


@writes("captions")
def _captions(here: Path, state: int) -> None:
    from mmtune.image.corpus.propose_captions import by_name, propose

    folder = here / "pictures"
    folder.mkdir(exist_ok=True)
    if state == 0:
        for path in sorted((STORED / "image" / "data").glob("*.png"))[:3]:
            shutil.copy(path, folder / path.name)
        return
    list(propose(folder, by_name))


@writes("mark")
def _mark(here: Path, state: int) -> None:
    from PIL import Image

    from mmtune.image.pictures.generated_metadata import save_png

    save_png(Image.new("RGB", (16, 16), (state, 2, 3)), here / "image.png", {"seed": state})


@writes("kohya file")
def _kohya(here: Path, state: int) -> None:
    import torch

    from mmtune.image.export.weights import save

    save({"a": torch.full((400,), float(state))}, here / "out.safetensors", {"rank": "4"})


@writes("predictions")
def _predictions(here: Path, state: int) -> None:
    from mmtune.predict import Prediction
    from mmtune.speech.evaluation.examples import write_predictions
    from mmtune.speech.evaluation.items import Item
    from mmtune.speech.speech_row import SpeechRow

    row = SpeechRow(id="1", audio="1.flac", text="say", split="test")
    heard = {"base": Prediction("1", f"heard {state}", {}), "adapter": Prediction("1", "x", {})}
    write_predictions(here / "predictions.jsonl", [Item(row, heard, "1")] * 50)


@writes("degraded recording")
def _degraded(here: Path, state: int) -> None:
    from mmtune.speech.evaluation.robustness import CONDITIONS, degrade_row
    from mmtune.speech.speech_row import SpeechRow

    audio = STORED / "speech" / "data" / "0.flac"
    row = SpeechRow(id="1", audio=str(audio), text="say", split="test")
    for name in list(CONDITIONS)[: 1 + state]:
        degrade_row(row, name, here / "robustness")


@writes("toy run")
def _toy(here: Path, state: int) -> None:
    """Three steps with a cache, validations, snapshots and a checkpoint after each."""
    from mmtune.config import TrainOptions
    from mmtune.prefix.cache import PrefixCache
    from mmtune.system.files import folder_aside
    from mmtune.training.loop import fit
    from tests.training.toy import ToyTask, rows

    if state == 0:
        return
    options = TrainOptions.model_validate(
        {"epochs": 1, "batch_size": 4, "lr": 0.05, "checkpoint_every": 1, "warmup": 0.1,
         "validate_every": 1, "precision": "fp32", "compare_checkpoints": 2}
    )  # fmt: skip
    task = ToyTask(PrefixCache(here / "cache"), dropout=0.3)
    fit(task, rows(12), rows(3, "held"), options, here / "run")
    with folder_aside(here / "adapter") as partial:
        task.save(partial)


# Writers that do what a writer must not: the table has to see it.


@writes("planted: in place")
def _in_place(here: Path, state: int) -> None:
    (here / "state.json").write_text(json.dumps({"state": [state] * 2000}))


@writes("planted: silent")
def _silent(here: Path, state: int) -> None:
    with contextlib.suppress(OSError):
        (here / f"{state}.txt").write_text("x" * 1000)


@writes("planted: partial stays")
def _partial_stays(here: Path, state: int) -> None:
    partial = here / f".{os.getpid()}.partial"
    partial.write_text(f"{state}")
    partial.replace(here / "state.txt")


@writes("planted: no cure")
def _no_cure(here: Path, state: int) -> None:
    from mmtune.errors import MmtuneError

    try:
        (here / f"{state}.txt").write_text("x" * 1000)
    except OSError:
        raise MmtuneError("it didn't work") from None


@writes("planted: traceback")
def _traceback(here: Path, state: int) -> None:
    try:
        (here / f"{state}.txt").write_text("x" * 1000)
    except OSError:
        raise TypeError("a mistake in the code") from None


PLANTED = {name for name in WRITERS if name.startswith("planted: ")}
