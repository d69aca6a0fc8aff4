"""The loop's promises: exact division, resume to the bit, keep-best, refusal of NaN."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from mmtune.config import TrainOptions
from mmtune.errors import TrainingError
from mmtune.prefix.cache import PrefixCache
from mmtune.training.interrupt import Interrupted
from mmtune.training.log import read_log
from mmtune.training.loop import fit
from mmtune.training.preflight import Preflight
from mmtune.training.reporter import Reporter
from tests.training.toy import ToyTask, rows

ROOT = Path(__file__).parents[2]


def options(**values: object) -> TrainOptions:
    base = {"epochs": 3, "batch_size": 8, "lr": 0.05, "checkpoint_every": 2, "warmup": 0.1}
    # Whatever this machine would choose: sums are compared to the last digits.
    return TrainOptions.model_validate(base | {"precision": "fp32"} | values)


def final(task: ToyTask) -> dict[str, torch.Tensor]:
    return {name: weight.detach().clone() for name, weight in task.weights()}


def losses(folder: Path) -> list[float]:
    return [e["loss"] for e in read_log(folder / "log.jsonl") if "loss" in e]


def equal(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


class StopAt(Reporter):
    """Sends this process a signal after a step."""

    def __init__(self, at: int, number: int) -> None:
        self.at, self.number = at, number

    def step(self, step: int, total: int, loss: float, lr: float) -> None:
        if step == self.at:
            os.kill(os.getpid(), self.number)


@pytest.mark.parametrize("micro", [1, 3, 4])
def test_accumulation_gives_the_gradient_of_the_whole_batch(tmp_path: Path, micro: int) -> None:
    whole, parts = ToyTask(), ToyTask()
    fit(whole, rows(21), [], options(), tmp_path / "a")
    fit(parts, rows(21), [], options(micro_batch=micro), tmp_path / "b")
    for name, weight in final(whole).items():
        torch.testing.assert_close(final(parts)[name], weight, rtol=1e-5, atol=1e-6)
    assert losses(tmp_path / "a") == pytest.approx(losses(tmp_path / "b"), rel=1e-5)


def test_the_logged_loss_is_the_sum_over_units(tmp_path: Path) -> None:
    """Against a direct computation: the first batch holds all rows."""
    task, items = ToyTask(), rows(8)
    from mmtune.training.randomness import Draw

    draws = [Draw(0, 0, row.id) for row in items]
    examples = [task.choose(row, draw) for row, draw in zip(items, draws, strict=True)]
    stored = [{"toy": t} for t in task.features.get([p for e in examples for p in e.parts])]
    loss = task.module(task.collate(examples, stored, draws))
    expected = float(loss.total.sum() / loss.units.sum())
    fit(task, items, [], options(epochs=1), tmp_path)
    assert losses(tmp_path)[0] == pytest.approx(expected, rel=1e-6)


def test_balanced_groups_resume_bit_identical(tmp_path: Path) -> None:
    """A small group's rows are repeated, and each turn has its own random numbers."""
    items = [
        row.model_copy(update={"group": {"accent": "few" if n < 3 else "many"}})
        for n, row in enumerate(rows(21))
    ]

    def run(folder: Path, reporter: Reporter | None = None) -> ToyTask:
        task = ToyTask(dropout=0.3, views=3, buckets=2)
        fit(
            task, items, rows(5, "held"), options(micro_batch=3, balance="accent"), folder, reporter
        )
        return task

    whole = run(tmp_path / "whole")
    with pytest.raises(Interrupted):
        run(tmp_path / "cut", StopAt(5, signal.SIGTERM))
    torch.manual_seed(12345)
    assert equal(final(run(tmp_path / "cut")), final(whole))
    assert losses(tmp_path / "cut") == losses(tmp_path / "whole")
    plain = ToyTask(dropout=0.3, views=3, buckets=2)
    fit(plain, items, rows(5, "held"), options(micro_batch=3), tmp_path / "plain")
    assert len(losses(tmp_path / "plain")) == len(losses(tmp_path / "whole"))
    assert not equal(final(plain), final(whole))


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1])
def test_a_signal_saves_and_the_resumed_run_ends_bit_identical(tmp_path: Path, number: int) -> None:
    settings = options(micro_batch=3)
    whole = ToyTask(dropout=0.3, views=3, buckets=2)
    fit(whole, rows(21), rows(5, "held"), settings, tmp_path / "whole")

    folder, watcher = tmp_path / "cut", StopAt(5, number)
    with pytest.raises(Interrupted) as stopped:
        fit(
            ToyTask(dropout=0.3, views=3, buckets=2),
            rows(21),
            rows(5, "held"),
            settings,
            folder,
            watcher,
        )
    assert stopped.value.step == 5
    assert stopped.value.exit_code == 128 + number
    again = ToyTask(dropout=0.3, views=3, buckets=2)
    torch.manual_seed(12345)  # whatever the new process's generator holds
    result = fit(again, rows(21), rows(5, "held"), settings, folder)
    assert equal(final(again), final(whole))
    assert losses(folder) == losses(tmp_path / "whole")
    assert result.reason == "done"


