"""What a notebook relies on: names that stay functions, interrupts, deprecations, progress."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

import mmtune
from mmtune.config import TrainOptions
from mmtune.runs import pipeline
from mmtune.system.progress import shows_progress
from mmtune.training.interrupt import Interrupted
from mmtune.training.loop import fit
from tests.training.test_loop import StopAt
from tests.training.toy import ToyTask, rows


def test_functions_are_not_replaced_by_subpackages_of_their_names() -> None:
    code = (
        "import mmtune, mmtune.training.log, mmtune.evaluation.suite\n"
        "from mmtune.training.log import read_log\n"
        "assert callable(mmtune.train) and callable(mmtune.evaluate)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)


def test_a_deprecated_name_works_and_says_what_to_use(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(mmtune._DEPRECATED, "inspect_data", ("check", "0.3"))
    with pytest.warns(DeprecationWarning, match=r"inspect_data.*0\.3.*use mmtune\.check") as seen:
        assert mmtune.inspect_data is mmtune.check
    assert seen[0].filename == __file__


def test_deprecated_names_lead_to_public_ones() -> None:
    assert {new for new, _ in mmtune._DEPRECATED.values()} <= set(mmtune.__all__)
    assert not set(mmtune._DEPRECATED) & set(mmtune.__all__)


def test_jupyters_interrupt_saves_and_says_how_to_go_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = TrainOptions(epochs=3, batch_size=4, checkpoint_every=100)

    def toy(config: Any, reporter: Any) -> None:
        fit(ToyTask(), rows(21), [], options, tmp_path, StopAt(5, signal.SIGINT))

    monkeypatch.setattr(pipeline, "train", toy)
    with pytest.raises(Interrupted, match=r"after step 5; the run is saved, .* resumes it") as stop:
        mmtune.train("dialect", base="b", progress=False)
    assert not isinstance(stop.value, SystemExit)
    seen: list[int] = []

    class Steps(StopAt):
        def step(self, step: int, total: int, loss: float, lr: float) -> None:
            seen.append(step)

    fit(ToyTask(), rows(21), [], options, tmp_path, Steps(0, signal.SIGINT))
    assert seen[0] == 6


def test_an_interrupt_outside_the_loop_names_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    def stop(config: Any, reporter: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(pipeline, "train", stop)
    with pytest.raises(
        KeyboardInterrupt, match=r"runs/dialect keeps the run .* repeating the call resumes"
    ):
        mmtune.train("dialect", base="b")


def test_training_runs_in_another_thread_where_no_signal_can_be_handled(tmp_path: Path) -> None:
    results: list[int] = []

    def work() -> None:
        options = TrainOptions(epochs=1, batch_size=8)
        results.append(fit(ToyTask(), rows(16), [], options, tmp_path).steps)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert results == [2]


def test_progress_shows_in_jupyter_and_not_in_a_file(monkeypatch: pytest.MonkeyPatch) -> None:
    assert (shows_progress(True), shows_progress(False)) == (True, False)
    monkeypatch.setenv("TERM", "dumb")
    monkeypatch.setattr("rich.console._is_jupyter", lambda: False)
    assert shows_progress() is False
    monkeypatch.setattr("rich.console._is_jupyter", lambda: True)
    assert shows_progress() is True


def test_wrong_arguments_are_errors_that_say_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(mmtune.MmtuneError, match="no such file or folder"):
        mmtune.check(tmp_path / "nothing")
    with pytest.raises(mmtune.MmtuneError, match="resolution = 'big'"):
        mmtune.check(tmp_path, "image", resolution="big")
    with pytest.raises(mmtune.MmtuneError, match="resolution has no effect for speech"):
        mmtune.check(tmp_path, "speech", resolution=64)
    with pytest.raises(mmtune.MmtuneError, match="no such run"):
        mmtune.report([tmp_path / "nothing"])
    with pytest.raises(mmtune.MmtuneError, match="no such file"):
        mmtune.transcribe(tmp_path / "nothing.wav", base="starter:whisper-tiny.en")
    with pytest.raises(mmtune.MmtuneError, match="nothing to draw"):
        mmtune.generate([], base="starter:icons")
    with pytest.raises(mmtune.MmtuneError, match="no adapter is given"):
        mmtune.compose({}, out=tmp_path / "out")
    with pytest.raises(mmtune.MmtuneError, match="density"):
        mmtune.compose({"a": 1, "b": 1}, out=tmp_path / "out", density=0.3)


@pytest.mark.slow
def test_mypy_sees_the_lazy_names(tmp_path: Path) -> None:
    script = tmp_path / "notebook.py"
    script.write_text(
        "import mmtune\n"
        "run = mmtune.train('dialect', progress='yes')\n"  # line 2: a wrong type
        "reveal_type(run.comparison.headline)\n"
        "reveal_type(mmtune.check('calls').fingerprint)\n"
    )
    command = [sys.executable, "-m", "mypy", "--cache-dir", str(tmp_path / "cache"), str(script)]
    root = Path(__file__).parents[2]
    done = subprocess.run(command, capture_output=True, text=True, cwd=root, timeout=600)
    lines = [line for line in done.stdout.splitlines() if "notebook.py" in line]
    assert len(lines) == 3, done.stdout
    assert 'argument "progress"' in lines[0].lower()
    assert all('str"' in line for line in lines[1:])
