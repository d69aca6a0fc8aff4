"""An evaluation that is killed and repeated, or shared by two processes, has the figures of one."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch

from mmtune.cli import main
from mmtune.evaluate.stored import FILE
from mmtune.pipeline import COMPARISON
from tests.evaluate.runs import MAKE
from tests.faults.test_kill import environment
from tests.speech.real import TINY, needs

ROOT = Path(__file__).parents[2]
WATCHED = str(ROOT / "tests/evaluate/watched.py")
TWO = (
    "-m", "accelerate.commands.launch", "--cpu", "--num_processes=2", "--num_machines=1",
    "--mixed_precision=no", "--dynamo_backend=no", "--main_process_port=0",
)  # fmt: skip


@dataclass(frozen=True)
class Whole:
    """A run that one process has evaluated without a break."""

    run: Path
    figures: bytes
    answers: bytes  # answers.jsonl: whose lines stand in the order of asking

    def the_same(self) -> bool:
        return (self.run / COMPARISON).read_bytes() == self.figures

    def samples(self) -> dict[str, bytes]:
        folder = self.run / "answers"
        return {path.name: path.read_bytes() for path in folder.glob("*")}


@pytest.fixture(scope="module", params=[pytest.param("speech", marks=needs(TINY)), "image"])
def whole(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Whole:
    run = MAKE[request.param](tmp_path_factory.mktemp("runs"))
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # as in the other processes: sums may round by how they are split
    try:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("mmtune.speech.predictor.BATCH", 2)  # as in `watched`
            assert main(["evaluate", str(run)]) == 0
    finally:
        torch.set_num_threads(threads)
    return Whole(run, (run / COMPARISON).read_bytes(), (run / FILE).read_bytes())


def watched(asked: Path, die_at: int, run: Path, *more: str, launcher: Sequence[str] = ()) -> int:
    return subprocess.run(
        [sys.executable, *launcher, WATCHED, str(asked), str(die_at), "evaluate", str(run), *more],
        env=environment(asked.parent / "cache") | {"PYTHONPATH": str(ROOT)},
        cwd=ROOT, check=False, timeout=400,
    ).returncode  # fmt: skip


def shares(asked: Path) -> Counter[str]:
    """How many requests each process answered."""
    found: Counter[str] = Counter()
    for line in asked.read_text(encoding="utf-8").splitlines():
        rank, count = line.split()
        found[rank] += int(count)
    return found


def test_after_kill_9_only_the_rest_is_asked(whole: Whole, tmp_path: Path) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    assert watched(first, 3, whole.run, "--fresh") == -signal.SIGKILL
    kept = (whole.run / FILE).read_bytes()
    assert whole.answers.startswith(kept)
    assert not (whole.run / COMPARISON).exists()
    assert watched(second, -1, whole.run) == 0
    total, before = (len(text.splitlines()) for text in (whole.answers, kept))
    assert 0 < before < total
    assert shares(first)["0"] == before
    assert shares(second)["0"] == total - before
    assert (whole.run / FILE).read_bytes() == whole.answers
    assert whole.the_same()


def test_two_processes_give_the_report_of_one(whole: Whole, tmp_path: Path) -> None:
    images = whole.samples()
    asked = tmp_path / "asked"
    assert watched(asked, -1, whole.run, "--fresh", launcher=TWO) == 0
    found = shares(asked)
    assert found.keys() == {"0", "1"}
    assert found.total() == len(whole.answers.splitlines())
    assert min(found.values()) > found.total() / 8
    assert (whole.run / FILE).read_bytes() == whole.answers
    assert whole.samples() == images
    assert whole.the_same()