SCRIPT = """
import os, sys
from pathlib import Path
from tests.training.test_loop import options
from tests.training.toy import ToyTask, rows
from mmtune.training.loop import fit
from mmtune.training.reporter import Reporter

class Die(Reporter):
    def step(self, step, total, loss, lr):
        if step == int(sys.argv[2]):
            os.kill(os.getpid(), 9)

task = ToyTask(dropout=0.3, views=2, buckets=2)
fit(task, rows(21), rows(5, "held"), options(), Path(sys.argv[1]), Die())
task.save(Path(sys.argv[1]))
"""


def run_script(*arguments: str, launcher: tuple[str, ...] = (), script: str = SCRIPT) -> int:
    command = [sys.executable, *launcher] if launcher else [sys.executable, "-c", script]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    return subprocess.run(
        [*command, *arguments], cwd=ROOT, env=environment, check=False, timeout=240
    ).returncode


def test_kill_9_in_mid_epoch_then_resume_is_bit_identical(tmp_path: Path) -> None:
    assert run_script(str(tmp_path / "whole"), "-1") == 0
    assert run_script(str(tmp_path / "cut"), "5") == -signal.SIGKILL
    assert run_script(str(tmp_path / "cut"), "-1") == 0
    a, b = (tmp_path / name / "toy.safetensors" for name in ("whole", "cut"))
    assert a.read_bytes() == b.read_bytes()
    assert losses(tmp_path / "whole") == losses(tmp_path / "cut")


def test_two_processes_give_the_losses_of_one(tmp_path: Path) -> None:
    # Not `accelerate launch --cpu`: whatever number it is given, it starts one process.
    launcher = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2")
    worker = str(ROOT / "tests/training/two_processes.py")
    assert run_script(worker, str(tmp_path / "two"), launcher=launcher) == 0
    assert (tmp_path / "two" / "processes").read_text() == "2"
    task = ToyTask(buckets=2)
    fit(task, rows(21), rows(5, "held"), options(), tmp_path / "one")
    one, two = losses(tmp_path / "one"), losses(tmp_path / "two")
    assert len(one) == len(two)
    assert two == pytest.approx(one, rel=1e-5)


def test_runs_of_different_precision_follow_each_other_in_one_python(tmp_path: Path) -> None:
    found = {}
    for number, precision in enumerate(("fp32", "bf16", "fp32")):
        fit(ToyTask(), rows(16), [], options(precision=precision), tmp_path / str(number))
        found[number] = losses(tmp_path / str(number))
    assert found[0] == found[2]
    assert found[1] != found[0]
    assert found[1] == pytest.approx(found[0], rel=0.05)


class Copy(Reporter):
    """Keeps the weights as they are after a step."""

    def __init__(self, task: ToyTask, at: int) -> None:
        self.task, self.at = task, at

    def step(self, step: int, total: int, loss: float, lr: float) -> None:
        if step == self.at:
            self.weights = final(self.task)


