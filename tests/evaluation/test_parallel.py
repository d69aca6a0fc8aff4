"""An evaluation that is killed and repeated, or shared by two processes, has the figures of one."""

from __future__ import annotations

import importlib.util
import json
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partialmethod
from pathlib import Path

import pytest
import torch

from mmtune.cli import main
from mmtune.evaluation.answers import ANSWERS_FILE
from mmtune.evaluation.comparison import COMPARISON_FILE
from mmtune.image.sampling.predictor import ImagePredictor
from mmtune.speech.transcription.predictor import SpeechPredictor
from tests.evaluation.runs import MAKE
from tests.evaluation.watched import watch
from tests.faults.test_kill import environment
from tests.speech.real import PACKAGES, TINY

ROOT = Path(__file__).parents[2]
WATCHED = str(ROOT / "tests/evaluation/watched.py")
# Not `accelerate launch --cpu`: whatever number it is given, it starts one process.
TWO = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2")


@dataclass(frozen=True)
class Whole:
    """A run that one process has evaluated without a break."""

    run: Path
    figures: dict[str, object]  # of comparison.json, but for the speed
    answers: str  # answers.jsonl, whose lines stand in the order of asking, but for the seconds
    images: dict[str, bytes]

    @property
    def asked(self) -> Path:
        """Who was asked how much since, see `watched`."""
        return self.run / "asked"


def evaluate(run: Path) -> None:
    """In this process, as `watched` does it in others."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # sums may round by how they are split
    try:
        with pytest.MonkeyPatch.context() as patch:
            few = partialmethod(SpeechPredictor.__init__, batch_size=2)
            patch.setattr(SpeechPredictor, "__init__", few)
            assert main(["evaluate", str(run)]) == 0
    finally:
        torch.set_num_threads(threads)


def found(run: Path) -> Whole:
    images = {path.name: path.read_bytes() for path in (run / "answers").glob("*")}
    figures = json.loads((run / COMPARISON_FILE).read_bytes())
    del figures["speed"], figures["seconds"]
    return Whole(run, figures, answers_of(run), images)


def answers_of(run: Path) -> str:
    """Without how long each took."""
    lines = [json.loads(line) for line in (run / ANSWERS_FILE).read_text("utf-8").splitlines()]
    return "".join(json.dumps(line | {"seconds": None}) + "\n" for line in lines)


@pytest.fixture(scope="module")
def wholes(tmp_path_factory: pytest.TempPathFactory) -> list[Whole]:
    """Of both modalities, where the starter of speech is installed."""
    kinds = list(MAKE) if importlib.util.find_spec(PACKAGES[TINY]) else ["image"]
    runs = [MAKE[kind](tmp_path_factory.mktemp(kind)) for kind in kinds]
    for run in runs:
        evaluate(run)
    return [found(run) for run in runs]


def watched(die_at: int, runs: Sequence[Path], launcher: Sequence[str] = ()) -> int:
    for run in runs:
        (run / "asked").unlink(missing_ok=True)
    return subprocess.run(
        [sys.executable, *launcher, WATCHED, str(die_at), *map(str, runs)],
        env=environment(runs[0] / "cache") | {"PYTHONPATH": str(ROOT)},
        cwd=ROOT, check=False, timeout=400,
    ).returncode  # fmt: skip


def shares(asked: Path) -> Counter[str]:
    """How many requests each process answered."""
    counts: Counter[str] = Counter()
    for line in asked.read_text(encoding="utf-8").splitlines():
        rank, count = line.split()
        counts[rank] += int(count)
    return counts


@pytest.mark.slow
def test_two_processes_give_the_report_of_one(wholes: list[Whole]) -> None:
    assert watched(-1, [whole.run for whole in wholes], TWO) == 0
    for whole in wholes:
        counts = shares(whole.asked)
        assert counts.keys() == {"0", "1"}
        assert counts.total() == len(whole.answers.splitlines())
        assert min(counts.values()) > counts.total() / 8
        assert found(whole.run) == whole


@pytest.mark.slow
def test_after_kill_9_only_the_rest_is_asked(
    wholes: list[Whole], monkeypatch: pytest.MonkeyPatch
) -> None:
    for whole in wholes:
        assert watched(3, [whole.run]) == -signal.SIGKILL
        kept = answers_of(whole.run)
        assert whole.answers.startswith(kept)
        assert found(whole.run).figures == whole.figures, "the earlier comparison stays"
        before = shares(whole.asked).total()
        assert 0 < before == len(kept.splitlines()) < len(whole.answers.splitlines())
        with monkeypatch.context() as patch:
            for kind in (SpeechPredictor, ImagePredictor):
                patch.setattr(kind, "predict", kind.predict)  # what `watch` changes is put back
                watch(kind, whole.asked, -1)
            evaluate(whole.run)
        assert shares(whole.asked).total() == len(whole.answers.splitlines())
        assert found(whole.run) == whole