def test_the_best_weights_are_kept_and_patience_stops(tmp_path: Path) -> None:
    task = ToyTask(worse_after=2)  # the second validation after the base's is the best
    copy = Copy(task, 2)
    settings = options(epochs=9, patience=3)
    result = fit(task, rows(8), rows(3, "held"), settings, tmp_path, copy)
    assert (result.best_step, result.reason, result.steps) == (2, "early stop", 5)
    assert result.base == {"error": 2.0}
    assert equal(final(task), copy.weights)
    again = ToyTask(worse_after=2)
    fit(again, rows(8), rows(3, "held"), settings, tmp_path)
    assert equal(final(again), copy.weights)


class Notes(Reporter):
    def __init__(self) -> None:
        self.notes: list[str] = []
        self.facts: Preflight | None = None

    def note(self, text: str) -> None:
        self.notes.append(text)

    def preflight(self, facts: Preflight) -> None:
        self.facts = facts


def test_a_nan_row_is_named_and_never_steps(tmp_path: Path) -> None:
    notes = Notes()
    poisoned = frozenset({"row-3"})
    task = ToyTask(poison=poisoned)
    fit(task, rows(24), [], options(epochs=1, batch_size=4), tmp_path, notes)
    assert all(torch.isfinite(weight).all() for weight in final(task).values())
    skipped = [e for e in read_log(tmp_path / "log.jsonl") if e.get("event") == "skipped"]
    assert [entry["rows"] for entry in skipped] == [["row-3"]]
    assert any("row-3" in text for text in notes.notes)


def test_bad_steps_in_a_row_stop_the_run(tmp_path: Path) -> None:
    poison = frozenset(row.id for row in rows(24))
    with pytest.raises(TrainingError, match=r"3 steps in a row .*rows row-"):
        fit(ToyTask(poison=poison), rows(24), [], options(batch_size=4), tmp_path)


def test_a_damaged_checkpoint_is_passed_over(tmp_path: Path) -> None:
    with pytest.raises(Interrupted):
        fit(ToyTask(), rows(21), [], options(), tmp_path, StopAt(5, signal.SIGTERM))
    newest = sorted((tmp_path / "checkpoints").glob("step-*"))[-1]
    assert newest.name == "step-0000005"
    weights = newest / "weights.safetensors"
    data = bytearray(weights.read_bytes())
    data[-1] ^= 1  # safetensors would load this in silence
    weights.write_bytes(data)
    notes, again, whole = Notes(), ToyTask(), ToyTask()
    fit(again, rows(21), [], options(), tmp_path, notes)
    fit(whole, rows(21), [], options(), tmp_path / "whole")
    assert any("step-0000005 is damaged" in text for text in notes.notes)
    assert any("resuming after step 4" in text for text in notes.notes)
    assert equal(final(again), final(whole))


def test_only_the_newest_checkpoints_stay(tmp_path: Path) -> None:
    fit(ToyTask(), rows(21), [], options(keep=2), tmp_path)
    names = sorted(path.name for path in (tmp_path / "checkpoints").iterdir())
    assert names == ["step-0000008", "step-0000009"]


def test_an_old_checkpoint_that_a_failed_save_left_goes_with_the_next_run(tmp_path: Path) -> None:
    settings, checkpoints = options(keep=2), tmp_path / "checkpoints"
    fit(ToyTask(), rows(16), [], settings, tmp_path)
    kept = sorted(checkpoints.iterdir())
    left = shutil.copytree(kept[0], checkpoints / "step-0000001")
    fit(ToyTask(), rows(16), [], settings, tmp_path)
    assert sorted(checkpoints.iterdir()) == kept

    # Nothing goes while the newest is damaged: the older ones are needed.
    shutil.copytree(kept[0], left)
    (kept[1] / "weights.safetensors").write_bytes(b"damaged")

    class Dies(Reporter):
        def preflight(self, facts: Preflight) -> None:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fit(ToyTask(), rows(16), [], settings, tmp_path, Dies())
    assert left.exists()


def test_preflight_counts_and_the_cache_is_filled_once(tmp_path: Path) -> None:
    notes, cache = Notes(), PrefixCache(tmp_path / "cache")
    task = ToyTask(cache, views=2)
    fit(task, rows(10), [], options(), tmp_path / "a", notes)
    assert notes.facts is not None
    assert (notes.facts.rows, notes.facts.steps) == (10, 6)
    assert (notes.facts.trainable, notes.facts.total) == (3 * 12 + 4 * 3, 3 * 12 + 4 * 3 + 52)
    assert notes.facts.cache_missing == 20
    assert task.stage.encoded == 20
    second = ToyTask(cache, views=2)
    fit(second, rows(10), [], options(), tmp_path / "b")
    assert second.stage.encoded == 0
    assert equal(final(task), final(second))


def test_a_cache_that_never_pays_is_not_filled(tmp_path: Path) -> None:
    notes, cache = Notes(), PrefixCache(tmp_path / "cache")
    task, plain = ToyTask(cache, views=9), ToyTask(views=9)
    fit(task, rows(10), [], options(epochs=2), tmp_path / "a", notes)
    fit(plain, rows(10), [], options(epochs=2), tmp_path / "b")
    assert notes.facts is not None
    assert not notes.facts.cache_pays
    assert equal(final(task), final(plain))


def test_frozen_or_fully_trainable_models_are_refused(tmp_path: Path) -> None:
    frozen, full = ToyTask(), ToyTask()
    frozen.module.requires_grad_(False)
    full.module.requires_grad_(True)
    with pytest.raises(TrainingError, match="no parameter is trainable"):
        fit(frozen, rows(4), [], options(), tmp_path / "a")
    with pytest.raises(TrainingError, match="this is not LoRA"):
        fit(full, rows(4), [], options(), tmp_path / "b")


def test_a_finished_run_does_nothing_when_repeated(tmp_path: Path) -> None:
    task, again = ToyTask(), ToyTask()
    fit(task, rows(10), rows(3, "held"), options(), tmp_path)
    before = (tmp_path / "log.jsonl").read_text()
    fit(again, rows(10), rows(3, "held"), options(), tmp_path)
    assert (tmp_path / "log.jsonl").read_text() == before
    assert again.validations == 0
    assert equal(final(again), final(task))


def test_the_log_is_json_lines(tmp_path: Path) -> None:
    fit(ToyTask(), rows(10), rows(3, "held"), options(epochs=1), tmp_path)
    entries = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    steps = [e for e in entries if "loss" in e]
    assert [e["step"] for e in steps] == [1, 2]
    assert all(e["lr"] >= 0 and e["grad_norm"] > 0 and e["time"] > 0 for e in steps)
    assert [e["step"] for e in entries if "validation" in e] == [0, 2]


class Signals(Notes):
    """Sends signals to the process itself after step 3."""

    def __init__(self, *numbers: int) -> None:
        super().__init__()
        self.numbers = numbers

    def step(self, step: int, total: int, loss: float, lr: float) -> None:
        if step == 3:
            for number in self.numbers:
                signal.raise_signal(number)


def test_a_second_warning_does_not_stop_at_once_but_a_repeated_one_does(tmp_path: Path) -> None:
    for numbers in ([signal.SIGTERM, signal.SIGHUP], [signal.SIGUSR1, signal.SIGTERM]):
        with pytest.raises(Interrupted) as stopped:
            fit(ToyTask(), rows(21), [], options(), tmp_path / str(numbers), Signals(*numbers))
        assert (stopped.value.step, stopped.value.number) == (3, numbers[0])
    for numbers in ([signal.SIGTERM, signal.SIGTERM], [signal.SIGHUP, signal.SIGINT]):
        with pytest.raises(KeyboardInterrupt):
            fit(ToyTask(), rows(21), [], options(), tmp_path / str(numbers), Signals(*numbers))


def test_a_signal_that_was_ignored_stays_ignored(tmp_path: Path) -> None:
    """As under nohup."""
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        result = fit(ToyTask(), rows(21), [], options(), tmp_path, Signals(signal.SIGHUP))
        assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)
    assert result.reason == "done"
